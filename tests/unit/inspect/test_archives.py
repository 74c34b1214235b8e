"""OVAs and container archives: what is let in, what is told of it; no other error than refusals, in bounded memory."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tintype.domain.errors import FormatMismatchError, ManifestMismatchError, RefusedContentError
from tintype.domain.values import DiskFormat, PropertyValue
from tintype.inspect import Inspection, Inspector
from tintype.inspect.registry import known_formats
from tintype.inspect.stream import HEAD_SIZE
from tintype.testing.handmade import qcow2, stream_vmdk
from tintype.testing.handmade_archives import (
    END,
    LAYER,
    ONE_DISK,
    ONE_FILE,
    ONE_ITEM,
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
    long_name,
    manifest,
    member,
    oci_archive,
    oci_layout,
    oci_manifest,
    ova,
    ovf,
    pax,
    tar,
)
from tintype.testing.hostile import hostile_images
from tintype.testing.hostile_archives import archive_families

MIB = 1 << 20
GOOD_MANIFEST = {"machine.ovf": ovf(), "machine-disk1.vmdk": stream_vmdk()}


def inspect(content: bytes, declared: DiskFormat | None = None, chunk_size: int = MIB) -> Inspection:
    inspector = Inspector(declared)
    for offset in range(0, len(content), chunk_size):
        inspector.feed(memoryview(content)[offset : offset + chunk_size])
    return inspector.finish()


def facts(content: bytes) -> dict[str, PropertyValue]:
    return {key: fact.value for key, fact in inspect(content).facts.items()}


def zstd(layer: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(layer)


WELL_FORMED: dict[str, tuple[DiskFormat, Callable[[], bytes]]] = {
    "ova": (DiskFormat.OVA, ova),
    "ova, manifest first": (DiskFormat.OVA, lambda: ova(manifest_first=manifest(GOOD_MANIFEST, "sha512"))),
    "ova, manifest last": (DiskFormat.OVA, lambda: ova(manifest_last=manifest(GOOD_MANIFEST, "sha1"))),
    "ova of old tar": (
        DiskFormat.OVA,
        lambda: tar(
            member("machine.ovf", ovf(), magic=bytes(8)),
            member("machine-disk1.vmdk", stream_vmdk(), magic=bytes(8)),
        ),
    ),
    "ova behind a pax header": (DiskFormat.OVA, lambda: pax({"mtime": "1.5"}) + ova()),
    "docker": (DiskFormat.DOCKER, docker_archive),
    "docker with a layer twice": (DiskFormat.DOCKER, lambda: docker_archive([LAYER, SECOND_LAYER, LAYER])),
    "docker with an empty layer": (DiskFormat.DOCKER, lambda: docker_archive([LAYER, END])),
    "docker with older files": (
        DiskFormat.DOCKER,
        lambda: docker_archive(more=[member("repositories", b"{}"), directory("a"), member("a/VERSION", b"1.0")]),
    ),
    "oci, gzip": (DiskFormat.DOCKER, oci_archive),
    "oci, zstd": (DiskFormat.DOCKER, lambda: oci_archive(blobs=[zstd(LAYER), zstd(SECOND_LAYER)])),
    "oci, plain": (DiskFormat.DOCKER, lambda: oci_archive(blobs=[LAYER, SECOND_LAYER])),
}


@pytest.mark.parametrize("chunk_size", [MIB, 4099, 511])
@pytest.mark.parametrize("name", WELL_FORMED)
def test_archive_is_found_however_the_bytes_are_cut(name: str, chunk_size: int) -> None:
    disk_format, build = WELL_FORMED[name]
    found = inspect(build(), chunk_size=chunk_size)
    assert found.disk_format is disk_format
    assert found == inspect(build(), declared=disk_format)


@pytest.mark.parametrize("declared", [DiskFormat.RAW, DiskFormat.QCOW2, DiskFormat.AKI, DiskFormat.VMDK])
@pytest.mark.parametrize("name", WELL_FORMED)
def test_archive_is_nothing_but_what_it_is_declared_as(name: str, declared: DiskFormat) -> None:
    with pytest.raises(FormatMismatchError):
        inspect(WELL_FORMED[name][1](), declared)


def test_archive_and_its_disk_tell_their_facts_together() -> None:
    content = ova(manifest_first=manifest(GOOD_MANIFEST), more=[member("machine.cert", b"certificate")])
    found = facts(content)
    offset, size = found["ova_disk_offset"], found["ova_disk_size_bytes"]
    assert isinstance(offset, int) and isinstance(size, int)
    assert content[offset : offset + size] == stream_vmdk()
    assert inspect(content).virtual_size == MIB
    expected: dict[str, PropertyValue] = {
        "ova_disk_name": "machine-disk1.vmdk", "ova_disk_format": "vmdk", "ova_has_manifest": True,
        "ova_certificate_sha256": digest(b"certificate"), "ovf_name": "machine", "os_type": "linux", "ovf_os_id": 94,
        "ovf_os_description": "Ubuntu Linux (64-bit)", "vmware_ostype": "ubuntu64Guest", "ovf_cpus": 2,
        "ovf_memory_mib": 4096, "hw_firmware_type": "uefi", "ovf_disks": 1, "ovf_nics": 1, "ovf_nic_model": "VmxNet3",
        "ovf_hardware_version": "vmx-13", "ovf_vendor": "Example", "ovf_product": "Appliance", "ovf_version": "1.2",
        "vmdk_create_type": "streamOptimized", "min_disk": 1,
    }  # fmt: skip
    assert expected.items() <= found.items()


def test_disk_may_be_of_any_format_and_the_machine_may_have_other_files() -> None:
    text = ovf(
        files=f'{ONE_FILE}<File ovf:id="f2" ovf:href="machine.nvram" ovf:size="3"/>',
        disks=ONE_DISK.split(" ovf:format")[0] + "/>",
        items=ONE_ITEM + '<Item ovf:configuration="big"><rasd:ResourceType>17</rasd:ResourceType></Item>',
    )
    found = facts(ova(text, disk=qcow2(), more=[member("machine.nvram", b"abc")]))
    assert (found["ova_disk_format"], found["qcow2_version"]) == ("qcow2", 3)


@pytest.mark.parametrize(
    ("unit", "capacity"), [("byte * 2^30", 1), ("GigaBytes", 1), ("byte * 1048576", 1), ("byte", MIB), ("", MIB)]
)
def test_capacity_may_be_as_large_as_the_disk_or_larger(unit: str, capacity: int) -> None:
    disks = ONE_DISK.replace('capacity="1"', f'capacity="{capacity}"').replace("byte * 2^20", unit)
    assert inspect(ova(ovf(disks=disks))).virtual_size == MIB


def test_capacity_that_is_left_to_the_deployment_is_no_contradiction() -> None:
    assert inspect(ova(ovf(disks=ONE_DISK.replace('capacity="1"', 'capacity="${size}"')))).virtual_size == MIB


def test_container_image_tells_its_facts() -> None:
    config = container_config(
        architecture="arm", variant="v6", config={"Entrypoint": None, "Cmd": ["sh"], "WorkingDir": "/srv"}
    )
    expected: dict[str, PropertyValue] = {
        "docker_tags": "example/box:1", "docker_config_digest": f"sha256:{digest(config)}", "docker_layout": "docker",
        "architecture": "armv6", "os_type": "linux", "docker_cmd": '["sh"]', "docker_workdir": "/srv",
        "docker_env_count": 0, "docker_layers": 2, "docker_uncompressed_size_bytes": len(LAYER) + len(SECOND_LAYER),
        "docker_layer_0_digest": f"sha256:{digest(LAYER)}", "docker_layer_1_digest": f"sha256:{digest(SECOND_LAYER)}",
    }  # fmt: skip
    assert facts(docker_archive(config=config)) == expected


@pytest.mark.parametrize(("name", "known"), [("amd64", "x86_64"), ("arm64", "aarch64"), ("s390x", "s390x")])
def test_architecture_is_told_in_the_words_of_compute_services(name: str, known: str) -> None:
    assert facts(docker_archive(config=container_config(architecture=name)))["architecture"] == known


def test_only_the_first_layers_are_listed() -> None:
    layers = [tar(member(str(number))) for number in range(40)]
    found = facts(docker_archive(layers))
    assert found["docker_layers"] == 40
    assert sum(key.startswith("docker_layer_") for key in found) == 32


def test_both_kinds_of_documents_may_tell_the_same() -> None:
    config = container_config()
    entry = {
        "Config": f"blobs/sha256/{digest(config)}",
        "RepoTags": ["example/box:2"],
        "Layers": [f"blobs/sha256/{digest(layer)}" for layer in (LAYER, SECOND_LAYER)],
    }
    archive = oci_archive(blobs=[LAYER, SECOND_LAYER])[: -len(END)] + tar(member("manifest.json", as_json([entry])))
    found = facts(archive)
    assert (found["docker_layout"], found["docker_tags"]) == ("docker, oci", "example/box:2")


def test_layer_may_be_a_link_to_a_layer_as_old_versions_of_docker_wrote_it() -> None:
    config = container_config([LAYER, LAYER])
    entry: dict[str, object] = {"Config": f"{digest(config)}.json", "Layers": ["a/layer.tar", "b/layer.tar"]}
    archive = tar(
        link("b/layer.tar", "../a/layer.tar"),
        member("a/layer.tar", LAYER),
        member(f"{digest(config)}.json", config),
        member("manifest.json", as_json([entry])),
    )
    assert facts(archive)["docker_layers"] == 2


def test_index_may_name_other_platforms_that_were_left_out_and_attestations() -> None:
    kind = "application/vnd.oci.image.manifest.v1+json"
    config = container_config([LAYER])
    text, attestation = oci_manifest(config, [LAYER]), oci_manifest(b"{}", [b"statement"])
    nested = as_json(
        {
            "schemaVersion": 2,
            "manifests": [
                descriptor_of(text, kind),
                descriptor_of(b"left out", kind),
                descriptor_of(attestation, kind, annotations={"vnd.docker.reference.type": "attestation-manifest"}),
            ],
        }
    )
    index = as_json(
        {
            "schemaVersion": 2,
            "manifests": [
                descriptor_of(
                    nested,
                    "application/vnd.oci.image.index.v1+json",
                    annotations={"io.containerd.image.name": "docker.io/example/box:3"},
                )
            ],
        }
    )
    archive = oci_layout(blobs=[config, LAYER, text, attestation, nested, b"{}", b"statement"], index=index)
    assert facts(archive)["docker_tags"] == "docker.io/example/box:3"


ORDINARY_LAYERS = {
    "links that lead anywhere": [link("etc/mtab", "/proc/mounts"), link("a", "../../b"), member("etc/x")],
    "names through a link inside": [link("bin", "usr/bin"), directory("usr/bin"), member("bin/sh")],
    "link that is replaced": [link("a", "/etc"), directory("a"), member("a/passwd")],
    "directory behind links in it": [directory("d"), link("d/a", "/etc"), directory("d"), member("d/b")],
    "whiteouts": [member("etc/.wh.passwd"), member("etc/.wh..wh..opq"), member(".wh.a b")],
    "names with backslashes and line breaks": [member("systemd/dev-disk-by\\x2dlabel"), member("Icon\r")],
    "names in no encoding": [member(b"caf\xe9")],
    "devices and pipes": [member("dev/null", kind=b"3"), member("dev/sda", kind=b"4"), member("pipe", kind=b"6")],
    "root directory": [directory("./"), directory("/"), member("./a")],
    "hard link": [member("a", b"x"), hard_link("b", "./a")],
    "hard link to a link": [link("a", "b"), hard_link("c", "a"), directory("b"), member("c/x")],
    "long names": [long_name("d/" * 200 + "x"), member("x"), pax({"path": "d/é" * 60, "mtime": "1.5"}), member("y")],
    "global pax header": [pax({"comment": "0123"}, kind=b"g"), member("a")],
    "names twice": [member("a", b"1"), member("a", b"2")],
}


@pytest.mark.parametrize("name", ORDINARY_LAYERS)
def test_layers_may_hold_what_systems_have(name: str) -> None:
    layer = tar(*ORDINARY_LAYERS[name])
    assert facts(oci_archive([LAYER, layer]))["docker_layers"] == 2
    assert facts(docker_archive([layer]))["docker_layer_0_digest"] == f"sha256:{digest(layer)}"


@pytest.mark.parametrize("cut", [0, 512, 1024, 1024 + 511])
def test_layer_may_lack_its_end_mark_and_the_last_padding(cut: int) -> None:
    layer = tar(member("a", b"x"))
    assert facts(docker_archive([layer[: len(layer) - cut]]))["docker_layers"] == 1


def test_compressed_layers_may_come_in_several_members_or_frames() -> None:
    half = len(LAYER) // 2
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0more"
    gzipped = gzip.compress(LAYER[:half]) + gzip.compress(LAYER[half:]) + gzip.compress(b"") + bytes(9)
    frames = skippable + zstd(LAYER[:half]) + zstd(LAYER[half:]) + skippable
    for packed in (gzipped, frames):
        assert facts(oci_archive([LAYER], blobs=[packed]))["docker_layer_0_digest"] == f"sha256:{digest(LAYER)}"


def test_large_layer_is_compared_with_its_digest() -> None:
    layer = tar(member("a", bytes(range(256)) * 8192))
    other = tar(member("a", bytes(range(256)) * 8191 + bytes(256)))
    config = container_config([layer])
    with pytest.raises(ManifestMismatchError):
        inspect(oci_layout(oci_manifest(config, [other]), blobs=[config, other]))


def test_every_hostile_archive_has_a_name_of_its_own() -> None:
    rows = [(declared, name) for declared, family in archive_families() for name, _, _ in family]
    assert len(rows) == len(set(rows)) >= 200


@pytest.mark.parametrize("disk_format", [DiskFormat.OVA, DiskFormat.DOCKER])
def test_every_rule_has_a_hostile_sample_and_every_sample_a_rule(disk_format: DiskFormat) -> None:
    rules = {rule.error for rule in known_formats()[disk_format].rules}
    samples = {error for declared, family in archive_families() if declared is disk_format for _, error, _ in family}
    assert samples == rules


def verdict(content: bytes, cuts: list[int]) -> Inspection | type[RefusedContentError]:
    inspector = Inspector(None, max_virtual_size=1 << 50)
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            inspector.feed(content[begin:end])
        return inspector.finish()
    except RefusedContentError as refusal:
        has_stumbled = refusal.__cause__ is not None and "cannot be read (" in str(refusal)
        outcome = type(refusal)
    assert not has_stumbled
    return outcome


SMALL_HOSTILE = [name for name in hostile_images() if name.startswith(("ova: ", "docker: ")) and "bomb" not in name]


@given(
    name=st.sampled_from([*WELL_FORMED, *SMALL_HOSTILE]),
    patches=st.lists(
        st.tuples(
            st.integers(0, 24),
            st.integers(0, 511),
            st.one_of(st.binary(min_size=1, max_size=16), st.sampled_from([b"\xff" * 12, b"\0" * 8, b"7777777"])),
        ),
        max_size=4,
    ),
    mends_checksums=st.booleans(),
    cut_short=st.one_of(st.none(), st.integers(1, 20_000)),
    cuts=st.lists(st.integers(0, 40_000), max_size=3),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_spoiled_archive_is_judged_alike_however_it_is_cut(
    name: str,
    patches: list[tuple[int, int, bytes]],
    mends_checksums: bool,
    cut_short: int | None,
    cuts: list[int],
) -> None:
    build = WELL_FORMED[name][1] if name in WELL_FORMED else hostile_images()[name].build
    spoiled = bytearray(build()[:MIB])
    for block, offset, patch in patches:
        spoiled[block * 512 + offset : block * 512 + offset + len(patch)] = patch
        if mends_checksums:
            header = spoiled[block * 512 : block * 512 + 512]
            header[148:156] = b" " * 8
            spoiled[block * 512 + 148 : block * 512 + 156] = b"%06o\0 " % sum(header)
    image = bytes(spoiled[:cut_short])
    within = sorted(min(cut, len(image)) for cut in cuts)
    assert verdict(image, within) == verdict(image, [])


@given(text=st.text(max_size=300), data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_text_in_a_descriptor_or_document_leads_to_a_verdict(text: str, data: st.DataObject) -> None:
    documents = (ovf(), container_config(), as_json([{"Config": "a", "Layers": []}]))
    document = data.draw(st.sampled_from(documents)).decode()
    begin = data.draw(st.integers(0, len(document)))
    end = data.draw(st.integers(begin, len(document)))
    spoiled = (document[:begin] + text + document[end:]).encode("utf-8", "replace")
    for archive in (ova(spoiled), docker_archive(config=spoiled), tar(member("manifest.json", spoiled))):
        outcome = verdict(archive, [])
        assert isinstance(outcome, Inspection) or issubclass(outcome, RefusedContentError)


@pytest.mark.parametrize("compress", [gzip.compress, zstd, bytes])
def test_memory_is_bounded_whatever_a_layer_grows_to(compress: Callable[[bytes], bytes]) -> None:
    layer = tar(member("a", bytes(48 * MIB)))
    content = tar(blob(compress(layer)), member("oci-layout", b"{}"))
    del layer
    inspector = Inspector(None)
    tracemalloc.start()
    try:
        for begin in range(0, len(content), MIB):
            inspector.feed(memoryview(content)[begin : begin + MIB])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


def test_memory_is_bounded_whatever_the_size_of_the_disk() -> None:
    text = ovf(disks=ONE_DISK.split(" ovf:capacity")[0] + "/>")
    inspector, bulk = Inspector(None), b"\xda" * MIB
    tracemalloc.start()
    try:
        inspector.feed(member("machine.ovf", text) + member("machine-disk1.vmdk", size=1 << 30))
        for _ in range(128):
            inspector.feed(bulk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


_REFUSALS = """
import gc, os, sys
from contextlib import suppress
from pathlib import Path
from tintype.domain.errors import ArchiveTraversalError
from tintype.inspect import Inspector
content = sys.stdin.buffer.read()
def rss_after_refusals():
    for _ in range(200):
        inspector = Inspector(None)
        with suppress(ArchiveTraversalError):
            inspector.feed(content)
            sys.exit("it was not refused")
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
rss_after_refusals()
print(-rss_after_refusals() + rss_after_refusals())
"""


def test_refused_layers_leave_no_memory_behind() -> None:
    layer = zstd(tar(member("../a", bytes(8 * MIB))))
    content = tar(blob(layer), member("oci-layout", b"{}")) + bytes(HEAD_SIZE)
    # In a process of its own: in this one, what other tests left is moved about as well.
    argv = [sys.executable, "-c", _REFUSALS]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, input=content, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) < 16 * MIB
