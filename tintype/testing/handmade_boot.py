"""Minimal well-formed kernels, ramdisks and machine images, written field by field, so that a test can spoil any."""

from __future__ import annotations

import struct

_BANNER = b"6.1.0-handmade (test@example.org) #1 SMP"


def bzimage(*, banner: bytes = _BANNER, payload: bytes = b"\x1f\x8b\x08" + bytes(61), **fields: int) -> bytes:
    """A kernel for x86: a boot sector, one sector of setup code, and protected-mode code that is all payload."""
    values = {
        "setup_sectors": 1, "boot_flag": 0xAA55, "magic": 0x53726448, "version": 0x20F, "version_pointer": 0x100,
        "load_flags": 1, "paragraphs": -(-len(payload) // 16), "relocatable": 1, "xload_flags": 0x2F,
        "payload_offset": 0, "payload_length": len(payload), "memory_size": 1 << 20,
    }  # fmt: skip
    _update(values, fields)
    image = bytearray(2 * 512)
    places = {
        "setup_sectors": (0x1F1, "B"), "boot_flag": (0x1FE, "H"), "magic": (0x202, "I"), "version": (0x206, "H"),
        "version_pointer": (0x20E, "H"), "load_flags": (0x211, "B"), "paragraphs": (0x1F4, "I"),
        "relocatable": (0x234, "B"), "xload_flags": (0x236, "H"), "payload_offset": (0x248, "I"),
        "payload_length": (0x24C, "I"), "memory_size": (0x260, "I"),
    }  # fmt: skip
    for name, (at, code) in places.items():
        struct.pack_into(f"<{code}", image, at, values[name])
    image[0x300 : 0x300 + len(banner)] = banner
    return bytes(image) + payload.ljust(-(-len(payload) // 16) * 16, b"\0")


def linux_image(*, magic: bytes = b"ARM\x64", memory_size: int = 1 << 20, flags: int = 0) -> bytes:
    """An uncompressed kernel for ARM64, or with the other magic for RISC-V."""
    header = struct.pack("<II3Q24x4sI", 0x14000000, 0, 0, memory_size, flags, magic, 0)
    return header.ljust(4096, b"\xda") + b"Linux version " + _BANNER + b"\n\0" + bytes(4096)


def elf_kernel(*, is_64_bit: bool = True, big_endian: bool = False, **fields: int) -> bytes:
    """A vmlinux of one segment."""
    values = {
        "kind": 2, "machine": 62, "table": 64 if is_64_bit else 52, "sections": 0, "section_count": 0, "segments": 1,
        "segment_kind": 1, "offset": 4096, "size": 4096,
    }  # fmt: skip
    _update(values, fields)
    order, word = ">" if big_endian else "<", "Q" if is_64_bit else "I"
    entry_size, section_size = (56, 64) if is_64_bit else (32, 40)
    ident = b"\x7fELF" + bytes([1 + is_64_bit, 1 + big_endian, 1]) + bytes(9)
    header = ident + struct.pack(
        f"{order}HHI3{word}I6H",
        *(values["kind"], values["machine"], 1, 1 << 20, values["table"], values["sections"], 0),
        *(len(ident) + 48, entry_size, values["segments"], section_size, values["section_count"], 0),
    )
    kind, offset, size = values["segment_kind"], values["offset"], values["size"]
    if is_64_bit:
        segment = struct.pack(f"{order}II6Q", kind, 5, offset, 0, 0, size, size, 4096)
    else:
        segment = struct.pack(f"{order}8I", kind, offset, 0, 0, size, size, 5, 4096)
    text = b"Linux version " + _BANNER + b"\n\0"
    return (header + segment).ljust(4096, b"\0") + text.ljust(4096, b"\0")


def uefi_program(*sections: tuple[str, bytes], subsystem: int = 10, machine: int = 0x8664, **fields: int) -> bytes:
    """A PE file, a unified kernel image if not told otherwise. Section data begins at 4096, each at 512 more."""
    contents = sections or ((".linux", b"kernel"), (".uname", b"6.1.0-handmade\0"))
    values = {"count": len(contents), "section_size": 512, "first_section": 4096}
    _update(values, fields)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", machine, values["count"], 0, 0, 0, 240, 0x22)
    optional = struct.pack("<H66xH", 0x20B, subsystem).ljust(240, b"\0")
    table, data = b"", b""
    for name, content in contents:
        size, offset = values["section_size"], values["first_section"] + len(data)
        table += struct.pack("<8sIIIIIIHHI", name.encode(), size, 4096, size, offset, 0, 0, 0, 0, 0)
        data += content.ljust(512, b"\0")
    return (dos + coff + optional + table).ljust(4096, b"\0") + data


def zboot_kernel(*, offset: int = 4096, length: int = 512) -> bytes:
    """A compressed kernel that UEFI starts; for ARM64."""
    image = bytearray(uefi_program((".text", b""), machine=0xAA64))
    struct.pack_into("<4sII", image, 4, b"zimg", offset, length)
    image[4096:4099] = b"\x1f\x8b\x08"
    return bytes(image)


def arm_zimage(*, start: int = 0, end: int = 4096) -> bytes:
    """A kernel for ARM of 32 bits."""
    return bytes(0x24) + struct.pack("<III", 0x016F2818, start, end) + bytes(4096 - 0x30)


def cpio_entry(name: bytes, content: bytes = b"", **fields: int) -> bytes:
    """One entry of a newc archive."""
    values = {"file_size": len(content), "name_size": len(name) + 1}
    _update(values, fields)
    numbers = [1, 0o100644, 0, 0, 1, 0, values["file_size"], 0, 0, 0, 0, values["name_size"], 0]
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name + b"\0"
    return _padded(head) + _padded(content)


def cpio_archive(*entries: bytes) -> bytes:
    """A whole archive of newc form; with one file if none is given."""
    return b"".join(entries or (cpio_entry(b"init", b"#!/bin/sh\n"),)) + cpio_entry(b"TRAILER!!!")


def ext2(*, blocks: int = 64, log_block_size: int = 0, label: bytes = b"root", size_bytes: int = 64 * 1024) -> bytes:
    """The superblock of an ext2 file system, and nothing behind it."""
    block = bytearray(1024)
    struct.pack_into("<II", block, 0, 16, blocks)
    struct.pack_into("<I", block, 0x18, log_block_size)
    struct.pack_into("<H", block, 0x38, 0xEF53)
    struct.pack_into("<16s16s", block, 0x68, b"\x11" * 16, label)
    return (bytes(1024) + bytes(block)).ljust(size_bytes, b"\0")


def mbr_disk(*, status: int = 0x80, kind: int = 0x83, start: int = 1, count: int = 127) -> bytes:
    """A disk of 64 KiB with one partition."""
    entry = struct.pack("<B3xB3xII", status, kind, start, count)
    return (bytes(446) + entry.ljust(64, b"\0") + b"\x55\xaa").ljust(64 * 1024, b"\xda")


def gpt_disk(*, last_sector: int = 127) -> bytes:
    """A disk of 64 KiB with the header of a GPT."""
    protective = mbr_disk(kind=0xEE)[:512]
    return (protective + b"EFI PART".ljust(32, b"\0") + struct.pack("<Q", last_sector)).ljust(64 * 1024, b"\0")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _update(values: dict[str, int], fields: dict[str, int]) -> None:
    unknown = fields.keys() - values.keys()
    assert not unknown, f"no such fields: {unknown}"
    values.update(fields)
