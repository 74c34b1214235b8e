"""What the default registry has counted, so that a test can compare before with after."""

from __future__ import annotations

from prometheus_client import REGISTRY


def sample(name: str, **labels: str) -> float:
    """The value of one series; 0 where there is none."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def grown(name: str, before: float, **labels: str) -> float:
    """By how much a series has grown."""
    return sample(name, **labels) - before
