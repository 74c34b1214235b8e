"""What `make fuzz` fuzzes: nothing that reads hostile bytes is forgotten, and every seed keeps the invariant."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import targets
from tintype.disks.opening import known_readers
from tintype.domain.values import DiskFormat
from tintype.inspect.compression.kinds import DECOMPRESSIBLE
from tintype.inspect.registry import known_formats
from tintype.testing.mutable_disks import mutable_disks

TARGETS = targets()


def test_every_format_every_reader_and_every_decompressor_is_fuzzed() -> None:
    assert {f"inspect-{disk_format}" for disk_format in known_formats()} <= TARGETS.keys()
    assert {f"decompress-{kind}" for kind in DECOMPRESSIBLE} <= TARGETS.keys()
    # The bytes of a raw disk are not read as anything.
    read = {sound.disk_format for name, sound in mutable_disks().items() if f"read-{name}" in TARGETS}
    assert read == known_readers().keys() - {DiskFormat.RAW}
    assert {"disk-contents", "os-release", "container-layers"} <= TARGETS.keys()
    assert {"provenance-bundle", "attestation-envelope", "attestation-statement"} <= TARGETS.keys()
    assert {"certificate", "pem", "revocation-list", "signature-properties"} <= TARGETS.keys()
    assert {"log-backup", "log-backup-records"} <= TARGETS.keys()


@pytest.mark.parametrize("name", [name for name in TARGETS if not name.startswith("inspect-")])
def test_seeds_keep_the_invariant(name: str) -> None:
    seeds = list(TARGETS[name].seeds())
    assert seeds
    for seed in seeds:
        TARGETS[name].run(seed)
