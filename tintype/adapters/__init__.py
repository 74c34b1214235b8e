"""The ports on real systems: one folder per system."""
