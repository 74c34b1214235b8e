"""Which files of an archive are one container image: what ``docker save`` writes, and the OCI image layout.

See Docker's image specification 1.2 ("Combined Image JSON + Filesystem Changeset Format") for ``manifest.json``; the
OCI image-spec's image-layout.md, image-index.md, manifest.md and config.md for the other. An archive may have both, and
then they must tell the same. Nothing here reads the archive: it is given what the documents say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tintype.domain.errors import (
    ArchiveContentError,
    FormatMismatchError,
    MalformedImageError,
    ManifestMismatchError,
    UnsupportedImageError,
)
from tintype.inspect.archives.json_document import JsonObject, parse_document, parse_object

MAX_LAYERS = 512
"""Docker's own limit is 127."""
MAX_DOCUMENTS_SIZE = 8 * 1024 * 1024
"""Bytes of all JSON documents together, which are kept while an archive passes."""
_MAX_DESCRIPTORS = 1024
_MAX_INDEX_DEPTH = 3

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_OTHER_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]+")
_BLOB = re.compile(r"blobs/([a-z0-9+._-]+)/(.+)")
_NAMED_BY_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})(?:\.json)?")
_CONFIG_TYPES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_LAYER_TYPE = re.compile(
    r"application/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+gzip|\+zstd)?"
    r"|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.gzip|\.zstd)?)"
)
_REF_NAME = "org.opencontainers.image.ref.name"
_ATTESTATION = "vnd.docker.reference.type"


@dataclass(slots=True)
class Contents:
    """What an archive holds: its files' sizes in bytes, the links among them, and the documents, by clean names."""

    sizes: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    documents_left: int = MAX_DOCUMENTS_SIZE

    def add_file(self, name: str, size: int, data: bytes) -> None:
        """Take note of a file; ``data`` is all of it if it may be a document, and is kept if it looks like one.

        Raises:
            ArchiveContentError: there are too many documents.
        """
        self.sizes[name] = size
        if data.lstrip()[:1] not in (b"{", b"["):
            return
        self.documents_left -= size
        if self.documents_left < 0:
            raise ArchiveContentError(f"the archive has more than {MAX_DOCUMENTS_SIZE} bytes of JSON documents")
        self.documents[name] = data

    def file(self, name: str) -> str:
        """The name of the file that ``name`` stands for: itself, or what a link of that name leads to.

        Raises:
            ArchiveContentError: there is none.
        """
        found = self.links.get(name, name)
        if found not in self.sizes:
            raise ArchiveContentError(f"the archive names {name!a:.100}, and does not hold it")
        return found

    def document(self, name: str) -> bytes:
        """The bytes of a document.

        Raises:
            ArchiveContentError: it is not there, or no document.
        """
        found = self.file(name)
        if found not in self.documents:
            raise ArchiveContentError(f"{name!a:.100} in the archive is no JSON document, or too large for one")
        return self.documents[found]


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """One image: its configuration, and the files that are its layers, the lowest first.

    ``diff_ids`` are the digests (``sha256:…``) of the layers' uncompressed tars.
    """

    config: JsonObject
    config_name: str
    config_digest: str
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]
    tags: tuple[str, ...]
    has_docker_manifest: bool
    has_oci_layout: bool


@dataclass(frozen=True, slots=True)
class _Parts:
    config_name: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


def blob_digest(name: str) -> str | None:
    """The SHA-256 in hexadecimal that a blob of an OCI layout must have by its name; ``None`` if it is no blob.

    Raises:
        UnsupportedImageError: it is named by another algorithm.
        MalformedImageError: it is named otherwise.
    """
    match = _BLOB.fullmatch(name)
    if match is None:
        return None
    if match[1] != "sha256":
        raise UnsupportedImageError(f"the archive has blobs named by {match[1]!a:.40}; only sha256 is known here")
    if not re.fullmatch(r"[0-9a-f]{64}", match[2]):
        raise MalformedImageError(f"the archive has a blob named {match[2]!a:.80}, which is no digest")
    return match[2]


def image_in(contents: Contents) -> ContainerImage:
    """The one image in an archive.

    Raises:
        FormatMismatchError: the archive says of no image.
        ArchiveContentError: a part is missing, or there are several images.
        ManifestMismatchError: the documents contradict each other.
        UnsupportedImageError: it is something else that is kept like an image.
        MalformedImageError: a document cannot be read.
    """
    by_docker = _by_docker_manifest(contents) if "manifest.json" in contents.sizes else None
    by_oci = _by_oci_index(contents) if "oci-layout" in contents.sizes else None
    parts = by_docker or by_oci
    if parts is None:
        raise FormatMismatchError("the bytes are a tar archive, and neither an OVA nor a container image")
    if by_docker and by_oci and (by_docker.config_name, by_docker.layers) != (by_oci.config_name, by_oci.layers):
        raise ManifestMismatchError("manifest.json and index.json tell of different images")
    if not 1 <= len(parts.layers) <= MAX_LAYERS:
        raise ArchiveContentError(f"the container image has {len(parts.layers)} layers")
    data = contents.document(parts.config_name)
    config = parse_object(data, "the image's configuration")
    diff_ids = tuple(config.section("rootfs").texts("diff_ids"))
    if len(diff_ids) != len(parts.layers):
        raise ManifestMismatchError(f"the configuration has {len(diff_ids)} layers, the image {len(parts.layers)}")
    for diff_id in diff_ids:
        _hex_of(diff_id)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return ContainerImage(
        config, parts.config_name, digest, parts.layers, diff_ids, parts.tags, bool(by_docker), bool(by_oci)
    )


def _by_docker_manifest(contents: Contents) -> _Parts:
    entries = parse_document(contents.document("manifest.json"), "manifest.json")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise MalformedImageError("manifest.json is no list of images")
    if len(entries) != 1:
        raise ArchiveContentError(f"the archive holds {len(entries)} images; it must be one")
    entry = JsonObject("manifest.json", entries[0])
    config = contents.file(entry.text("Config"))
    match = _NAMED_BY_DIGEST.fullmatch(config)
    if match and match[1] != hashlib.sha256(contents.document(config)).hexdigest():
        raise ManifestMismatchError("the image's configuration is not the one that its name is the digest of")
    layers = tuple(contents.file(name) for name in entry.texts("Layers")[: MAX_LAYERS + 1])
    return _Parts(config, layers, tuple(entry.texts("RepoTags")))


def _by_oci_index(contents: Contents) -> _Parts:
    version = parse_object(contents.document("oci-layout"), "oci-layout").text("imageLayoutVersion")
    if version != "1.0.0":
        raise UnsupportedImageError(f"version {version!a:.20} of the OCI image layout is not known")
    manifests = _Manifests(contents)
    manifests.add_index(parse_object(contents.document("index.json"), "index.json"))
    if len(manifests.tags) != 1:
        raise ArchiveContentError(f"the archive holds {len(manifests.tags)} images; it must be one, for one platform")
    name, tags = manifests.tags.popitem()
    return _by_oci_manifest(contents, name, tuple(tag for tag in tags if tag))


class _Manifests:
    """The images that indexes name and that are there; other platforms' may have been left out of the archive."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._indexes: set[str] = set()
        self.tags: dict[str, list[str]] = {}
        """By the names of the image's manifests."""

    def add_index(self, index: JsonObject, tag: str = "", depth: int = 0) -> None:
        """Look through an index, and those that it names; no document is read twice."""
        if depth >= _MAX_INDEX_DEPTH:
            raise ArchiveContentError("the indexes of the archive are nested too deeply")
        if index.number("schemaVersion") != 2:
            raise UnsupportedImageError("the archive's index is of a version that is not known")
        for descriptor in index.sections("manifests")[:_MAX_DESCRIPTORS]:
            annotations = descriptor.section("annotations")
            name = _blob_of(descriptor)
            if _ATTESTATION in annotations.values or name not in self._contents.sizes or name in self._indexes:
                continue
            own_tag = annotations.text("io.containerd.image.name", "") or annotations.text(_REF_NAME, tag)
            if name in self.tags:
                self.tags[name].append(own_tag)
                continue
            _check_size(self._contents, descriptor, name)
            document = parse_object(self._contents.document(name), "a manifest")
            if "manifests" in document.values:
                self._indexes.add(name)
                self.add_index(document, own_tag, depth + 1)
            else:
                self.tags[name] = [own_tag]


def _by_oci_manifest(contents: Contents, name: str, tags: tuple[str, ...]) -> _Parts:
    manifest = parse_object(contents.document(name), "the image's manifest")
    if manifest.number("schemaVersion") != 2:
        raise UnsupportedImageError("the image's manifest is of a version that is not known")
    config = manifest.section("config")
    if config.text("mediaType") not in _CONFIG_TYPES:
        raise UnsupportedImageError(
            f"what the archive holds is no container image but {config.text('mediaType')!a:.80}"
        )
    layers = manifest.sections("layers")[: MAX_LAYERS + 1]
    for layer in layers:
        if not _LAYER_TYPE.fullmatch(layer.text("mediaType")):
            raise UnsupportedImageError(f"a layer of type {layer.text('mediaType')!a:.80} is not known")
    for descriptor in (config, *layers):
        _check_size(contents, descriptor, _blob_of(descriptor))
    return _Parts(_blob_of(config), tuple(_blob_of(layer) for layer in layers), tags)


def _check_size(contents: Contents, descriptor: JsonObject, name: str) -> None:
    if contents.sizes[contents.file(name)] != descriptor.number("size"):
        raise ManifestMismatchError(f"{name!a:.100} has another size than its descriptor says")


def _blob_of(descriptor: JsonObject) -> str:
    return f"blobs/sha256/{_hex_of(descriptor.text('digest'))}"


def _hex_of(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    if match:
        return match[1]
    if _OTHER_DIGEST.fullmatch(digest) and not digest.startswith("sha256:"):
        raise UnsupportedImageError(f"the digest {digest!a:.40} is not of sha256")
    raise MalformedImageError(f"{digest!a:.40} is no digest")


def names_used(image: ContainerImage, links: Mapping[str, str]) -> frozenset[str]:
    """The files that the image consists of, and the links to them."""
    files = frozenset({image.config_name, *image.layers})
    return files | {name for name, target in links.items() if target in files}
