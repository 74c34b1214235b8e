"""OVA (DMTF DSP0243): a tar archive of a machine's descriptor, its disk, and perhaps a manifest of their digests.

The disk is inspected in passing, as an image of its own: what it is refused for, the OVA is refused for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Mapping

from tintype.domain.errors import (
    ArchiveContentError,
    ArchiveTraversalError,
    DifferencingDiskError,
    FormatMismatchError,
    MalformedImageError,
    ManifestMismatchError,
    TruncatedError,
    UnsafeBackingFileError,
    UnsafeExtentError,
    UnsafeXmlError,
    UnsupportedImageError,
    VirtualSizeTooLargeError,
)
from tintype.domain.values import Digest, DiskFormat, Fact, PropertyValue
from tintype.inspect.archives.ova_files import DigestWalk, DiskWalk, digests_of
from tintype.inspect.archives.ova_manifest import check_manifest, parse_manifest
from tintype.inspect.archives.ova_names import CERTIFICATE_SUFFIX, DESCRIPTOR_SUFFIX, MANIFEST_SUFFIX, is_ova_member
from tintype.inspect.archives.ovf import OvfDescriptor, OvfMachine, parse_descriptor
from tintype.inspect.archives.tar import MemberKind, first_file_name, is_tar
from tintype.inspect.archives.tar_archive import Archive, Member, refuse_link
from tintype.inspect.inspection import Findings, Inspection
from tintype.inspect.registry import FactSpec, Format, Rule
from tintype.inspect.stream import Parsing, Stream, Wish

MAX_MEMBERS = 256
MAX_TEXT_SIZE = 1024 * 1024
"""Bytes of a descriptor, manifest or certificate; programs write 4 to 100 KiB."""

_WINDOWS = re.compile(r"win(?!e)", re.IGNORECASE)
_LINUX = re.compile(
    r"linux|ubuntu|debian|centos|rhel|red ?hat|suse|sles|fedora|rocky|alma|oracle|photon|coreos|amazon", re.IGNORECASE
)


def _in_head(head: bytes) -> bool:
    return is_tar(head) and is_ova_member(first_file_name(head))


def _parse(stream: Stream) -> Parsing:
    walk = _Walk(stream)
    yield from walk.run()
    disk, inspection = walk.check()
    facts = dict[str, PropertyValue | Fact](inspection.facts) | _machine_facts(walk.descriptor.machine)
    facts |= {
        "ova_disk_name": disk.name,
        "ova_disk_offset": disk.offset,
        "ova_disk_size_bytes": disk.size,
        "ova_disk_format": str(inspection.disk_format),
        "ova_has_manifest": walk.manifest is not None,
    }
    if walk.certificate_digest:
        facts["ova_certificate_sha256"] = walk.certificate_digest
    return Findings(inspection.virtual_size, facts)


class _Walk:
    """The walk over the archive's files, and what it found."""

    descriptor: OvfDescriptor

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._archive = Archive(stream, max_members=MAX_MEMBERS)
        self._descriptor_name = ""
        self._sizes: dict[str, int] = {}
        self._digests: dict[str, Mapping[str, str]] = {}
        self._disk: tuple[Member, Inspection] | None = None
        self.manifest: dict[str, Digest] | None = None
        self.certificate_digest = ""

    def run(self) -> Generator[Wish, bytes, None]:
        """To the archive's end."""
        while (member := (yield from self._archive.next_member())) is not None:
            if member.kind is not MemberKind.FILE:
                refuse_link(member)
            if not self._descriptor_name:
                yield from self._first(member)
            elif member.name == self.descriptor.disk.file.name:
                yield from self._inspect(member)
            elif member.name in self.descriptor.files:
                yield from self._pass(member)
            else:
                yield from self._text(member)
        if not self._descriptor_name:
            raise ArchiveContentError("the OVA is empty")

    def check(self) -> tuple[Member, Inspection]:
        """The disk, when all files are there and are what the descriptor and the manifest say."""
        for file in self.descriptor.files.values():
            size = self._sizes.get(file.name)
            if size is None:
                raise ArchiveContentError(f"the OVA lacks {file.name!a:.80}, which its descriptor names")
            if file.size not in (None, size):
                raise ManifestMismatchError(f"{file.name!a:.80} in the OVA has another size than its descriptor says")
        assert self._disk is not None
        if self.manifest is not None:
            required = {self._descriptor_name, self.descriptor.disk.file.name}
            check_manifest(self.manifest, self._digests, required)
        virtual_size, capacity = self._disk[1].virtual_size, self.descriptor.disk.capacity
        if capacity is not None and virtual_size is not None and capacity < virtual_size:
            raise MalformedImageError(f"the OVA's disk has {virtual_size} bytes, and its descriptor says {capacity}")
        return self._disk

    def _first(self, member: Member) -> Generator[Wish, bytes, None]:
        if not member.name.lower().endswith(DESCRIPTOR_SUFFIX) or "/" in member.name:
            raise ArchiveContentError(f"the first file of an OVA is its descriptor; here it is {member.name!a:.80}")
        data = yield from self._archive.read(member, MAX_TEXT_SIZE)
        self._descriptor_name = member.name
        self.descriptor = parse_descriptor(data)
        if member.name in self.descriptor.files:
            raise ArchiveContentError("the OVF descriptor names itself as a file of the machine")
        self._digests[member.name] = digests_of(data)

    def _inspect(self, member: Member) -> Generator[Wish, bytes, None]:
        disk = DiskWalk(self.descriptor.disk.disk_format, max_virtual_size=self._stream.max_virtual_size)
        yield from self._take(member, self._walk(member, disk))
        self._disk = member, disk.finish()

    def _pass(self, member: Member) -> Generator[Wish, bytes, None]:
        yield from self._take(member, self._walk(member, None))

    def _walk(self, member: Member, disk: DiskWalk | None) -> DigestWalk:
        listed = (self.manifest or {}).get(member.name)
        return DigestWalk(listed, has_manifest=self.manifest is not None, sink=disk.feed if disk else None)

    def _take(self, member: Member, walk: DigestWalk) -> Generator[Wish, bytes, None]:
        yield from self._archive.pass_to(walk.feed, member)
        self._sizes[member.name] = member.size
        self._digests[member.name] = walk.digests

    def _text(self, member: Member) -> Generator[Wish, bytes, None]:
        """A manifest or a certificate, named like the descriptor; there is nothing else without a reference."""
        stem = self._descriptor_name[: -len(DESCRIPTOR_SUFFIX)]
        if member.name == stem + MANIFEST_SUFFIX:
            self.manifest = parse_manifest((yield from self._archive.read(member, MAX_TEXT_SIZE)))
        elif member.name == stem + CERTIFICATE_SUFFIX:
            data = yield from self._archive.read(member, MAX_TEXT_SIZE)
            self.certificate_digest = hashlib.sha256(data).hexdigest()
        else:
            raise ArchiveContentError(f"the OVA holds {member.name!a:.80}, which its descriptor does not name")


def _machine_facts(machine: OvfMachine) -> dict[str, PropertyValue]:
    values: dict[str, PropertyValue | None] = {
        "ovf_name": machine.name,
        "os_type": _os_type(machine),
        "ovf_os_id": machine.os_id,
        "ovf_os_description": machine.os_description,
        "vmware_ostype": machine.vmware_os_type,
        "ovf_cpus": machine.cpus,
        "ovf_memory_mib": machine.memory_mib,
        "hw_firmware_type": machine.firmware,
        "ovf_disks": 1,
        "ovf_nics": machine.nics,
        "ovf_nic_model": machine.nic_model,
        "ovf_hardware_version": machine.hardware_version,
        "ovf_vendor": machine.vendor,
        "ovf_product": machine.product,
        "ovf_version": machine.version,
    }
    return {key: value for key, value in values.items() if value not in (None, "")}


def _os_type(machine: OvfMachine) -> str:
    """``windows`` or ``linux``, by how the descriptor describes it; a number alone (CIM's OSType) is not gone by."""
    for text in (machine.vmware_os_type, machine.os_description):
        if _LINUX.search(text):
            return "linux"
        if _WINDOWS.match(text) or "windows" in text.lower():
            return "windows"
    return ""


_OVF, _HARDWARE = "OVF descriptor", "OVF descriptor, VirtualHardwareSection"
_OS, _PRODUCT = "OVF descriptor, OperatingSystemSection", "OVF descriptor, ProductSection"
_TAR = "tar headers"

FORMAT = Format(
    DiskFormat.OVA,
    _parse,
    in_head=_in_head,
    facts=(
        FactSpec("ova_disk_name", str, f"{_OVF}, References", "the file in the archive that is the disk"),
        FactSpec("ova_disk_offset", int, _TAR, "where the disk's file begins in the archive, in bytes"),
        FactSpec("ova_disk_size_bytes", int, _TAR, "size of the disk's file"),
        FactSpec("ova_disk_format", str, "the disk's own bytes", "format of the disk's file"),
        FactSpec("ova_has_manifest", bool, _TAR, "whether the files' digests are listed; they were compared"),
        FactSpec("ova_certificate_sha256", str, "the .cert file", "SHA-256 of the certificate; it is not verified"),
        FactSpec("ovf_name", str, f"{_OVF}, VirtualSystem", "name of the machine"),
        FactSpec("os_type", str, _OS, "linux or windows"),
        FactSpec("ovf_os_id", int, f"{_OS}, id", "operating system, by CIM's numbers"),
        FactSpec("ovf_os_description", str, f"{_OS}, Description", "operating system, in words"),
        FactSpec("vmware_ostype", str, f"{_OS}, vmw:osType", "operating system, by VMware's name"),
        FactSpec("ovf_cpus", int, f"{_HARDWARE}, resource type 3", "processors"),
        FactSpec("ovf_memory_mib", int, f"{_HARDWARE}, resource type 4", "memory"),
        FactSpec("hw_firmware_type", str, f"{_OVF}, vmw:Config or vbox:Firmware", "uefi or bios"),
        FactSpec("ovf_disks", int, f"{_OVF}, DiskSection", "disks of the machine: one"),
        FactSpec("ovf_nics", int, f"{_HARDWARE}, resource type 10", "network interfaces"),
        FactSpec("ovf_nic_model", str, f"{_HARDWARE}, resource type 10", "model of the first network interface"),
        FactSpec("ovf_hardware_version", str, f"{_HARDWARE}, System", "kind of virtual hardware, such as vmx-13"),
        FactSpec("ovf_vendor", str, f"{_PRODUCT}, Vendor", "who made the product in the machine"),
        FactSpec("ovf_product", str, f"{_PRODUCT}, Product", "the product in the machine"),
        FactSpec("ovf_version", str, f"{_PRODUCT}, FullVersion or Version", "version of the product"),
    ),
    rules=(
        Rule(ArchiveTraversalError, "a file's name, a link or a reference that leads out of the archive"),
        Rule(
            ArchiveContentError,
            "not just one machine with one disk in one file; a file that the descriptor does not name, or one that is "
            "missing; a descriptor that is not the first file; a link, a device or a directory; an archive for a disk",
        ),
        Rule(ManifestMismatchError, "a file that is not of the digest in the manifest or the size in the descriptor"),
        Rule(UnsafeXmlError, "a descriptor with a document type, entities or too many elements", cve="CVE-2013-1664"),
        Rule(DifferencingDiskError, "a disk that has a parent, by the descriptor"),
        Rule(UnsupportedImageError, "a disk file that is compressed or in parts; an unknown digest in the manifest"),
        Rule(MalformedImageError, "a descriptor, manifest or header that cannot be read; a capacity below the disk's"),
        Rule(TruncatedError, "an archive that ends before its end mark, or a disk before its end"),
        Rule(FormatMismatchError, "a disk of another format than the descriptor says"),
        Rule(VirtualSizeTooLargeError, "a disk beyond the site's limit"),
        Rule(UnsafeBackingFileError, "a disk that names a backing file, as in any image"),
        Rule(UnsafeExtentError, "a disk that names another file for an extent, as in any image", cve="CVE-2022-47951"),
    ),
)
