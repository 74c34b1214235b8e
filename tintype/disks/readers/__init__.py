"""One module for each format that holds a disk; :mod:`tintype.disks.opening` finds them."""

from __future__ import annotations
