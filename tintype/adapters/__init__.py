<<<<<<< HEAD
"""The ports on real systems: one folder per system."""
=======
"""The outside, behind the protocols of :mod:`tintype.ports`: one folder per system."""
>>>>>>> importer
