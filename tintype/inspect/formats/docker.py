"""Container images in a tar archive: ``docker save``, and the OCI image layout; and all other tars, which are refused.

Every file is hashed and every layer walked as it passes, since the documents that tell the layers may come last. The
documents are the matter of :mod:`tintype.inspect.archives.container_image`, the layers that of the modules beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator

from tintype.domain.errors import (
    ArchiveContentError,
    ArchiveTraversalError,
    DecompressionBombError,
    FormatMismatchError,
    MalformedImageError,
    ManifestMismatchError,
    TruncatedError,
    UnsupportedImageError,
)
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect.archives.container_blob import BlobWalk, LayerFacts
from tintype.inspect.archives.container_image import ContainerImage, Contents, blob_digest, image_in, names_used
from tintype.inspect.archives.container_layer import LayerBudget
from tintype.inspect.archives.json_document import MAX_DOCUMENT_SIZE, JsonObject
from tintype.inspect.archives.layer_decompression import Growth
from tintype.inspect.archives.ova_names import is_ova_member
from tintype.inspect.archives.tar import MemberKind, first_file_name, is_tar
from tintype.inspect.archives.tar_archive import Archive, Member, refuse_link, resolve
from tintype.inspect.inspection import Findings
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream, Wish

MAX_MEMBERS = 8192
MAX_LAYERS_SIZE = 256 * 1024**3
"""Bytes that all layers together may grow to, where the site sets no lower limit for a guest's disk."""
_MAX_LAYER_FACTS = 32

_ARCHITECTURES = {
    "amd64": "x86_64", "386": "i686", "arm64": "aarch64", "arm": "armv7l", "loong64": "loongarch64",
    "mips64le": "mips64el", "mipsle": "mipsel",
}  # fmt: skip
"""Go's names of architectures (the image's configuration has these) to Glance's and Nova's, where they differ."""

_OF_NO_USE = re.compile(r"repositories|[^/]+/(?:VERSION|json|layer\.tar)|blobs/[^/]+/[^/]+|oci-layout|index\.json")
"""What ``docker save`` writes besides, for older readers; a layout may have blobs that its image does not use."""


def _in_head(head: bytes) -> bool:
    return is_tar(head) and not is_ova_member(first_file_name(head))


def _parse(stream: Stream) -> Parsing:
    walk = _Walk(stream)
    yield from walk.run()
    image = image_in(walk.contents)
    layers = _layers_of(image, walk)
    return Findings(None, _facts(image, layers))


class _Walk:
    """The walk over the archive's files, and what it found."""

    def __init__(self, stream: Stream) -> None:
        self._archive = Archive(stream, max_members=MAX_MEMBERS)
        self._budget = LayerBudget()
        self._growth = Growth(MAX_LAYERS_SIZE if stream.max_virtual_size is None else stream.max_virtual_size)
        self.contents = Contents()
        self.layers: dict[str, LayerFacts] = {}

    def run(self) -> Generator[Wish, bytes, None]:
        """To the archive's end."""
        while (member := (yield from self._archive.next_member())) is not None:
            match member.kind:
                case MemberKind.DIRECTORY:
                    continue
                case MemberKind.FILE:
                    yield from self._file(member)
                case MemberKind.SYMLINK:
                    # Old versions of Docker write a layer once, and link to it from where it is once more.
                    self.contents.links[member.name] = resolve(member.name, member.target)
                case _:
                    refuse_link(member)

    def _file(self, member: Member) -> Generator[Wish, bytes, None]:
        expected = blob_digest(member.name)
        blob = BlobWalk(self._budget, self._growth)
        if member.size <= MAX_DOCUMENT_SIZE:
            data = yield from self._archive.read(member, MAX_DOCUMENT_SIZE)
            blob.feed(memoryview(data))
        else:
            data = b""
            yield from self._archive.pass_to(blob.feed, member)
        layer = blob.finish()
        if expected not in (None, blob.digest):
            raise ManifestMismatchError(f"{member.name!a:.100} is not the file that its name is the digest of")
        self.contents.add_file(member.name, member.size, b"" if layer else data)
        if layer is not None:
            self.layers[member.name] = layer


def _layers_of(image: ContainerImage, walk: _Walk) -> list[LayerFacts]:
    """The image's layers, when they are what the configuration says, and nothing else is in the archive."""
    used = names_used(image, walk.contents.links)
    for name in (*walk.contents.sizes, *walk.contents.links):
        is_link = name in walk.contents.links and walk.contents.links[name] not in walk.layers
        is_known = name in used or name == "manifest.json" or _OF_NO_USE.fullmatch(name)
        if is_link or not is_known:
            raise ArchiveContentError(f"the archive holds {name!a:.100}, which is no part of a container image")
    layers = []
    for name, diff_id in zip(image.layers, image.diff_ids, strict=True):
        layer = walk.layers.get(name)
        if layer is None:
            raise UnsupportedImageError(f"the layer {name!a:.100} is no tar archive, plain or by gzip or zstd")
        if layer.diff_id != diff_id:
            raise ManifestMismatchError(f"the layer {name!a:.100} is not the one that the configuration lists")
        layers.append(layer)
    return layers


def _facts(image: ContainerImage, layers: list[LayerFacts]) -> dict[str, PropertyValue]:
    config, runtime = image.config, image.config.section("config")
    texts = {
        "docker_tags": ", ".join(image.tags),
        "docker_config_digest": image.config_digest,
        "docker_layout": _layout(image),
        "architecture": _architecture(config),
        "os_type": config.text("os", ""),
        "docker_user": runtime.text("User", ""),
        "docker_workdir": runtime.text("WorkingDir", ""),
        "docker_entrypoint": _command(runtime, "Entrypoint"),
        "docker_cmd": _command(runtime, "Cmd"),
    }
    facts: dict[str, PropertyValue] = {key: value for key, value in texts.items() if value}
    facts["docker_env_count"] = len(runtime.texts("Env"))
    facts["docker_layers"] = len(layers)
    facts["docker_uncompressed_size_bytes"] = sum(layer.size for layer in layers)
    for number, diff_id in enumerate(image.diff_ids[:_MAX_LAYER_FACTS]):
        facts[f"docker_layer_{number}_digest"] = diff_id
    return facts


def _layout(image: ContainerImage) -> str:
    return "docker" if not image.has_oci_layout else "docker, oci" if image.has_docker_manifest else "oci"


def _architecture(config: JsonObject) -> str:
    name, variant = config.text("architecture", ""), config.text("variant", "")
    if name == "arm" and variant in ("v5", "v6"):
        return f"arm{variant}"
    return _ARCHITECTURES.get(name, name)


def _command(runtime: JsonObject, key: str) -> str:
    words = runtime.texts(key)
    return json.dumps(words[:64], ensure_ascii=False) if words else ""


_CONFIG = "the image's configuration"

FORMAT = Format(
    DiskFormat.DOCKER,
    _parse,
    in_head=_in_head,
    facts=(
        FactSpec("docker_tags", str, "manifest.json, RepoTags; index.json, annotations", "names of the image"),
        FactSpec("docker_config_digest", str, _CONFIG, "SHA-256 of the configuration: the image's id"),
        FactSpec("docker_layout", str, "names in the archive", "which documents it has: docker, oci, or both"),
        FactSpec("architecture", str, f"{_CONFIG}, architecture", "the processor that it runs on, in Nova's words"),
        FactSpec("os_type", str, f"{_CONFIG}, os", "linux or windows"),
        FactSpec("docker_user", str, f"{_CONFIG}, config.User", "who runs the command"),
        FactSpec("docker_workdir", str, f"{_CONFIG}, config.WorkingDir", "where the command runs"),
        FactSpec("docker_entrypoint", str, f"{_CONFIG}, config.Entrypoint", "the command, as JSON"),
        FactSpec("docker_cmd", str, f"{_CONFIG}, config.Cmd", "the command's arguments, as JSON"),
        FactSpec("docker_env_count", int, f"{_CONFIG}, config.Env", "how many environment variables are set"),
        FactSpec("docker_layers", int, f"{_CONFIG}, rootfs.diff_ids", "how many layers there are"),
        FactSpec("docker_layer_N_digest", str, f"{_CONFIG}, rootfs.diff_ids", "SHA-256 of a layer's tar, the lowest 0"),
        FactSpec("docker_uncompressed_size_bytes", int, "the layers", "size of all layers' tars"),
    ),
    rules=(
        Rule(FormatMismatchError, "a tar archive that is neither a container image nor an OVA"),
        Rule(
            ArchiveTraversalError,
            "a name or link in the archive that leads out of it; in a layer, an absolute name, `..`, a hard link that "
            "leads out, a whiteout of its own directory, or a member written through a symbolic link that leads out",
            cve="CVE-2014-6407",
        ),
        Rule(
            ArchiveContentError,
            "several images, a missing part, a file that belongs to none; a name twice or not to be shown; links, "
            "devices and pipes outside of layers (in layers these are let in); a whiteout that is more than a mark; "
            "data behind an end mark",
        ),
        Rule(ManifestMismatchError, "a blob, a configuration or a layer that is not the one of its digest or size"),
        Rule(
            DecompressionBombError,
            "layers that grow to 200 times their size, or to more than a guest's disk may have; more than a million "
            "members, more links than can be followed",
        ),
        Rule(UnsupportedImageError, "sparse members, digests other than SHA-256, encrypted or unknown layers"),
        Rule(MalformedImageError, "a header or a JSON document that cannot be read, or that says two things"),
        Rule(TruncatedError, "an archive or a layer that ends before its end"),
    ),
)
