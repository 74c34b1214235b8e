"""What stands in an ISO 9660 image: volume descriptors, boot entries, Rock Ridge."""

from __future__ import annotations
