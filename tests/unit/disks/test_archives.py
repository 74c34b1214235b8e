"""The layers of a container archive at rest: in their order, where they lie, and as their digests say."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tintype.disks.archives import Layer, container_of, layers_of, pass_layer
from tintype.domain.errors import DecompressionBombError, ManifestMismatchError, RefusedContentError, TruncatedError
from tintype.inspect.archives.layer_decompression import Compression
from tintype.testing.handmade_archives import (
    LAYER,
    SECOND_LAYER,
    as_json,
    container_config,
    digest,
    docker_archive,
    link,
    member,
    oci_archive,
    tar,
)
from tintype.testing.hostile_containers import container_documents

ARCHIVES: dict[str, tuple[Compression, Callable[[], bytes]]] = {
    "docker": (Compression.NONE, docker_archive),
    "oci, gzip": (Compression.GZIP, oci_archive),
    "oci, zstd": (
        Compression.ZSTD,
        lambda: oci_archive(blobs=[zstandard.ZstdCompressor().compress(layer) for layer in (LAYER, SECOND_LAYER)]),
    ),
}


def unpacked(path: Path, layer: Layer) -> bytes:
    found = bytearray()
    pass_layer(path, layer, found.extend)
    return bytes(found)


@pytest.mark.parametrize("name", ARCHIVES)
def test_layers_are_told_the_lowest_first(name: str, tmp_path: Path) -> None:
    compression, build = ARCHIVES[name]
    path = tmp_path / "archive"
    path.write_bytes(build())
    layers = layers_of(path)
    assert [layer.digest for layer in layers] == [f"sha256:{digest(layer)}" for layer in (LAYER, SECOND_LAYER)]
    assert {layer.compression for layer in layers} == {compression}
    for layer, content in zip(layers, (LAYER, SECOND_LAYER), strict=True):
        assert unpacked(path, layer) == content + bytes(1024)


def test_documents_of_the_image_are_told_as_well(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(docker_archive())
    container = container_of(path)
    assert container.image.config.section("config").texts("Entrypoint") == ["/bin/init"]
    assert list(container.layers) == layers_of(path)


def test_linked_layer_is_the_file_that_it_leads_to(tmp_path: Path) -> None:
    config = container_config([LAYER, LAYER])
    entry: dict[str, object] = {"Config": f"{digest(config)}.json", "Layers": ["a/layer.tar", "b/layer.tar"]}
    path = tmp_path / "archive"
    path.write_bytes(
        tar(
            member("a/layer.tar", LAYER),
            link("b/layer.tar", "../a/layer.tar"),
            member(f"{digest(config)}.json", config),
            member("manifest.json", as_json([entry])),
        )
    )
    first, second = layers_of(path)
    assert first == second == Layer(512, len(LAYER), Compression.NONE, f"sha256:{digest(LAYER)}")


def test_layer_without_its_end_is_completed_so_that_every_program_reads_it(tmp_path: Path) -> None:
    layer = tar(member("a", b"x"))[:513]
    path = tmp_path / "archive"
    path.write_bytes(docker_archive([layer]))
    with tarfile.open(fileobj=io.BytesIO(unpacked(path, layers_of(path)[0]))) as archive:
        assert archive.getnames() == ["a"]


def test_layer_that_is_another_one_is_told_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(docker_archive())
    layer = replace(layers_of(path)[0], digest=f"sha256:{digest(b'another')}")
    with pytest.raises(ManifestMismatchError):
        unpacked(path, layer)


def test_layer_grows_only_as_far_as_it_may(tmp_path: Path) -> None:
    layer = tar(member("a", bytes(1 << 20)))
    path = tmp_path / "archive"
    path.write_bytes(oci_archive([layer], blobs=[gzip.compress(layer)]))
    with pytest.raises(DecompressionBombError):
        pass_layer(path, layers_of(path)[0], lambda _: None, max_size=1 << 19)


def test_archive_that_became_shorter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(docker_archive())
    layer = layers_of(path)[0]
    path.write_bytes(docker_archive()[:1000])
    with pytest.raises(TruncatedError):
        unpacked(path, layer)
    with pytest.raises(TruncatedError):
        layers_of(path)


@pytest.mark.parametrize("name", [name for name, _, _ in container_documents()])
def test_archive_whose_documents_are_hostile_is_refused_or_read_no_further_than_told(name: str, tmp_path: Path) -> None:
    build = {row: make for row, _, make in container_documents()}[name]
    path = tmp_path / "archive"
    path.write_bytes(build())
    try:
        layers = layers_of(path)
    except RefusedContentError:
        return
    # What digests alone tell is for the inspection, and for whoever reads the layer.
    assert all(layer.offset + layer.size <= path.stat().st_size for layer in layers)


@given(
    patches=st.lists(st.tuples(st.integers(0, 12_000), st.binary(min_size=1, max_size=16)), max_size=5),
    cut_short=st.one_of(st.none(), st.integers(0, 12_000)),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spoiled_archive_is_refused_or_read(
    tmp_path: Path, patches: list[tuple[int, bytes]], cut_short: int | None
) -> None:
    spoiled = bytearray(oci_archive())
    for offset, patch in patches:
        spoiled[offset : offset + len(patch)] = patch
    path = tmp_path / "archive"
    path.write_bytes(spoiled[:cut_short])
    try:
        for layer in layers_of(path):
            assert unpacked(path, layer)[:-1024] in (LAYER, SECOND_LAYER)
    except RefusedContentError as refusal:
        reason = refusal.reason
    else:
        reason = ""
    assert reason == "" or reason.isupper()
