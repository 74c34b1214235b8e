"""Archives: tar, OVF and container images, read as their bytes pass by."""

from __future__ import annotations
