"""Mounts are made where nobody else sees them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def mounts_are_private(private_mounts: None) -> None:
    """For every test here."""
