"""The layers of a container archive at rest: where each lies in the file, in the order in which they are unpacked.

The archive must have been inspected before (:mod:`tintype.inspect.formats.docker`): what a layer's names and links may
be was checked then, and is not checked here again. That each layer is the one that was checked, its digest tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tintype.disks.byte_file import ByteFile
from tintype.domain.errors import ArchiveContentError, ManifestMismatchError, UnsupportedImageError
from tintype.inspect.archives.container_image import ContainerImage, Contents, image_in
from tintype.inspect.archives.json_document import MAX_DOCUMENT_SIZE
from tintype.inspect.archives.layer_decompression import Compression, Growth, decompression, layer_compression_of
from tintype.inspect.archives.tar import BLOCK_SIZE, MemberKind, header_at, is_tar
from tintype.inspect.archives.tar_archive import Member, resolve
from tintype.inspect.formats.docker import MAX_LAYERS_SIZE, MAX_MEMBERS

_CHUNK_SIZE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a container image: where its bytes are in the archive, and how they are compressed.

    ``digest`` is ``sha256:…`` of the tar that they are when uncompressed (the layer's diff id).
    """

    offset: int
    size: int
    compression: Compression
    digest: str


@dataclass(frozen=True, slots=True)
class Container:
    """A container image at rest: what its documents say, and its layers, the lowest first."""

    image: ContainerImage
    layers: tuple[Layer, ...]


def layers_of(path: Path) -> list[Layer]:
    """The layers of an archive, the lowest first. Blocks.

    Raises:
        RefusedContentError: it is no container archive of one image.
        StoreUnavailableError: the file cannot be read.
    """
    return list(container_of(path).layers)


def container_of(path: Path) -> Container:
    """The container image in an archive. Blocks; reads headers and documents only.

    Raises:
        RefusedContentError: it is no container archive of one image.
        StoreUnavailableError: the file cannot be read.
    """
    with ByteFile(path) as file:
        return _Survey(file).container()


def pass_layer(
    path: Path, layer: Layer, sink: Callable[[memoryview], None], *, max_size: int = MAX_LAYERS_SIZE
) -> None:
    """Hand a layer's uncompressed tar to ``sink``, piece by piece; it must not keep what it gets. Blocks.

    Behind it come zeros, so that it has its padding and its end mark even where the layer's maker left them out.

    Raises:
        ManifestMismatchError: at the end, if the tar is not that of the layer's digest.
        DecompressionBombError: it grows too much, or to more than ``max_size`` bytes.
        RefusedContentError: it cannot be decompressed, or ends too early.
        StoreUnavailableError: the file cannot be read.
    """
    digest = hashlib.sha256()

    def take(piece: memoryview) -> None:
        digest.update(piece)
        sink(piece)

    source = decompression(layer.compression, take, Growth(max_size))
    with ByteFile(path) as file:
        for begin in range(0, layer.size, _CHUNK_SIZE):
            length = min(_CHUNK_SIZE, layer.size - begin)
            source.feed(memoryview(file.read_exactly(layer.offset + begin, length, "a layer")))
    source.finish()
    if layer.digest != f"sha256:{digest.hexdigest()}":
        raise ManifestMismatchError("a layer is not the one that the image's configuration lists")
    sink(memoryview(bytes(-source.produced % BLOCK_SIZE + 2 * BLOCK_SIZE)))


class _Survey:
    """What is in an archive, by its headers and documents."""

    def __init__(self, file: ByteFile) -> None:
        self._file = file
        self._contents = Contents()
        self._members: dict[str, Member] = {}

    def container(self) -> Container:
        """The one image, when its parts are there."""
        offset = 0
        for _ in range(MAX_MEMBERS + 1):
            header, offset = header_at(self._file.read, offset)
            if header is None:
                image = image_in(self._contents)
                layers = zip(image.layers, image.diff_ids, strict=True)
                return Container(image, tuple(self._layer(self._members[name], diff_id) for name, diff_id in layers))
            self._take(Member.of(header, offset))
            offset += header.padded_size
        raise ArchiveContentError(f"the archive has more than {MAX_MEMBERS} members")

    def _take(self, member: Member) -> None:
        if member.kind is MemberKind.SYMLINK:
            self._contents.links[member.name] = resolve(member.name, member.target)
        if member.kind is not MemberKind.FILE:
            return
        if member.name in self._members:
            raise ArchiveContentError(f"the archive holds {member.name!a:.80} twice")
        self._members[member.name] = member
        is_small = member.size <= MAX_DOCUMENT_SIZE
        data = self._file.read_exactly(member.offset, member.size, "a document") if is_small else b""
        self._contents.add_file(member.name, member.size, b"" if is_tar(data) else data)

    def _layer(self, member: Member, digest: str) -> Layer:
        head = self._file.read_exactly(member.offset, min(member.size, BLOCK_SIZE), "a layer")
        compression = layer_compression_of(head)
        if compression is Compression.NONE and not is_tar(head) and head != bytes(BLOCK_SIZE):
            raise UnsupportedImageError(f"the layer {member.name!a:.100} is no tar archive")
        return Layer(member.offset, member.size, compression, digest)
