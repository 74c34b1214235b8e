"""A directory as a store of bytes."""
