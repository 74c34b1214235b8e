"""The descriptor of an OVA (DMTF DSP0243, OVF 1.x and 2.x): which file is its disk, and what machine it is for.

Elements are known by their names in any namespace, as versions 0.9, 1 and 2 differ in that only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from tintype.domain.errors import (
    ArchiveContentError,
    ArchiveTraversalError,
    DifferencingDiskError,
    MalformedImageError,
    UnsupportedImageError,
)
from tintype.domain.values import DiskFormat
from tintype.inspect.archives.tar_archive import portable_name
from tintype.inspect.archives.xml_document import attribute, children, descendants, parse_xml, text_of

_FORMATS = (
    (re.compile(r"vmdk", re.IGNORECASE), DiskFormat.VMDK),
    (re.compile(r"qcow", re.IGNORECASE), DiskFormat.QCOW2),
    (re.compile(r"vhdx", re.IGNORECASE), DiskFormat.VHDX),
    (re.compile(r"vhd\b|LinkId=137171", re.IGNORECASE), DiskFormat.VHD),
    (re.compile(r"vdi\b", re.IGNORECASE), DiskFormat.VDI),
)
"""``ovf:format`` is a URI of the format's specification; which ones are in use is known from the programs."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_DISK_RESOURCE = re.compile(r"(?:ovf:)?/?/?disk/(.{1,256})")
_UNITS = re.compile(r"byte\s*+(?:\*\s*+(2\s*+\^\s*+(\d{1,2})|\d{1,19}))?+\s*+")
_OLD_UNITS = {"kilobytes": 1 << 10, "megabytes": 1 << 20, "gigabytes": 1 << 30, "terabytes": 1 << 40}
_CPU, _MEMORY, _NIC, _DISK = "3", "4", "10", "17"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class OvfFile:
    """A file of the References; ``size`` in bytes, where it is told."""

    name: str
    size: int | None


@dataclass(frozen=True, slots=True)
class OvfDisk:
    """The disk: its file, its format if that is told and known, and the capacity in bytes that it is to have."""

    file: OvfFile
    disk_format: DiskFormat | None
    capacity: int | None


@dataclass(frozen=True, slots=True)
class OvfMachine:
    """What the descriptor says of the machine; ``None`` or empty where it does not."""

    name: str
    os_id: int | None
    os_description: str
    vmware_os_type: str
    cpus: int | None
    memory_mib: int | None
    nics: int
    nic_model: str
    firmware: str
    hardware_version: str
    vendor: str
    product: str
    version: str


@dataclass(frozen=True, slots=True)
class OvfDescriptor:
    """The one disk, all files by name, and the machine."""

    disk: OvfDisk
    files: dict[str, OvfFile]
    machine: OvfMachine


def parse_descriptor(data: bytes) -> OvfDescriptor:
    """Read a descriptor.

    Raises:
        UnsafeXmlError: it declares entities, or is too large.
        ArchiveTraversalError: it names a file outside of the archive.
        ArchiveContentError: it has not just one machine with one disk in one file.
        DifferencingDiskError: its disk has a parent.
        UnsupportedImageError: the disk's file is compressed, or in parts.
        MalformedImageError: it cannot be read.
    """
    root = parse_xml(data, "the OVF descriptor")
    files = _files_of(root)
    system = _only(list(descendants(root, "VirtualSystem", "Content")), "machines")
    hardware = _only(list(descendants(system, "VirtualHardwareSection")), "hardware sections")
    disk = _only([disk for section in children(root, "DiskSection") for disk in children(section, "Disk")], "disks")
    items = [item for item in children(hardware, "Item", "StorageItem", "EthernetPortItem") if _is_default(item)]
    _check_attached(disk, items)
    return OvfDescriptor(
        _disk_of(disk, files), {file.name: file for _, file in files.values()}, _machine(system, items)
    )


_Files = dict[str, tuple[Element, OvfFile]]


def _files_of(root: Element) -> _Files:
    """The references, by their ids."""
    found: _Files = {}
    names = set[str]()
    for section in children(root, "References"):
        for element in children(section, "File"):
            href, size = attribute(element, "href"), attribute(element, "size")
            if _SCHEME.match(href):
                raise ArchiveTraversalError(f"the OVF descriptor names a file elsewhere: {href!a:.80}")
            name, key = portable_name(href), attribute(element, "id")
            if not name or key in found or name in names:
                raise MalformedImageError("the OVF descriptor names a file twice, or not at all")
            names.add(name)
            found[key] = element, OvfFile(name, _integer(size, "a file's size") if size else None)
    return found


def _disk_of(disk: Element, files: _Files) -> OvfDisk:
    if attribute(disk, "parentRef"):
        raise DifferencingDiskError("the OVF descriptor's disk has a parent disk")
    reference = attribute(disk, "fileRef")
    if reference not in files:
        raise ArchiveContentError("the OVF descriptor's disk is in no file of the archive")
    element, file = files[reference]
    if attribute(element, "compression") not in ("", "identity"):
        raise UnsupportedImageError("the OVA's disk is compressed as a whole; a streamOptimized VMDK need not be")
    if attribute(element, "chunkSize"):
        raise UnsupportedImageError("the OVA's disk is in several parts")
    return OvfDisk(file, _format_of(attribute(disk, "format")), _capacity(disk))


def _format_of(uri: str) -> DiskFormat | None:
    return next((found for pattern, found in _FORMATS if pattern.search(uri)), None)


def _capacity(disk: Element) -> int | None:
    text = attribute(disk, "capacity")
    if not text or text.startswith("${"):  # set by who deploys it
        return None
    return _integer(text, "the disk's capacity") * _unit(attribute(disk, "capacityAllocationUnits"))


def _unit(text: str) -> int:
    """Programmatic units (DSP0004, annex D), or the words of OVF 0.9, in bytes."""
    if not text:
        return 1
    if text.lower() in _OLD_UNITS:
        return _OLD_UNITS[text.lower()]
    match = _UNITS.fullmatch(text)
    if match is None:
        raise MalformedImageError(f"the OVF descriptor has a unit that is not known: {text!a:.40}")
    return 1 << int(match[2]) if match[2] else int(match[1] or 1)


def _check_attached(disk: Element, items: list[Element]) -> None:
    """The machine must have the disk of the disk section, and no other."""
    attached = set[str]()
    for item in items:
        resources = [(resource.text or "").strip() for resource in children(item, "HostResource")]
        attached.update(match[1] for resource in resources if (match := _DISK_RESOURCE.fullmatch(resource)))
        if text_of(item, "ResourceType") == _DISK and not resources:
            raise ArchiveContentError("the OVF descriptor's machine has a disk that is nowhere")
    if attached != {attribute(disk, "diskId")}:
        raise ArchiveContentError("the OVF descriptor's machine has not just the disk that the disk section lists")


def _is_default(item: Element) -> bool:
    """Whether it is part of the machine as it is if nobody chooses (DSP0243, DeploymentOptionSection)."""
    return not attribute(item, "configuration")


def _machine(system: Element, items: list[Element]) -> OvfMachine:
    by_type: dict[str, list[Element]] = {}
    for item in items:
        by_type.setdefault(text_of(item, "ResourceType"), []).append(item)
    os_section = next(children(system, "OperatingSystemSection"), Element("none"))
    product = next(children(system, "ProductSection"), Element("none"))
    os_id = attribute(os_section, "id")
    nics = by_type.get(_NIC, [])
    memory = _quantity(by_type.get(_MEMORY, []))
    return OvfMachine(
        name=text_of(system, "Name") or attribute(system, "id"),
        os_id=int(os_id) if os_id.isascii() and os_id.isdigit() and len(os_id) < 6 else None,
        os_description=text_of(os_section, "Description"),
        vmware_os_type=attribute(os_section, "osType"),
        cpus=_quantity(by_type.get(_CPU, [])),
        memory_mib=None if memory is None else memory * _memory_unit(by_type[_MEMORY][0]) // _MIB,
        nics=len(nics),
        nic_model=text_of(nics[0], "ResourceSubType") if nics else "",
        firmware=_firmware(system),
        hardware_version=next((e.text or "" for e in descendants(system, "VirtualSystemType")), "").strip(),
        vendor=text_of(product, "Vendor"),
        product=text_of(product, "Product"),
        version=text_of(product, "FullVersion") or text_of(product, "Version"),
    )


def _quantity(items: list[Element]) -> int | None:
    text = text_of(items[0], "VirtualQuantity") if items else ""
    return _integer(text, "a quantity") if text else None


def _memory_unit(item: Element) -> int:
    return _unit(text_of(item, "AllocationUnits") or "MegaBytes")


def _firmware(system: Element) -> str:
    """``uefi`` or ``bios``, by VMware's or VirtualBox's extension; empty if there is neither."""
    for config in descendants(system, "Config"):
        if attribute(config, "key") == "firmware":
            return {"efi": "uefi", "bios": "bios"}.get(attribute(config, "value").lower(), "")
    for firmware in descendants(system, "Firmware"):
        kind = attribute(firmware, "type").lower()
        return "uefi" if kind.startswith("efi") else "bios" if kind == "bios" else ""
    return ""


def _only(found: list[Element], what: str) -> Element:
    if len(found) != 1:
        raise ArchiveContentError(f"the OVF descriptor has {len(found)} {what}; it must be one")
    return found[0]


def _integer(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise MalformedImageError(f"the OVF descriptor has {what} of {text!a:.40}")
    return int(text)
