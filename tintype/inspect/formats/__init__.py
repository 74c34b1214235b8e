"""One module for each disk format, each with a ``FORMAT``; found by :mod:`tintype.inspect.registry`."""
