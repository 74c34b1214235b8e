"""The step CONVERT: from the staged, verified bytes to the preferred format, in the store that has the staged ones.

The output is written under a name of this attempt, ``output-<nonce>``, and belongs to nobody until it is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.converter.examining import Examined, examine
from services.converter.files import append_file, copy_of, new_file
from services.converter.plan import Convert, Skip, plan_conversion
from services.converter.qemu_img import ConversionResult, convert
from tintype.adapters.stores import Stores
from tintype.domain.blob_keys import BlobKey
from tintype.domain.commands import RecordConversionSkipped, RecordConverted
from tintype.domain.errors import BlobDamagedError, ConversionFailedError, InternalError
from tintype.domain.image import Image, Operation, OperationKind
from tintype.domain.values import Blob, BlobRef, DiskFormat
from tintype.inspect import encryption_of
from tintype.ports.image_store import BlobWriter, ImageStore
from tintype.runtime.jail import JailLimits, Sandbox
from tintype.runtime.worker import StepRun

log = structlog.get_logger(__name__)

OUTPUT_PREFIX = "output-"
_STRONGEST_FIRST = ("sha512", "sha384", "sha256", "sha224")


@dataclass(frozen=True, slots=True)
class Converting:
    """How conversions are done here. ``sandbox`` and ``qemu_version`` are ``None`` where none are."""

    preferred: DiskFormat | None
    limits: JailLimits
    scratch_dir: Path
    sandbox: Sandbox | None
    qemu_version: str | None


class Converter:
    """Does the step CONVERT."""

    def __init__(self, stores: Stores, converting: Converting) -> None:
        self._stores = stores
        self._converting = converting

    async def convert_image(self, image: Image, run: StepRun) -> RecordConverted | RecordConversionSkipped:
        """Convert the staged bytes, or say why not.

        Raises:
            EncryptedImageError, ConversionFailedError: the disk cannot be converted, or not in the time allowed.
            BlobDamagedError: the staged bytes are not what was staged.
            StoreFullError: there is no room for the output.
            StoreUnavailableError: the store does not answer.
        """
        operation, staged = _staged(image)
        plan = plan_conversion(
            staged.disk_format,
            self._converting.preferred,
            is_import=operation.kind is OperationKind.IMPORT,
            encryption=encryption_of(staged.facts),
        )
        if isinstance(plan, Skip):
            return RecordConversionSkipped(operation.id, plan.why)
        store = self._stores.named(staged.ref.store)
        await _remove_abandoned(store, image, operation)
        key = str(BlobKey(image.id, operation.id, f"{OUTPUT_PREFIX}{run.nonce}"))
        run.on_discard(lambda: store.delete(key))
        writer = await store.open_write(key)
        try:
            result, blob = await self._convert(plan, store, staged, writer, run)
            await writer.commit(size=blob.size, digests=blob.digests)
        except BaseException:
            await writer.abort()
            raise
        log.info(
            "image was converted",
            image_id=image.id,
            operation_id=operation.id,
            source_format=plan.source_format,
            output_format=plan.output_format,
            size_bytes=blob.size,
        )
        return RecordConverted(operation.id, blob, result.tool, result.version, result.arguments)

    async def _convert(
        self, plan: Convert, store: ImageStore, staged: Blob, writer: BlobWriter, run: StepRun
    ) -> tuple[ConversionResult, Blob]:
        disk_bytes = staged.size if staged.virtual_size is None else staged.virtual_size
        algorithm = _site_algorithm(run.image, staged)
        async with self._source(store, staged) as source, self._output(writer) as output:
            # The step's work is the disk twice: written, then read.
            result = await self._run_qemu_img(
                plan, source, output, disk_bytes, lambda part: run.tell_progress(int(part * disk_bytes), 2 * disk_bytes)
            )
            examined = await self._examine(
                output,
                plan.output_format,
                algorithm,
                lambda done, total: run.tell_progress(disk_bytes + disk_bytes * done // total, 2 * disk_bytes),
            )
            if writer.local_path is None:
                await append_file(writer, output)
        return result, Blob(
            BlobRef(store.name, writer.key),
            examined.size,
            {algorithm: examined.digest_hex},
            plan.output_format,
            examined.inspection.virtual_size,
            examined.inspection.facts,
        )

    async def _run_qemu_img(
        self, plan: Convert, source: Path, output: Path, disk_bytes: int, on_progress: Callable[[float], None]
    ) -> ConversionResult:
        if self._converting.sandbox is None:
            raise InternalError("a conversion was planned, and the converter has no sandbox to do it in")
        return await convert(
            source,
            plan.source_format,
            output,
            plan.output_format,
            virtual_size=disk_bytes,
            limits=self._converting.limits,
            sandbox=self._converting.sandbox,
            on_progress=on_progress,
            version=self._converting.qemu_version,
        )

    async def _examine(
        self, output: Path, disk_format: DiskFormat, algorithm: str, on_progress: Callable[[int, int], None]
    ) -> Examined:
        # A small file may stand for an enormous disk of zeros: qemu-img is done with it at once, and the hash is not.
        try:
            async with asyncio.timeout(self._converting.limits.wall_clock_s):
                return await examine(output, disk_format, algorithm, on_progress)
        except TimeoutError:
            raise ConversionFailedError("the converted disk is too large to be read in the time allowed") from None

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
