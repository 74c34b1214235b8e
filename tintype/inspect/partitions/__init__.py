"""Partition tables: MBR and GPT."""

from __future__ import annotations
