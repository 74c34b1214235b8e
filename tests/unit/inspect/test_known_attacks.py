"""Attacks on image services and on the tools behind them that have a number: each has a sample here, and is refused."""

from __future__ import annotations

from itertools import product

import pytest

from services.converter.plan import OUTPUT_FORMATS, SourceDisk, qemu_img_arguments
from tintype.disks.opening import known_readers
from tintype.domain.errors import RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.testing.hostile import HostileImage, hostile_images

ATTACKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CVE-2022-47951": ("UNSAFE_EXTENT", ("vmdk: absolute path", "vmdk: flat extent", "vmdk: descriptor only")),
    "CVE-2024-32498": ("UNSAFE_DATA_FILE", ("qcow2: data file bit", "qcow2: data file extension")),
    "CVE-2024-4467": ("UNSAFE_DATA_FILE", ("qcow2: data file that is a JSON description",)),
    "CVE-2024-40767": ("FORMAT_MISMATCH", ("raw that is qcow2", "raw that is vmdk", "raw that is vmdk descriptor")),
    # Whatever no inspector knows never comes to qemu-img, which would probe it; and it is not asked to.
    "CVE-2024-44082": ("FORMAT_MISMATCH", ("raw that is QED", "kernel that is qcow2")),
    "CVE-2024-47211": ("UNSAFE_BACKING_FILE", ("qcow2: backing file", "qcow2: backing file without a size")),
    "CVE-2026-24708": ("FORMAT_MISMATCH", ("raw that is qcow2", "qcow2 and vdi at once")),
}
"""What a sample of each is refused for, and the samples."""

SAMPLES = [(cve, name) for cve, (_, names) in ATTACKS.items() for name in names]


def inspect(image: HostileImage) -> None:
    inspector = image.inspector()
    inspector.feed(image.build())
    inspector.finish()


@pytest.mark.parametrize(("cve", "name"), SAMPLES)
def test_known_attack_is_refused(cve: str, name: str) -> None:
    image = hostile_images()[name]
    with pytest.raises(RefusedContentError) as refusal:
        inspect(image)
    assert refusal.value.reason == ATTACKS[cve][0]


@pytest.mark.parametrize(("source", "output"), list(product(sorted(known_readers()), sorted(OUTPUT_FORMATS))))
def test_qemu_img_never_probes(source: DiskFormat, output: DiskFormat) -> None:
    """CVE-2026-24708: without a format it believes the header that a guest has written to a raw disk."""
    *_, flag, options = qemu_img_arguments(SourceDisk(source), output, "/image")
    assert flag == "--image-opts"
    assert options.startswith("driver=")
    assert "file.driver=file" in options.split(",")
