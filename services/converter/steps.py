"""The step CONVERT: from the staged, verified bytes to the preferred format, in the store that has the staged ones.

The output is written under a name of this attempt, ``output-<nonce>``, and belongs to nobody until it is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from services.converter.converting import Converting
from services.converter.examining import examine, guest_digest, require_staged
from services.converter.files import append_file, copy_of, new_file
from services.converter.making import Made, Source, make_output, surviving_facts
from services.converter.plan import Convert, Skip, SourceDisk, plan_conversion, readable_disk
from services.converter.watched import both
from tintype.adapters.stores import Stores
from tintype.disks.contents_jail import BARE_CONTENTS, examine_contents
from tintype.domain.blob_keys import BlobKey
from tintype.domain.commands import RecordConversionSkipped, RecordConverted
from tintype.domain.errors import (
    BlobDamagedError,
    ConversionChangedDiskError,
    ConversionFailedError,
    InternalError,
)
from tintype.domain.events import ImportPlugin
from tintype.domain.image import Image, Operation, OperationKind
from tintype.domain.values import Blob, BlobRef, ContainerFormat, Fact, GuestDigest
from tintype.inspect import encryption_of
from tintype.inspect.fact_bounds import bounded
from tintype.ports.image_store import BlobWriter, ImageStore
from tintype.runtime.metrics import BYTES
from tintype.runtime.worker import StepRun

log = structlog.get_logger(__name__)

_CONVERTED = BYTES.labels("conversion")

OUTPUT_PREFIX = "output-"
_STRONGEST_FIRST = ("sha512", "sha384", "sha256", "sha224")


class Converter:
    """Does the step CONVERT."""

    def __init__(self, stores: Stores, converting: Converting) -> None:
        self._stores = stores
        self._converting = converting

    async def convert_image(self, image: Image, run: StepRun) -> RecordConverted | RecordConversionSkipped:
        """Convert the staged bytes, or say why not; and read the guest's disk in either case.

        Raises:
            EncryptedImageError, ConversionFailedError: the disk cannot be converted, or not in the time allowed.
            ConversionChangedDiskError: the output is not the same disk.
            RefusedContentError: the disk cannot be read as its tables say.
            BlobDamagedError: the staged bytes are not what was staged.
            StoreFullError: there is no room for the output.
            StoreUnavailableError: the store does not answer.
        """
        operation, staged = _staged(image)
        plan = self._plan(image, operation, staged)
        disk = None if _is_compressed(image) else readable_disk(staged)
        seen = disk or _bare_contents(image, staged)
        if isinstance(plan, Skip) and seen is None:
            return RecordConversionSkipped(operation.id, plan.why)
        store = self._stores.named(staged.ref.store)
        async with self._source(store, staged) as path:
            source = Source(path, staged, disk)
            facts = await self._contents(operation, path, seen)
            if isinstance(plan, Skip):
                digest = await self._digest_of_skipped(source, run)
                return RecordConversionSkipped(operation.id, plan.why, facts, digest)
            # What was verified is a digest that was taken while the bytes came. What is made of the bytes that lie here
            # now is attested as made of those, so these have to be those.
            converting = self._converted(image, operation, run, plan, store, source, facts)
            command, _ = await both(converting, require_staged(path, staged))
            return command

    def _plan(self, image: Image, operation: Operation, staged: Blob) -> Convert | Skip:
        return plan_conversion(
            staged.disk_format,
            self._converting.preference,
            is_import=operation.kind is OperationKind.IMPORT,
            encryption=encryption_of(staged.facts),
            is_off=ImportPlugin.CONVERSION in operation.switched_off,
            is_compressed=_is_compressed(image),
        )

    async def _contents(self, operation: Operation, path: Path, disk: SourceDisk | None) -> Mapping[str, Fact]:
        """What can be read of the guest's disk in a file."""
        if disk is None or not _is_introspected(operation):
            return {}
        return await examine_contents(
            path, disk.disk_format, sandbox=self._converting.sandbox, offset=disk.offset, length=disk.length
        )

    async def _digest_of_skipped(self, source: Source, run: StepRun) -> GuestDigest | None:
        if source.staged.guest_digest or source.disk is None:
            return source.staged.guest_digest
        total = source.disk_bytes
        async with self._deadline("the disk is too large to be read in the time allowed"):
            digest, _ = await both(
                guest_digest(source.path, source.disk, lambda done: run.tell_progress(done, total)),
                require_staged(source.path, source.staged),
            )
            return digest

    async def _converted(
        self,
        image: Image,
        operation: Operation,
        run: StepRun,
        plan: Convert,
        store: ImageStore,
        source: Source,
        facts: Mapping[str, Fact],
    ) -> RecordConverted:
        await _remove_abandoned(store, image, operation)
        key = str(BlobKey(image.id, operation.id, f"{OUTPUT_PREFIX}{run.nonce}"))
        run.on_discard(lambda: store.delete(key))
        writer = await store.open_write(key)
        try:
            made, blob = await self._make(plan, source, store, writer, operation, run)
            if made.source_digest and made.source_digest != blob.guest_digest:
                raise ConversionChangedDiskError(
                    f"the disk was {made.source_digest} before the conversion, and is {blob.guest_digest} now"
                )
            await writer.commit(size=blob.size, digests=blob.digests)
        except BaseException:
            await writer.abort()
            raise
        _CONVERTED.inc(source.staged.size)
        log.info(
            "image was converted",
            image_id=image.id,
            operation_id=operation.id,
            source_format=plan.source_format,
            output_format=plan.output_format,
            tool=made.tool,
            size_bytes=blob.size,
        )
        blob = replace(blob, facts=bounded({**surviving_facts(source.staged.facts), **blob.facts, **facts}))
        return RecordConverted(
            operation.id, blob, made.tool, made.version, made.arguments, made.source_digest, made.sandbox
        )

    async def _make(
        self,
        plan: Convert,
        source: Source,
        store: ImageStore,
        writer: BlobWriter,
        operation: Operation,
        run: StepRun,
    ) -> tuple[Made, Blob]:
        algorithm = _site_algorithm(run.image, source.staged)
        disk_bytes = source.disk_bytes
        async with self._output(writer) as output:
            # The step's work is the disk twice: written, then read.
            async with self._deadline("the disk cannot be converted in the time allowed"):
                made = await make_output(
                    plan, source, output, self._converting, lambda done: run.tell_progress(done, 2 * disk_bytes)
                )
            # A small file may stand for an enormous disk of zeros: the tool is done with it at once, the hash is not.
            async with self._deadline("the converted disk is too large to be read in the time allowed"):
                examined = await examine(
                    output,
                    plan.output_format,
                    algorithm,
                    lambda done, total: run.tell_progress(disk_bytes + disk_bytes * done // total, 2 * disk_bytes),
                )
            # Where there was no disk before, such as in a container archive, its contents can be read only now.
            made_disk = SourceDisk(plan.output_format) if source.disk is None else None
            contents = await self._contents(operation, output, made_disk)
            if writer.local_path is None:
                await append_file(writer, output)
        return made, Blob(
            BlobRef(store.name, writer.key),
            examined.size,
            {algorithm: examined.digest_hex},
            plan.output_format,
            examined.inspection.virtual_size,
            {**examined.inspection.facts, **contents} if _is_introspected(operation) else {},
            examined.guest_digest,
        )

    @asynccontextmanager
    async def _deadline(self, complaint: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._converting.limits.wall_clock_s):
                yield
        except TimeoutError:
            raise ConversionFailedError(complaint) from None

    @asynccontextmanager
    async def _source(self, store: ImageStore, staged: Blob) -> AsyncIterator[Path]:
        """A file with the staged bytes: the store's own, or a copy where it has none."""
        stored = await store.stat(staged.ref.key)
        if stored.size != staged.size or not stored.is_committed:
            raise BlobDamagedError(f"{staged.size} bytes were staged, and store {store.name!r} has {stored.size}")
        path = store.local_path(staged.ref.key)
        if path is not None:
            yield path
        else:
            async with copy_of(store.read(staged.ref.key), self._converting.scratch_dir) as copy:
                yield copy

    @asynccontextmanager
    async def _output(self, writer: BlobWriter) -> AsyncIterator[Path]:
        """The file that qemu-img writes: the store's own, or one that is appended to the store afterwards."""
        if writer.local_path is not None:
            yield writer.local_path
        else:
            async with new_file(self._converting.scratch_dir) as path:
                yield path


def _is_introspected(operation: Operation) -> bool:
    return ImportPlugin.INTROSPECTION not in operation.switched_off


def _bare_contents(image: Image, staged: Blob) -> SourceDisk | None:
    """What may be looked into though it is no disk that is converted or digested: a file system by itself."""
    is_bare = staged.disk_format in BARE_CONTENTS and not _is_compressed(image)
    return SourceDisk(staged.disk_format) if is_bare else None


def _is_compressed(image: Image) -> bool:
    return image.attributes.container_format is ContainerFormat.COMPRESSED


def _staged(image: Image) -> tuple[Operation, Blob]:
    operation = image.operation
    if operation is None or operation.staged is None:
        raise InternalError(f"image {image.id} has nothing staged to convert")
    return operation, operation.staged


def _site_algorithm(image: Image, staged: Blob) -> str:
    """The algorithm for the output: the one that the site takes of every image.

    Others were taken of the source only because its signature or its expected digest asked for them.
    """
    source = image.operation.source if image.operation else None
    asked_for = {image.attributes.signature_digest_algorithm()}
    if source and source.expected_digest:
        asked_for.add(source.expected_digest.algorithm)
    known = [algorithm for algorithm in _STRONGEST_FIRST if algorithm in staged.digests]
    return next((algorithm for algorithm in known if algorithm not in asked_for), (known or _STRONGEST_FIRST)[0])


async def _remove_abandoned(store: ImageStore, image: Image, operation: Operation) -> None:
    """Remove what earlier attempts left unfinished; a writer that still lives will fail to commit.

    Committed output stays: the worker that committed it may be about to record it. Whatever is not recorded when the
    operation ends is removed with the other temporary bytes.
    """
    prefix = f"{image.id}/{operation.id}/{OUTPUT_PREFIX}"
    async for stored in store.list(image.id):
        if stored.key.startswith(prefix) and not stored.is_committed:
            await store.delete(stored.key)
            log.info("abandoned output was removed", image_id=image.id, key=stored.key, size_bytes=stored.size)
