"""Compressed bytes are known by what they begin with."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile

import pytest
import zstandard

from tintype.inspect.compression.kinds import compression_of


def zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("disk.raw", content)
    return target.getvalue()


COMPRESSED = {
    "gzip": gzip.compress(b"disk"),
    "zip": zipped(b"disk"),
    "xz": lzma.compress(b"disk"),
    "zstd": zstandard.compress(b"disk"),
    "bz2": bz2.compress(b"disk"),
    "lzma": lzma.compress(b"disk", format=lzma.FORMAT_ALONE),
    "lz4": b"\x04\x22\x4d\x18" + bytes(20),
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(20),
    "rar": b"Rar!\x1a\x07\x01\x00" + bytes(20),
    "lzop": b"\x89LZO\x00\r\n\x1a\n" + bytes(20),
    "compress": b"\x1f\x9d\x90" + bytes(20),
}


@pytest.mark.parametrize("kind", COMPRESSED)
def test_kind_is_told_by_the_first_bytes(kind: str) -> None:
    assert compression_of(COMPRESSED[kind]) == kind
    assert compression_of(b"\0" + COMPRESSED[kind]) is None


@pytest.mark.parametrize("kind", ["gzip", "zip", "xz", "zstd", "bz2", "lzma"])
def test_nothing_is_compressed_in_too_few_bytes(kind: str) -> None:
    for length in range(3):
        assert compression_of(COMPRESSED[kind][:length]) is None


def test_empty_streams_are_compressed_ones() -> None:
    assert compression_of(bz2.compress(b"")) == "bz2"
    assert compression_of(b"PK\x05\x06" + bytes(18)) == "zip"
    assert compression_of(b"\x5f\x2a\x4d\x18" + bytes(8)) == "zstd"


@pytest.mark.parametrize("head", [b"", b"BZh9 is a text", b"QFI\xfb\0\0\0\3", b"\x5d" * 64, bytes(64), b"PK for short"])
def test_other_bytes_are_not_compressed(head: bytes) -> None:
    assert compression_of(head) is None
