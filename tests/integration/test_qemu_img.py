"""Converting with the real qemu-img in the real jail, into a file that is there already."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from services.converter.plan import OUTPUT_FORMATS, SourceDisk
from services.converter.qemu_img import convert, qemu_img_version
from tintype.domain.errors import ConversionFailedError, StoreFullError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspection, Inspector
from tintype.runtime.jail import JailLimits, JailResult, Sandbox, detect_sandbox
from tintype.testing.images import SUBFORMATS, make_disk, make_image, run_qemu_img

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.sandbox,
]

DISK_SIZE = 8 << 20
LIMITS = JailLimits(wall_clock_s=120, cpu_s=60)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return detect_sandbox()  # where there is none the tests fail, and say why


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_disk(tmp_path_factory.mktemp("disk") / "disk.raw", size_bytes=DISK_SIZE)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """As a store's staging area has it: an empty file that only its owner may open, in such a directory."""
    directory = tmp_path / "staging"
    directory.mkdir(mode=0o700)
    path = directory / "output"
    path.touch(mode=0o600)
    return path


@pytest.mark.parametrize("output_format", sorted(OUTPUT_FORMATS))
@pytest.mark.parametrize("subformat", SUBFORMATS)
async def test_conversion_changes_nothing_of_the_disk(
    subformat: str, output_format: DiskFormat, disk: Path, output: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    source_format = SUBFORMATS[subformat][0]
    source = make_image(disk, subformat, tmp_path / "source")
    inode = output.stat().st_ino
    fractions: list[float] = []
    result = await convert(
        source, SourceDisk(source_format), output, output_format,
        virtual_size=DISK_SIZE, limits=LIMITS, sandbox=sandbox, on_progress=fractions.append,
    )  # fmt: skip
    assert output.stat().st_ino == inode
    assert sorted(fractions) == fractions
    assert fractions[-1] == 1.0
    assert result.arguments[0] == "convert"
    run_qemu_img("compare", "-f", "raw", "-F", str(output_format), str(disk), str(output))
    found = inspect(output)
    assert (found.disk_format, found.virtual_size) == (output_format, DISK_SIZE)
    assert [path.name for path in output.parent.iterdir()] == ["output"]


def inspect(path: Path) -> Inspection:
    inspector = Inspector(None)
    inspector.feed(path.read_bytes())
    return inspector.finish()


async def test_output_is_sparse(disk: Path, output: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    source = make_image(disk, "qcow2-v3", tmp_path / "source")
    await convert(
        source, SourceDisk(DiskFormat.QCOW2), output, DiskFormat.RAW,
        virtual_size=DISK_SIZE, limits=LIMITS, sandbox=sandbox, on_progress=lambda _: None,
    )  # fmt: skip
    assert output.stat().st_blocks * 512 < DISK_SIZE // 2


async def test_failure_is_told_without_paths(output: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"no qcow2 at all" * 1000)
    with pytest.raises(ConversionFailedError) as failure:
        await convert(
            source, SourceDisk(DiskFormat.QCOW2), output, DiskFormat.RAW,
            virtual_size=DISK_SIZE, limits=LIMITS, sandbox=sandbox, on_progress=lambda _: None,
        )  # fmt: skip
    assert "not in qcow2 format" in str(failure.value)
    assert str(tmp_path) not in str(failure.value)


async def test_backing_file_cannot_be_read_even_if_inspection_had_let_it_pass(
    disk: Path, output: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    run_qemu_img("create", "-f", "qcow2", "-b", str(disk), "-F", "raw", str(source))
    with pytest.raises(ConversionFailedError, match="No such file"):
        await convert(
            source, SourceDisk(DiskFormat.QCOW2), output, DiskFormat.RAW,
            virtual_size=DISK_SIZE, limits=LIMITS, sandbox=sandbox, on_progress=lambda _: None,
        )  # fmt: skip


async def test_output_cannot_outgrow_the_disk_that_was_announced(
    output: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    run_qemu_img("create", "-f", "qcow2", str(source), "1T")
    with pytest.raises(ConversionFailedError):
        await convert(
            source, SourceDisk(DiskFormat.QCOW2), output, DiskFormat.RAW,
            virtual_size=1 << 20, limits=LIMITS, sandbox=sandbox, on_progress=lambda _: None,
        )  # fmt: skip
    assert output.stat().st_size < 1 << 30


async def test_time_that_is_up_fails_the_conversion(disk: Path, output: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    source = make_image(disk, "qcow2-v3", tmp_path / "source")
    with pytest.raises(ConversionFailedError, match="time"):
        await convert(
            source, SourceDisk(DiskFormat.QCOW2), output, DiskFormat.RAW, version="7",
            virtual_size=DISK_SIZE, limits=replace(LIMITS, wall_clock_s=0), sandbox=sandbox, on_progress=lambda _: None,
        )  # fmt: skip


async def test_conversion_can_be_cancelled(disk: Path, output: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    source = make_image(disk, "qcow2-v3", tmp_path / "source")

    def cancel(_: float) -> None:
        conversion.cancel()

    conversion = asyncio.ensure_future(
        convert(
            source, SourceDisk(DiskFormat.QCOW2), output, DiskFormat.VMDK, version="7",
            virtual_size=DISK_SIZE, limits=LIMITS, sandbox=sandbox, on_progress=cancel,
        )
    )  # fmt: skip
    with pytest.raises(asyncio.CancelledError):
        await conversion


async def test_full_disk_is_no_fault_of_the_image(
    disk: Path, output: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> JailResult:
        return JailResult(1, "qemu-img: error while writing at byte 0: No space left on device\n", is_timed_out=False)

    monkeypatch.setattr("services.converter.qemu_img.run_jailed", full)
    with pytest.raises(StoreFullError):
        await convert(
            disk, SourceDisk(DiskFormat.RAW), output, DiskFormat.QCOW2, version="7",
            virtual_size=DISK_SIZE, limits=LIMITS, sandbox=sandbox, on_progress=lambda _: None,
        )  # fmt: skip


async def test_version_is_that_of_the_installed_tool(sandbox: Sandbox) -> None:
    version = await qemu_img_version(sandbox)
    assert version[0].isdigit()
