"""The outside, behind the protocols of `tintype.ports`: one folder for each system."""
