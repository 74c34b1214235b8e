"""Container archives that must be refused for what their documents say, or for what is in their layers."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from functools import cache, partial

import zstandard

from tintype.domain.errors import (
    ArchiveContentError,
    ArchiveTraversalError,
    DecompressionBombError,
    MalformedImageError,
    ManifestMismatchError,
    RefusedContentError,
    TruncatedError,
    UnsupportedImageError,
)
from tintype.testing.handmade_archives import (
    LAYER,
    SECOND_LAYER,
    as_json,
    blob,
    container_config,
    descriptor_of,
    digest,
    directory,
    docker_archive,
    hard_link,
    link,
    member,
    oci_archive,
    oci_layout,
    oci_manifest,
    pax,
    tar,
)

_Build = Callable[[], bytes]
_Rows = Iterator[tuple[str, type[RefusedContentError], _Build]]

_BOMB_SIZE = 80 << 20
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def container_files() -> _Rows:
    """What the outer archive must not hold."""
    yield (
        "layer that is a link out",
        ArchiveTraversalError,
        lambda: docker_archive(more=[link("a/layer.tar", "../../x")]),
    )
    yield "layer that is a link to no layer", ArchiveContentError, lambda: docker_archive(more=[link("a/x", "../b")])
    yield "document that is a link", ArchiveContentError, lambda: docker_archive(more=[link("x", "manifest.json")])
    yield "hard link", ArchiveContentError, lambda: docker_archive(more=[hard_link("a", "manifest.json")])
    yield (
        "hard link that leads out",
        ArchiveTraversalError,
        lambda: docker_archive(more=[hard_link("a", "/etc/shadow")]),
    )
    yield "device", ArchiveContentError, lambda: docker_archive(more=[member("sda", kind=b"4")])
    yield (
        "file that belongs to no image",
        ArchiveContentError,
        lambda: docker_archive(more=[member("disk.qcow2", b"x")]),
    )
    yield "ends before its end mark", TruncatedError, lambda: docker_archive()[:-1024]
    yield "ends in a layer", TruncatedError, lambda: docker_archive()[:900]
    yield "many documents", ArchiveContentError, _many_documents


def _many_documents() -> bytes:
    document = b'"' + b" " * (1 << 20)
    return docker_archive(before=[member(f"{number}/json", b"[" + document[2:]) for number in range(9)])


def container_documents() -> _Rows:
    """What documents must not say."""
    entry: dict[str, object] = {"Config": "c.json", "RepoTags": None, "Layers": ["a/layer.tar"]}
    yield "two images", ArchiveContentError, lambda: docker_archive(entries=[entry, entry])
    yield "no image", ArchiveContentError, lambda: docker_archive(entries=[])
    yield "missing configuration", ArchiveContentError, lambda: docker_archive(entries=[entry])
    yield "configuration outside", ArchiveContentError, lambda: docker_archive(entries=[entry | {"Config": "../x"}])
    yield "manifest without layers", ArchiveContentError, lambda: docker_archive(entries=[{"Config": "manifest.json"}])
    yield "no layers", ArchiveContentError, lambda: docker_archive(layers=())
    yield "missing layer", ArchiveContentError, partial(_oci_without, SECOND_LAYER)
    yield "fewer layers than listed", ManifestMismatchError, lambda: docker_archive(config=container_config([LAYER]))
    swapped = container_config([SECOND_LAYER, LAYER])
    yield "layers of other digests", ManifestMismatchError, lambda: docker_archive(config=swapped)
    yield "configuration of another digest", ManifestMismatchError, _renamed_config
    no_digests = container_config(rootfs={"type": "layers", "diff_ids": ["sha256:0", "sha256:1"]})
    yield "layers of no digest", MalformedImageError, lambda: docker_archive(config=no_digests)
    documents = {
        "deep JSON": b"[" * 100_000, "JSON that ends early": b'[{"Config": ', "JSON with a key twice": b'[{"":1,"":2}]',
        "JSON of numbers": b"[1, 2, NaN]", "JSON in no encoding": b"[\xff\xfe]", "JSON object for a list": b"{}",
        "JSON with a huge number": b"[" + b"9" * 10_000 + b"]",
    }  # fmt: skip
    for what, data in documents.items():
        yield what, MalformedImageError, partial(tar, member("manifest.json", data))
    yield from _oci_documents()


def _renamed_config() -> bytes:
    config = container_config([LAYER])
    name = f"{digest(b'another')}.json"
    entry: dict[str, object] = {"Config": name, "Layers": [f"{digest(LAYER)}/layer.tar"]}
    return docker_archive([LAYER], entries=[entry], more=[member(name, config)])


def _oci_without(layer: bytes) -> bytes:
    config = container_config()
    return oci_layout(oci_manifest(config, [LAYER, layer]), blobs=[config, LAYER])


def _oci_documents() -> _Rows:
    config, other = container_config(), container_config(architecture="arm64")
    layers = [LAYER, SECOND_LAYER]
    two = [oci_manifest(config, layers), oci_manifest(other, layers)]
    yield "two platforms", ArchiveContentError, lambda: oci_layout(*two, blobs=[*layers, config, other])
    yield "blob of another digest", ManifestMismatchError, lambda: oci_archive().replace(b"amd64", b"arm64")
    yield "blob by another algorithm", UnsupportedImageError, lambda: tar(member("blobs/sha512/" + "0" * 128, b"x"))
    yield "blob without a digest", MalformedImageError, lambda: tar(member("blobs/sha256/layer", b"x"))
    yield (
        "layout of another version",
        UnsupportedImageError,
        lambda: oci_layout(two[0], blobs=[*layers, config], version="2"),
    )
    tar_type = "application/vnd.oci.image.layer.v1.tar"
    fields: dict[str, tuple[type[RefusedContentError], dict[str, object]]] = {
        "artifact": (UnsupportedImageError, {"config": descriptor_of(config, "application/vnd.cncf.helm.config.v1")}),
        "encrypted layers": (UnsupportedImageError, {"layers": [descriptor_of(LAYER, f"{tar_type}+encrypted")]}),
        "manifest of an old version": (UnsupportedImageError, {"schemaVersion": 1}),
        "layer by another algorithm": (
            UnsupportedImageError,
            {"layers": [descriptor_of(LAYER, tar_type, digest="sha512:abc")]},
        ),
        "layer of another size": (ManifestMismatchError, {"layers": [descriptor_of(LAYER, tar_type, size=1)]}),
        "size that is no number": (MalformedImageError, {"layers": [descriptor_of(LAYER, tar_type, size=True)]}),
    }
    for what, (error, changed) in fields.items():
        yield what, error, partial(oci_layout, oci_manifest(config, layers, **changed), blobs=[*layers, config])
    yield "nested indexes", ArchiveContentError, _nested_indexes
    yield "two documents of two images", ManifestMismatchError, _two_documents
    yield "layer by xz", UnsupportedImageError, lambda: oci_archive([LAYER], blobs=[b"\xfd7zXZ\0" + bytes(600)])


def _nested_indexes() -> bytes:
    data = oci_manifest(container_config(), [LAYER])
    blobs, kind = [data], _OCI_MANIFEST
    for _ in range(5):
        data = as_json({"schemaVersion": 2, "manifests": [descriptor_of(data, kind)]})
        blobs.append(data)
        kind = _OCI_INDEX
    return oci_layout(blobs=blobs, index=data)


def _two_documents() -> bytes:
    """The index tells of one image, manifest.json of another that is there as well."""
    other = container_config([LAYER])
    entry = {"Config": f"blobs/sha256/{digest(other)}", "Layers": [f"blobs/sha256/{digest(LAYER)}"]}
    archive = oci_archive(blobs=[LAYER, SECOND_LAYER])[:-1024]
    return archive + tar(blob(other), member("manifest.json", as_json([entry])))


# --- layers -----------------------------------------------------------------------------------------------------------


def _layer(*members: bytes) -> _Build:
    return lambda: docker_archive([LAYER, tar(*members)])


def container_layers() -> _Rows:
    """What layers must not hold."""
    passwd = member("a/passwd", b"root::0:0::/:/bin/sh\n")
    traversals: dict[str, list[bytes]] = {
        "parent directory": [member("../etc/passwd", b"x")],
        "parent directory in the middle": [member("a/../../etc/passwd", b"x")],
        "absolute name": [member("/etc/passwd", b"x")],
        "name through an absolute link": [link("a", "/etc"), passwd],
        "name through a relative link": [link("a", "../../etc"), passwd],
        "name through two links": [link("b", "/etc"), link("a", "b"), passwd],
        "name through a link in a directory": [directory("d"), link("d/a", ".."), link("b", "d/a/.."), member("b/x")],
        "name through a linked directory": [link("l", "d"), link("d/a", "/etc"), member("l/a/passwd", b"x")],
        "name through links without end": [link("a", "b"), link("b", "a"), passwd],
        "name through a link to itself": [link("a", "a/a"), passwd],
        "name through a hard link to a link": [link("b", "/etc"), hard_link("a", "b"), passwd],
        "hard link that leads out": [hard_link("a", "../../etc/shadow")],
        "absolute hard link": [hard_link("a", "/etc/shadow")],
        "hard link through a link": [link("a", "/etc"), hard_link("b", "a/shadow")],
        "device through a link": [link("a", "/dev"), member("a/sda", kind=b"4")],
        "directory through a link": [link("a", "/"), directory("a/etc")],
        "whiteout of its own directory": [member("etc/.wh.")],
        "whiteout of a dot": [member("etc/.wh..")],
        "whiteout of the directory above": [member("etc/.wh...")],
        "whiteout through a link": [link("a", "/"), member("a/.wh.etc")],
        "pax name that leads out": [pax({"path": "../x"}), member("x")],
        "pax link that leads out": [pax({"linkpath": "../../x"}), hard_link("x", "y")],
    }
    for what, members in traversals.items():
        yield f"layer: {what}", ArchiveTraversalError, _layer(*members)
    contents: dict[str, list[bytes]] = {
        "whiteout with data": [member("etc/.wh.a", b"x")],
        "whiteout that is a directory": [directory("etc/.wh.a")],
        "whiteout that is a link": [link("etc/.wh..wh..opq", "/etc")],
        "member below a whiteout": [member("etc/.wh.a/b", b"x")],
        "whiteout of a whiteout": [member(".wh..wh.plnk")],
        "root that is a file": [member("./", kind=b"2", target="/etc")],
        "layer behind the layer": [member("a"), bytes(1024), member("b")],
    }
    for what, members in contents.items():
        yield f"layer: {what}", ArchiveContentError, _layer(*members)
    yield "layer: sparse member", UnsupportedImageError, _layer(member("a", kind=b"S"))
    yield "layer: wrong checksum", MalformedImageError, _layer(member("a"), b"x" * 512)
    yield "layer: more in the header than there is", TruncatedError, _layer(member("a", size=1 << 40))
    for what, compress in {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}.items():
        damaged = compress(LAYER)[:-9] + b"\xff" * 9
        yield f"{what} layer that is damaged", MalformedImageError, partial(_single, damaged)
        yield f"{what} layer of no tar", MalformedImageError, partial(_single, compress(b"no tar" * 500))
        yield f"{what} bomb", DecompressionBombError, partial(_bomb, what)
    yield "many small bombs", DecompressionBombError, _many_bombs
    yield "gzip layer that ends early", TruncatedError, lambda: _single(gzip.compress(LAYER)[:-9])
    yield "zstd layer that ends early", TruncatedError, lambda: _single(_cut_zstd())
    yield "zstd layer that asks for memory", UnsupportedImageError, lambda: _single(_wide_zstd())


def _single(layer: bytes) -> bytes:
    return oci_archive([LAYER], blobs=[layer])


def _cut_zstd() -> bytes:
    """Several blocks, of which one came."""
    noise = b"".join(hashlib.sha256(bytes([number % 256, number // 256])).digest() for number in range(10_000))
    return zstandard.ZstdCompressor(level=1).compress(tar(member("a", noise)))[:200_000]


def _wide_zstd() -> bytes:
    """A frame whose window is 1 GiB (RFC 8878, 3.1.1.1.2), with one empty block."""
    return b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00"


@cache
def _bomb(kind: str) -> bytes:
    """A layer with one file of zeros, which is larger than a thousand times what comes."""
    layer = member("zeros", size=_BOMB_SIZE) + bytes(_BOMB_SIZE + 1024)
    packed = gzip.compress(layer, 1) if kind == "gzip" else zstandard.ZstdCompressor().compress(layer)
    return oci_archive([LAYER], blobs=[packed])


@cache
def _many_bombs() -> bytes:
    """Small ones, none of which would matter alone."""
    layers = [tar(member(str(number), bytes(1 << 20))) for number in range(100)]
    return oci_archive(layers, blobs=[zstandard.ZstdCompressor().compress(layer) for layer in layers])
