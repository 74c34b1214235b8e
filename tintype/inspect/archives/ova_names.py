"""Which files an OVA may begin with, by their names: so is it told from other tar archives."""

from __future__ import annotations

DESCRIPTOR_SUFFIX = ".ovf"
MANIFEST_SUFFIX = ".mf"
CERTIFICATE_SUFFIX = ".cert"

_SUFFIXES = (
    DESCRIPTOR_SUFFIX, MANIFEST_SUFFIX, CERTIFICATE_SUFFIX,
    ".vmdk", ".vhd", ".vhdx", ".vdi", ".qcow2", ".img", ".raw", ".iso", ".nvram",
)  # fmt: skip


def is_ova_member(name: str) -> bool:
    """Whether an archive that begins with this file is meant for an OVA, be it in the right order or not."""
    return name.lower().endswith(_SUFFIXES)
