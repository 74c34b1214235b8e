"""What the bytes of an image have to be: by the rules of the site, the image itself and what its user announced."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.importer.plugins import ImportPlugins
from tintype.domain.image import Image
from tintype.domain.values import ContainerFormat, Digest, DiskFormat

DECOMPRESSIBLE_FORMATS = frozenset(
    {
        DiskFormat.RAW,
        DiskFormat.QCOW2,
        DiskFormat.VMDK,
        DiskFormat.VDI,
        DiskFormat.VHD,
        DiskFormat.VHDX,
        DiskFormat.PLOOP,
        DiskFormat.ISO,
    }
)
"""Declared formats of which the bytes may come compressed: a kernel or a ramdisk is compressed by its own right, and so
may be an archive."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the bytes have to be. Sizes are in bytes; ``size`` and ``digest`` are ``None`` where any will do.

    ``size``, ``digest`` and ``algorithms`` are of the bytes as they come; where those are decompressed, only the digest
    ``stored_algorithm`` is taken of what is stored. ``listed_digest`` is one more they must have. ``is_compressed``
    says that they are compressed, and stay so.
    """

    disk_format: DiskFormat | None
    algorithms: frozenset[str]
    max_size: int
    max_virtual_size: int
    max_allocation_ratio: int | None = None
    size: int | None = None
    digest: Digest | None = None
    listed_digest: Digest | None = None
    is_compressed: bool = False
    stored_algorithm: str = "sha256"


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """What the deployment wants of every image: the hash that is always taken, and the largest sizes in bytes.

    ``max_allocation_ratio`` is how many times larger than its file a large guest disk may be.
    """

    hash_algorithm: str
    max_size: int
    max_virtual_size: int
    max_allocation_ratio: int | None = None
    plugins: ImportPlugins = field(default_factory=ImportPlugins)

    def expectations(
        self,
        image: Image,
        *,
        size: int | None,
        digest: Digest | None,
        listed_digest: Digest | None = None,
        hash_algorithm: str = "",
    ) -> Expectations:
        """What the bytes of ``image`` have to be, with the size and digest that the user announced.

        ``listed_digest`` is the one that their publisher did. ``hash_algorithm`` is of a digest that the user wants
        taken too; empty is none.
        """
        algorithms = {self.hash_algorithm}
        algorithms.update(each.algorithm for each in (digest, listed_digest) if each)
        if hash_algorithm:
            algorithms.add(hash_algorithm)
        if declared := image.attributes.signature_digest_algorithm():
            algorithms.add(declared)
        return Expectations(
            disk_format=image.attributes.format_of_bytes(),
            algorithms=frozenset(algorithms),
            max_size=self.max_size,
            max_virtual_size=self.max_virtual_size,
            max_allocation_ratio=self.max_allocation_ratio,
            size=size,
            digest=digest,
            listed_digest=listed_digest,
            is_compressed=image.attributes.container_format is ContainerFormat.COMPRESSED,
            stored_algorithm=self.hash_algorithm,
        )

    def decompresses(self, image: Image) -> bool:
        """Whether bytes that are imported for ``image`` are decompressed, if they come compressed."""
        attributes = image.attributes
        is_kept = attributes.container_format is ContainerFormat.COMPRESSED
        return self.plugins.decompression and not is_kept and attributes.format_of_bytes() in DECOMPRESSIBLE_FORMATS
