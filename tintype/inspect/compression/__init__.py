"""Compressed files: which kind they are, and what is in them, within bounds."""

from __future__ import annotations
