"""What the bytes of an image have to be: by the rules of the site, the image itself and what its user announced."""

from __future__ import annotations

from dataclasses import dataclass

from tintype.domain.image import Image
from tintype.domain.values import Digest, DiskFormat


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the bytes have to be. Sizes are in bytes; ``size`` and ``digest`` are ``None`` where any will do."""

    disk_format: DiskFormat | None
    algorithms: frozenset[str]
    max_size: int
    max_virtual_size: int
    size: int | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """What the deployment wants of every image: the hash that is always taken, and the largest sizes in bytes."""

    hash_algorithm: str
    max_size: int
    max_virtual_size: int

    def expectations(self, image: Image, *, size: int | None, digest: Digest | None) -> Expectations:
        """What the bytes of ``image`` have to be, with the size and digest that the user announced."""
        algorithms = {self.hash_algorithm}
        if digest:
            algorithms.add(digest.algorithm)
        if declared := image.attributes.signature_digest_algorithm():
            algorithms.add(declared)
        return Expectations(
            disk_format=image.attributes.disk_format,
            algorithms=frozenset(algorithms),
            max_size=self.max_size,
            max_virtual_size=self.max_virtual_size,
            size=size,
            digest=digest,
        )
