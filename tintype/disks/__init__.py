"""The guest's disk inside an image: reading it, whatever the format, and proving that it is the same disk."""

from __future__ import annotations
