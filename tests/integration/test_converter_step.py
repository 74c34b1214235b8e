"""The step CONVERT with a real store, the real qemu-img, and a log in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.converter import steps
from services.converter.converting import Converting
from services.converter.making import Made, Source, make_output
from services.converter.plan import Convert, Preference
from services.converter.qemu_img import qemu_img_version
from services.converter.steps import Converter
from tintype.adapters.filesystem.store import FileImageStore
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.store import MemoryImageStore
from tintype.adapters.stores import Stores
from tintype.disks.guest_digest import digest_of
from tintype.disks.opening import open_disk
from tintype.domain.commands import Command, CreateImage, RecordStaged, RecordVerified, RequestImport
from tintype.domain.events import (
    ConversionSkipped,
    EventContext,
    ImageConverted,
    ImageStepFailed,
    ImageVerified,
    ImportMethod,
    ImportPlugin,
    ImportSource,
    SandboxKind,
    SandboxProfile,
    SkipReason,
    StagePurpose,
    Step,
    Verdict,
    Verification,
)
from tintype.domain.values import Blob, BlobRef, CommandId, DiskFormat, Fact, GuestDigest
from tintype.inspect import Inspector
from tintype.ports.image_store import ImageStore
from tintype.runtime.jail import JailLimits, Sandbox, detect_sandbox
from tintype.runtime.journal import Journal
from tintype.runtime.worker import StepRun, Worker, WorkerSettings
from tintype.testing.clock import FakeClock
from tintype.testing.events import ATTRIBUTES, OPERATION, PROJECT, an_image_id
from tintype.testing.handmade_iso import iso
from tintype.testing.images import make_disk, make_image

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.sandbox,
]

IMAGE = an_image_id()
STAGED_KEY = f"{IMAGE}/{OPERATION}/staged"
DISK_BYTES = 8 * 1024 * 1024
DEADLINE_S = 60
LIMITS = JailLimits(wall_clock_s=60, cpu_s=60)
Outcome = ImageConverted | ConversionSkipped | ImageStepFailed


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """The real one."""
    return detect_sandbox()  # where there is none the tests fail, and say why


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every image here holds."""
    return make_disk(tmp_path_factory.mktemp("disk") / "disk.raw", size_bytes=DISK_BYTES)


@pytest.fixture(params=["file", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ImageStore]:
    """A store that has files of its own, and one that has none."""
    if request.param == "memory":
        yield MemoryImageStore("main", clock=FakeClock())
        return
    files = FileImageStore("main", tmp_path / "store")
    await files.prepare()
    yield files
    await files.aclose()


def guest_digest_of(raw: Path) -> GuestDigest:
    """What every image of the disk in a raw file must have."""
    with open_disk(raw, DiskFormat.RAW) as opened:
        return digest_of(opened)


class Bench:
    """A log with one verified image, and a worker that converts."""

    def __init__(self, store: ImageStore, sandbox: Sandbox, scratch: Path) -> None:
        self.store, self.sandbox, self.scratch = store, sandbox, scratch
        self.log = MemoryEventLog()
        self.journal = Journal(self.log, FakeClock())

    async def stage(self, path: Path, disk_format: DiskFormat, extra_digests: dict[str, str] | None = None) -> Blob:
        """Put a file into the store, as the importer does."""
        content = path.read_bytes()
        writer = await self.store.open_write(STAGED_KEY)
        await writer.append(content)
        await writer.commit(size=len(content), digests={})
        inspector = Inspector(disk_format)
        inspector.feed(content)
        found = inspector.finish()
        digests = {"sha256": hashlib.sha256(content).hexdigest(), **(extra_digests or {})}
        ref = BlobRef(self.store.name, STAGED_KEY)
        return Blob(ref, len(content), digests, found.disk_format, found.virtual_size, found.facts)

    async def convert(
        self,
        blob: Blob,
        preferred: DiskFormat | None = DiskFormat.RAW,
        *,
        purpose: StagePurpose = StagePurpose.IMPORT,
        limits: JailLimits = LIMITS,
        switched_off: tuple[ImportPlugin, ...] = (),
    ) -> Outcome:
        """How the step ends."""
        await self.prepare(blob, purpose, switched_off)
        version = await qemu_img_version(self.sandbox)
        converting = Converting(Preference(preferred), limits, self.scratch, self.sandbox, version)
        worker = Worker(
            name="converter",
            event_log=self.log,
            clock=FakeClock(),
            steps={Step.CONVERT: Converter(Stores(self.store, {"main": self.store}), converting).convert_image},
            types=(ImageVerified,),
            settings=WorkerSettings(),
        )
        running = asyncio.create_task(worker.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                async for event in self.log.follow(after=0):
                    if isinstance(event.payload, Outcome):
                        return event.payload
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        raise AssertionError("the log never ends")

    async def keys(self) -> list[str]:
        """All that the store has of the image, committed or not."""
        return sorted([stored.key async for stored in self.store.list(IMAGE)])

    async def content(self, key: str) -> bytes:
        """Committed bytes."""
        return b"".join([piece async for piece in self.store.read(key)])

    async def prepare(self, blob: Blob, purpose: StagePurpose, switched_off: tuple[ImportPlugin, ...] = ()) -> None:
        """Write the image's history up to where the step begins."""
        attributes = replace(ATTRIBUTES, disk_format=blob.disk_format, properties={})
        source = ImportSource(ImportMethod.WEB_DOWNLOAD, "https://example.org/disk")
        request = [RequestImport(OPERATION, source)] if purpose is StagePurpose.IMPORT else []
        commands: tuple[Command, ...] = (
            CreateImage(attributes),
            *request,
            RecordStaged(OPERATION, purpose, blob, switched_off=switched_off),
            RecordVerified(OPERATION, Verification(Verdict.UNSIGNED)),
        )
        for number, command in enumerate(commands):
            await self.journal.execute(
                IMAGE,
                command,
                project=PROJECT,
                command_id=CommandId(str(number)),
                context=EventContext("ann", "request", "request"),
            )


@pytest.fixture
def bench(store: ImageStore, sandbox: Sandbox, tmp_path: Path) -> Bench:
    """One for each test."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Bench(store, sandbox, scratch)


async def test_disk_is_converted_to_the_preferred_format(bench: Bench, disk: Path, tmp_path: Path) -> None:
    blob = await bench.stage(make_image(disk, "qcow2-zlib", tmp_path / "image"), DiskFormat.QCOW2)
    outcome = await bench.convert(blob)
    assert isinstance(outcome, ImageConverted)
    assert outcome.blob.ref.key.startswith(f"{IMAGE}/{OPERATION}/output-")
    content = await bench.content(outcome.blob.ref.key)
    assert content == disk.read_bytes()
    assert outcome.blob.size == outcome.blob.virtual_size == DISK_BYTES
    assert outcome.blob.digests == {"sha256": hashlib.sha256(content).hexdigest()}
    assert (outcome.tool, outcome.arguments) == ("tintype", ("write-raw", "qcow2"))
    assert outcome.sandbox == SandboxProfile(SandboxKind.IN_PROCESS)
    assert outcome.source_guest_digest == outcome.blob.guest_digest == guest_digest_of(disk)
    assert list(bench.scratch.iterdir()) == []


async def test_output_is_inspected_in_its_own_format(bench: Bench, disk: Path) -> None:
    outcome = await bench.convert(await bench.stage(disk, DiskFormat.RAW), DiskFormat.QCOW2)
    assert isinstance(outcome, ImageConverted)
    assert (outcome.blob.disk_format, outcome.blob.virtual_size) == (DiskFormat.QCOW2, DISK_BYTES)
    assert outcome.blob.facts["qcow2_version"].value == 3
    assert (outcome.tool, outcome.arguments[0]) == ("qemu-img", "convert")
    assert outcome.sandbox is not None and outcome.sandbox.kind is SandboxKind.BUBBLEWRAP
    assert outcome.sandbox.limits["cpu_s"] == LIMITS.cpu_s
    # What the tool could write at most, and not what the site allows.
    assert DISK_BYTES < outcome.sandbox.limits["file_size_bytes"] < LIMITS.file_size_bytes
    assert outcome.source_guest_digest == outcome.blob.guest_digest == guest_digest_of(disk)


async def test_nothing_is_told_of_the_output_where_introspection_is_switched_off(bench: Bench, disk: Path) -> None:
    blob = replace(await bench.stage(disk, DiskFormat.RAW), facts={})
    outcome = await bench.convert(blob, DiskFormat.QCOW2, switched_off=(ImportPlugin.INTROSPECTION,))
    assert isinstance(outcome, ImageConverted)
    assert dict(outcome.blob.facts) == {}
    assert outcome.blob.guest_digest == guest_digest_of(disk)


async def test_digest_is_of_the_sites_algorithm_not_of_the_expected_digests(
    bench: Bench, disk: Path, tmp_path: Path
) -> None:
    image = make_image(disk, "qcow2-v3", tmp_path / "image")
    blob = await bench.stage(image, DiskFormat.QCOW2, {"md5": "00" * 16})
    outcome = await bench.convert(blob)
    assert isinstance(outcome, ImageConverted)
    assert set(outcome.blob.digests) == {"sha256"}


@pytest.mark.parametrize(
    ("preferred", "purpose", "why"),
    [
        (DiskFormat.RAW, StagePurpose.IMPORT, SkipReason.ALREADY_PREFERRED),
        (None, StagePurpose.IMPORT, SkipReason.DISABLED),
        (DiskFormat.QCOW2, StagePurpose.UPLOAD, SkipReason.NOT_AN_IMPORT),
    ],
)
async def test_conversion_is_skipped_with_a_reason(
    bench: Bench, disk: Path, preferred: DiskFormat | None, purpose: StagePurpose, why: SkipReason
) -> None:
    outcome = await bench.convert(await bench.stage(disk, DiskFormat.RAW), preferred, purpose=purpose)
    assert isinstance(outcome, ConversionSkipped)
    assert outcome.why is why
    assert outcome.guest_digest == guest_digest_of(disk)
    assert outcome.facts["partition_table"].value == "none"
    assert await bench.keys() == [STAGED_KEY]


async def test_what_is_on_an_iso_is_told_though_it_is_no_disk_to_convert(bench: Bench, tmp_path: Path) -> None:
    image = tmp_path / "image.iso"
    image.write_bytes(iso(is_hybrid=True))

    outcome = await bench.convert(await bench.stage(image, DiskFormat.ISO))

    assert isinstance(outcome, ConversionSkipped)
    assert (outcome.why, outcome.guest_digest) == (SkipReason.NOT_A_DISK, None)
    assert outcome.facts["file_system"].value == "iso9660"
    assert "hw_firmware_type" not in outcome.facts  # the boot catalog tells


async def test_failed_conversion_leaves_nothing_but_what_was_staged(bench: Bench, disk: Path, tmp_path: Path) -> None:
    image = make_image(disk, "qcow2-v3", tmp_path / "image")
    blob = await bench.stage(image, DiskFormat.QCOW2)
    damaged = replace(blob, disk_format=DiskFormat.VMDK)  # the reader is told a format that the bytes do not have
    outcome = await bench.convert(damaged)
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == "UNSAFE_EXTENT"
    assert await bench.keys() == [STAGED_KEY]
    assert list(bench.scratch.iterdir()) == []


def one_flipped_byte(made: Callable[..., Awaitable[Made]]) -> Callable[..., Awaitable[Made]]:
    """The same, but for one byte in the middle of its output."""

    async def erring(plan: Convert, source: Source, output: Path, *rest: Any) -> Made:
        result = await made(plan, source, output, *rest)
        with output.open("r+b") as file:
            file.seek(DISK_BYTES // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        return result

    return erring


async def test_tool_that_changes_the_disk_fails_the_import_and_leaves_nothing(
    bench: Bench, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "make_output", one_flipped_byte(make_output))
    blob = await bench.stage(make_image(disk, "qcow2-v3", tmp_path / "image"), DiskFormat.QCOW2)
    outcome = await bench.convert(blob)
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == "CONVERSION_CHANGED_DISK"
    assert str(guest_digest_of(disk)) in outcome.failure.message
    assert await bench.keys() == [STAGED_KEY]
    assert list(bench.scratch.iterdir()) == []


async def test_reader_that_errs_is_found_out_by_the_digest_that_was_taken_of_the_source(
    bench: Bench, disk: Path
) -> None:
    """qemu-img reads what was staged, and another disk is what the log says of it."""
    blob = await bench.stage(disk, DiskFormat.RAW)
    other = make_disk(bench.scratch / "other", size_bytes=DISK_BYTES, seed=1)
    staged = replace(blob, guest_digest=guest_digest_of(other))
    other.unlink()
    outcome = await bench.convert(staged, DiskFormat.QCOW2)
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == "CONVERSION_CHANGED_DISK"
    assert await bench.keys() == [STAGED_KEY]
    assert list(bench.scratch.iterdir()) == []


async def test_enormous_disk_of_zeros_does_not_keep_its_place(bench: Bench, tmp_path: Path) -> None:
    if isinstance(bench.store, MemoryImageStore):
        pytest.skip("the output would have to fit into memory")
    path = tmp_path / "zeros.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "4T"], check=True)
    outcome = await bench.convert(
        await bench.stage(path, DiskFormat.QCOW2), limits=JailLimits(wall_clock_s=3, file_size_bytes=16 * 1024**4)
    )
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == "CONVERSION_FAILED"
    assert await bench.keys() == [STAGED_KEY]


async def test_staged_bytes_of_another_size_are_not_converted(bench: Bench, disk: Path, tmp_path: Path) -> None:
    blob = await bench.stage(make_image(disk, "qcow2-v3", tmp_path / "image"), DiskFormat.QCOW2)
    outcome = await bench.convert(replace(blob, size=blob.size + 1))
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == "BLOB_DAMAGED"


@pytest.mark.parametrize("preferred", [DiskFormat.RAW, DiskFormat.VMDK])
async def test_staged_bytes_that_were_changed_are_not_converted(
    bench: Bench, disk: Path, tmp_path: Path, preferred: DiskFormat
) -> None:
    """A disk that nobody has signed would be attested as the one in the bytes that were verified."""
    genuine = make_image(disk, "qcow2-v3", tmp_path / "genuine")
    with genuine.open("ab") as file:  # what stands behind the last cluster means nothing
        file.write(bytes(65536))
    forged = tmp_path / "forged"
    with disk.open("rb") as file:
        content = bytearray(file.read())
    content[DISK_BYTES // 2] ^= 1
    (tmp_path / "disk.raw").write_bytes(content)
    make_image(tmp_path / "disk.raw", "qcow2-v3", forged)
    os.truncate(forged, genuine.stat().st_size)
    signed = {"sha256": hashlib.sha256(genuine.read_bytes()).hexdigest()}

    outcome = await bench.convert(replace(await bench.stage(forged, DiskFormat.QCOW2), digests=signed), preferred)

    assert isinstance(outcome, ImageStepFailed), outcome
    assert outcome.failure.reason == "BLOB_DAMAGED"
    assert await bench.keys() == [STAGED_KEY]
    assert list(bench.scratch.iterdir()) == []


async def test_no_digest_is_told_of_the_disk_in_staged_bytes_that_were_changed(bench: Bench, disk: Path) -> None:
    blob = await bench.stage(disk, DiskFormat.RAW)
    outcome = await bench.convert(replace(blob, digests={"sha256": "ab" * 32}))
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == "BLOB_DAMAGED"


async def test_encrypted_disk_is_refused(bench: Bench, disk: Path, tmp_path: Path) -> None:
    blob = await bench.stage(make_image(disk, "qcow2-v3", tmp_path / "image"), DiskFormat.QCOW2)
    outcome = await bench.convert(replace(blob, facts={"encryption": Fact("luks")}))
    assert isinstance(outcome, ImageStepFailed)
    assert outcome.failure.reason == "ENCRYPTED_IMAGE"


async def test_what_a_killed_attempt_left_unfinished_is_removed(bench: Bench, disk: Path, tmp_path: Path) -> None:
    blob = await bench.stage(make_image(disk, "qcow2-v3", tmp_path / "image"), DiskFormat.QCOW2)
    abandoned = await bench.store.open_write(f"{IMAGE}/{OPERATION}/output-dead")
    await abandoned.append(b"half")
    await abandoned.close()
    outcome = await bench.convert(blob)
    assert isinstance(outcome, ImageConverted)
    assert await bench.keys() == sorted([STAGED_KEY, outcome.blob.ref.key])


async def test_progress_is_told_of_both_writing_and_reading(bench: Bench, disk: Path, tmp_path: Path) -> None:
    blob = await bench.stage(make_image(disk, "qcow2-v3", tmp_path / "image"), DiskFormat.QCOW2)
    await bench.prepare(blob, StagePurpose.IMPORT)
    image = await bench.journal.load(IMAGE)
    assert image is not None
    told: list[tuple[int, int | None]] = []
    run = StepRun(image, Step.CONVERT, 1, "nonce", lambda done, total, waiting_for: told.append((done, total)))
    converting = Converting(Preference(DiskFormat.RAW), LIMITS, bench.scratch, bench.sandbox, "7.2")
    await Converter(Stores(bench.store, {"main": bench.store}), converting).convert_image(image, run)
    assert told[-1] == (2 * DISK_BYTES, 2 * DISK_BYTES)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    await run.discard()
    assert await bench.keys() == [STAGED_KEY]
