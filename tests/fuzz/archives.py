"""Container archives at rest: finding their layers, and unpacking them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.fuzz.target import MAX_SEED_BYTES, Target
from tintype.disks.archives import layers_of, pass_layer
from tintype.domain.errors import RefusedContentError
from tintype.testing.handmade_archives import docker_archive, oci_archive
from tintype.testing.hostile_containers import container_documents


def targets() -> Mapping[str, Target]:
    """One, for both kinds of archives."""
    return {"container-layers": Target(_fuzz_archive, _archives)}


def _fuzz_archive(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        path = Path(file.name)
        try:
            for layer in layers_of(path):
                pass_layer(path, layer, lambda piece: None)
        except RefusedContentError:
            return


def _archives() -> Iterator[bytes]:
    yield docker_archive()
    yield oci_archive()
    for _, _, build in container_documents():
        if len(content := build()) <= MAX_SEED_BYTES:
            yield content
