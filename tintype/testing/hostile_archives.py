"""OVAs, container archives and other tars that must be refused, each with the error that must refuse it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from tintype.domain.errors import (
    ArchiveContentError,
    ArchiveTraversalError,
    DifferencingDiskError,
    FormatMismatchError,
    MalformedImageError,
    ManifestMismatchError,
    RefusedContentError,
    TruncatedError,
    UnsafeBackingFileError,
    UnsafeExtentError,
    UnsafeXmlError,
    UnsupportedImageError,
    VirtualSizeTooLargeError,
)
from tintype.domain.values import DiskFormat
from tintype.testing.handmade import qcow2, stream_vmdk, vmdk, vmdk_descriptor
from tintype.testing.handmade_archives import (
    END,
    ONE_DISK,
    ONE_FILE,
    ONE_ITEM,
    directory,
    docker_archive,
    hard_link,
    link,
    long_name,
    manifest,
    member,
    ova,
    ovf,
    pax,
    tar,
)
from tintype.testing.handmade_iso import iso
from tintype.testing.hostile_containers import container_documents, container_files, container_layers

_Rows = Iterator[tuple[str, type[RefusedContentError], Callable[[], bytes]]]


def archive_families() -> tuple[tuple[DiskFormat | None, _Rows], ...]:
    """What each kind is declared as, and its rows: name, error, and what builds it."""
    return (
        (DiskFormat.OVA, _ova_files()),
        (DiskFormat.OVA, _ova_descriptors()),
        (DiskFormat.OVA, _ova_xml()),
        (DiskFormat.OVA, _ova_manifests()),
        (DiskFormat.OVA, _ova_disks()),
        (DiskFormat.DOCKER, _tar_headers()),
        (DiskFormat.DOCKER, _tar_extensions()),
        (DiskFormat.DOCKER, container_files()),
        (DiskFormat.DOCKER, container_documents()),
        (DiskFormat.DOCKER, container_layers()),
        (DiskFormat.RAW, _declared_raw()),
        (DiskFormat.AKI, _declared_raw()),
        (DiskFormat.DOCKER, _no_image()),
    )


# --- OVA --------------------------------------------------------------------------------------------------------------

_DISK = "machine-disk1.vmdk"


def _with_file(name: str) -> bytes:
    return ova(more=[member(name, b"x")])


def _ova_files() -> _Rows:
    names = {
        "parent directory": "../../etc/cron.d/job", "absolute name": "/etc/cron.d/job",
        "Windows drive": "C:evil.vmdk", "backslashes": "..\\..\\evil.vmdk",
    }  # fmt: skip
    for what, name in names.items():
        yield what, ArchiveTraversalError, partial(_with_file, name)
    yield "link that leads out", ArchiveTraversalError, lambda: ova(more=[link("a", "../../etc/passwd")])
    yield "absolute link", ArchiveTraversalError, lambda: ova(more=[link("a", "/etc/passwd")])
    yield "hard link that leads out", ArchiveTraversalError, lambda: ova(more=[hard_link("a", "../etc/passwd")])
    yield "link to the disk", ArchiveContentError, lambda: ova(more=[link("a", _DISK)])
    yield "hard link to the disk", ArchiveContentError, lambda: ova(more=[hard_link("a", _DISK)])
    yield "disk that is a link", ArchiveTraversalError, lambda: tar(member("a.ovf", ovf()), link(_DISK, "/dev/sda"))
    yield "device", ArchiveContentError, lambda: ova(more=[member("sda", kind=b"4")])
    yield "named pipe", ArchiveContentError, lambda: ova(more=[member("pipe", kind=b"6")])
    yield "directory", ArchiveContentError, lambda: ova(more=[directory("more/")])
    yield "control character in a name", ArchiveContentError, partial(_with_file, "a\nb.vmdk")
    yield "name twice", ArchiveContentError, lambda: ova(more=[member(_DISK, b"x")])
    yield "name twice, once with a dot", ArchiveContentError, lambda: ova(more=[member(f"./{_DISK}", b"x")])
    yield "file that nothing names", ArchiveContentError, partial(_with_file, "second.vmdk")
    yield "second descriptor", ArchiveContentError, lambda: ova(more=[member("b.ovf", ovf())])
    yield "descriptor at the end", ArchiveContentError, lambda: tar(member(_DISK, b"x"), member("a.ovf", ovf()))
    yield "no disk", ArchiveContentError, lambda: tar(member("a.ovf", ovf()))
    yield "too many files", ArchiveContentError, lambda: ova(more=[member(f"{number}.mf") for number in range(300)])
    yield "huge descriptor", ArchiveContentError, lambda: tar(member("a.ovf", b" " * (1 << 20) + b"<a/>"))
    yield "ends in the disk", TruncatedError, lambda: ova()[:-2048]
    yield "ends before its end mark", TruncatedError, lambda: ova()[: -len(END)]
    yield "ends in the descriptor", TruncatedError, lambda: ova()[:700]


def _ova_descriptors() -> _Rows:
    second_file = '<File ovf:id="file2" ovf:href="b.vmdk"/>'
    second_disk = '<Disk ovf:diskId="vmdisk2" ovf:fileRef="file2"/>'
    content: dict[str, bytes] = {
        "two disks": ovf(files=ONE_FILE + second_file, disks=ONE_DISK + second_disk),
        "two disks, one without a file": ovf(disks=f'{ONE_DISK}<Disk ovf:diskId="blank" ovf:capacity="1"/>'),
        "disk in no file": ovf(disks='<Disk ovf:diskId="vmdisk1" ovf:capacity="1"/>'),
        "disk in a file without a reference": ovf(files=""),
        "no disk in the descriptor": ovf(disks=""),
        "disk that the machine does not have": ovf(items=""),
        "machine with another disk": ovf(items=ONE_ITEM.replace("vmdisk1", "other")),
        "machine with two disks": ovf(items=ONE_ITEM + ONE_ITEM.replace("vmdisk1", "vmdisk2")),
        "machine with a disk that is nowhere": ovf(items=f"{ONE_ITEM}<Item><ResourceType>17</ResourceType></Item>"),
        "two machines": ovf().replace(b"</Envelope>", b"<VirtualSystem/></Envelope>"),
        "file that is missing": ovf(files=ONE_FILE + second_file),
        "descriptor that names itself": ovf(files=f'{ONE_FILE}<File ovf:id="f2" ovf:href="machine.ovf"/>'),
    }
    for what, text in content.items():
        yield what, ArchiveContentError, partial(ova, text)
    hrefs = {
        "path": "../disk.vmdk", "absolute path": "/dev/sda", "URL": "http://example.test/disk.vmdk",
        "file URL": "file:///etc/passwd",
    }  # fmt: skip
    for what, href in hrefs.items():
        text = ovf(files=ONE_FILE.replace(_DISK, href))
        yield f"reference by {what}", ArchiveTraversalError, partial(ova, text)
    malformed: dict[str, bytes] = {
        "file named twice": ovf(files=ONE_FILE + ONE_FILE.replace("file1", "file2")),
        "capacity below the disk's": ovf(disks=ONE_DISK.replace("2^20", "2^10")),
        "capacity that is no number": ovf(disks=ONE_DISK.replace('capacity="1"', 'capacity="-1"')),
        "unit that is not known": ovf(disks=ONE_DISK.replace("byte *", "furlong *")),
    }
    for what, text in malformed.items():
        yield what, MalformedImageError, partial(ova, text)
    with_parent = ovf(disks=ONE_DISK.replace("<Disk", '<Disk ovf:parentRef="base"'))
    yield "disk with a parent", DifferencingDiskError, partial(ova, with_parent)
    for attribute in ('compression="gzip"', 'chunkSize="1000"'):
        text = ovf(files=ONE_FILE.replace("<File", f"<File ovf:{attribute}"))
        yield f"file with {attribute[:9]}", UnsupportedImageError, partial(ova, text)
    sized = ovf(files=ONE_FILE.replace("<File", '<File ovf:size="17"'))
    yield "file of another size", ManifestMismatchError, partial(ova, sized)


def _ova_xml() -> _Rows:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    prologues = {
        "billion laughs": f'<!DOCTYPE a [<!ENTITY l0 "lol">{laughs}]>',
        "quadratic entity": f'<!DOCTYPE a [<!ENTITY a "{"a" * 50_000}">]>',
        "external entity": '<!DOCTYPE a [<!ENTITY name SYSTEM "file:///etc/passwd">]>',
        "parameter entity": '<!DOCTYPE a [<!ENTITY % e SYSTEM "http://example.test/e.dtd">%e;]>',
        "external document type": '<!DOCTYPE a SYSTEM "http://example.test/a.dtd">',
        "plain document type": "<!DOCTYPE Envelope>",
    }
    names = {"billion laughs": "&l9;", "quadratic entity": "&a;" * 50_000, "external entity": "&name;"}
    for what, prologue in prologues.items():
        yield what, UnsafeXmlError, partial(ova, ovf(prologue=prologue, name=names.get(what, "machine")))
    yield "deep XML", UnsafeXmlError, lambda: ova(b"<a>" * 10_000 + b"</a>" * 10_000)
    yield "many elements", UnsafeXmlError, lambda: ova(b"<a>" + b"<b/>" * 50_000 + b"</a>")
    yield "no XML", MalformedImageError, lambda: ova(b"a descriptor, believe me")
    yield "XML that ends early", MalformedImageError, lambda: ova(ovf()[:-20])
    yield "XML in no known encoding", MalformedImageError, lambda: ova(ovf().replace(b"UTF-8", b"UTF-9"))


def _ova_manifests() -> _Rows:
    good = {"machine.ovf": ovf(), _DISK: stream_vmdk()}
    other_disk = manifest(good | {_DISK: b"another disk"})
    yield "manifest of another disk", ManifestMismatchError, lambda: ova(manifest_first=other_disk)
    yield "manifest of another disk, at the end", ManifestMismatchError, lambda: ova(manifest_last=other_disk)
    yield (
        "manifest of another descriptor",
        ManifestMismatchError,
        lambda: ova(manifest_first=manifest(good | {"machine.ovf": b"another"}, "sha1")),
    )
    yield (
        "manifest without the disk",
        ManifestMismatchError,
        lambda: ova(manifest_last=manifest({"machine.ovf": ovf()})),
    )
    yield (
        "manifest of a file that is missing",
        ManifestMismatchError,
        lambda: ova(manifest_last=manifest(good | {"b.vmdk": b""})),
    )
    yield "manifest by SHA-512 at the end", UnsupportedImageError, lambda: ova(manifest_last=manifest(good, "sha512"))
    yield "manifest by MD5", UnsupportedImageError, lambda: ova(manifest_first=manifest(good, "md5"))
    yield "manifest that lists twice", MalformedImageError, lambda: ova(manifest_first=manifest(good) * 2)
    yield "manifest of half a digest", MalformedImageError, lambda: ova(manifest_first=manifest(good)[:-10])
    yield "manifest that is none", MalformedImageError, lambda: ova(manifest_first=b"all files are fine")
    yield "empty manifest", MalformedImageError, lambda: ova(manifest_first=b"\n")


def _ova_disks() -> _Rows:
    of_any_format = ovf(disks=ONE_DISK.split(" ovf:format")[0] + "/>")
    backed = qcow2(backing_file_offset=512, backing_file_size=11)
    outside = vmdk(vmdk_descriptor(extents='RW 2048 SPARSE "/etc/passwd"'))
    huge = ovf(disks=ONE_DISK.split(" ovf:capacity")[0] + "/>")
    yield "disk with a backing file", UnsafeBackingFileError, lambda: ova(of_any_format, disk=backed)
    yield "disk with an extent elsewhere", UnsafeExtentError, lambda: ova(disk=outside)
    yield "disk of another format", FormatMismatchError, lambda: ova(disk=qcow2())
    yield (
        "disk beyond the site's limit",
        VirtualSizeTooLargeError,
        lambda: ova(huge, disk=qcow2(size=1 << 41, l1_size=1 << 20)),
    )
    yield "OVA in an OVA", ArchiveContentError, lambda: ova(of_any_format, disk=ova())
    yield "container in an OVA", ArchiveContentError, lambda: ova(of_any_format, disk=docker_archive())
    yield "ISO for a disk", ArchiveContentError, lambda: ova(of_any_format, disk=iso())
    yield "disk that ends early", TruncatedError, lambda: ova(disk=stream_vmdk()[:-1024])


# --- tar --------------------------------------------------------------------------------------------------------------


def _member_first(*members: bytes) -> Callable[[], bytes]:
    return lambda: docker_archive(before=members)


def _tar_headers() -> _Rows:
    damaged = bytearray(member("b"))
    damaged[0] ^= 1
    yield "wrong checksum", MalformedImageError, _member_first(member("a"), bytes(damaged))
    yield "negative size", MalformedImageError, _member_first(member("a", size=-1))
    yield "size at the integer's limit", MalformedImageError, _member_first(member("a", size=(1 << 95) - 1))
    yield "size beyond the end", TruncatedError, _member_first(member("a", size=1 << 40))
    yield "link with data", MalformedImageError, _member_first(member("a", b"x" * 512, kind=b"2", target="b"))
    for kind in b"SMVDNX":
        text = chr(kind)
        yield f"type {text}", UnsupportedImageError, _member_first(member("a"), member("b", kind=text.encode()))
    incremental = member("a", prefix=b"00000000000\0", magic=b"ustar  \0")
    yield "GNU's incremental kind", UnsupportedImageError, _member_first(incremental)
    yield "one name twice", ArchiveContentError, _member_first(member("a"), member("./a"))
    yield "file for the root directory", ArchiveContentError, _member_first(member("."))
    yield "too many members", ArchiveContentError, lambda: tar(*(member(str(number)) for number in range(8200)))
    yield "archive behind the end", ArchiveContentError, lambda: docker_archive() + docker_archive()


def _tar_extensions() -> _Rows:
    yield "pax header of megabytes", ArchiveContentError, _member_first(pax({"comment": "x" * (3 << 20)}), member("a"))
    yield "long name of megabytes", ArchiveContentError, _member_first(long_name("a" * (3 << 20)), member("a"))
    yield "name beyond PATH_MAX", ArchiveContentError, _member_first(long_name("a/" * 4000), member("a"))
    yield "link beyond PATH_MAX", ArchiveContentError, _member_first(long_name("a" * 5000, kind=b"K"), link("a", "b"))
    yield "pax name that leads out", ArchiveTraversalError, _member_first(pax({"path": "../../etc/x"}), member("a"))
    yield "long name that leads out", ArchiveTraversalError, _member_first(long_name("../" * 50), member("a"))
    yield "two pax headers", ArchiveContentError, _member_first(pax({"path": "a"}), pax({"path": "b"}), member("c"))
    yield "two long names", ArchiveContentError, _member_first(long_name("a"), long_name("b"), member("c"))
    yield "pax and long name", ArchiveContentError, _member_first(long_name("a"), pax({"path": "b"}), member("c"))
    yield "global pax name", ArchiveContentError, _member_first(pax({"path": "a"}, kind=b"g"), member("c"))
    long_number = {"comment": "1" * 1_000_000}
    yield "pax number of many digits", ArchiveContentError, _member_first(pax(long_number), member("c"))
    yield "zero byte in a name", ArchiveContentError, _member_first(pax({"path": "a\0b"}), member("c"))
    yield "pax size beyond the end", TruncatedError, _member_first(pax({"size": "99999999999"}), member("c"))
    yield "pax size that is no number", MalformedImageError, _member_first(pax({"size": "-1"}), member("c"))
    records = {
        "without a length": b"path=a\n",
        "without a length behind others": b"6 a=b\n" + b"x" * 40,
        "of no length": b"0 a=b\n",
        "too long": b"99 a=b\n",
    }
    for what, payload in records.items():
        record = member("pax", payload, kind=b"x")
        yield f"pax record {what}", MalformedImageError, _member_first(record, member("c"))
    yield "sparse by pax", UnsupportedImageError, _member_first(pax({"GNU.sparse.major": "1"}), member("c"))
    yield "extended header at the end", MalformedImageError, lambda: tar(member("a"), pax({"path": "b"}))


# --- what is no image at all ------------------------------------------------------------------------------------------


def _plain_tar() -> bytes:
    return tar(directory("etc/"), member("etc/os-release", b"ID=example\n"))


def _declared_raw() -> _Rows:
    yield "that is a tar", FormatMismatchError, _plain_tar
    yield "that is an OVA", FormatMismatchError, ova
    yield "that is a container image", FormatMismatchError, docker_archive
    yield "that is a tar of before POSIX", FormatMismatchError, lambda: tar(member("disk", b"x", magic=bytes(8)))


def _no_image() -> _Rows:
    yield "plain tar", FormatMismatchError, _plain_tar
    yield "OVA", FormatMismatchError, ova
    yield "qcow2", FormatMismatchError, qcow2
    yield "tar header that is qcow2 as well", FormatMismatchError, lambda: tar(member(b"QFI\xfb\0\0\0\3"))
