"""The outside, behind the protocols of :mod:`tintype.ports`: one folder per system."""
