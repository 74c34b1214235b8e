"""ISOs, kernels, ramdisks and machine images with anything changed in them: a verdict or a refusal, never a stumble."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from contextlib import suppress

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tintype.domain.errors import MalformedImageError, RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.inspect import Inspection, Inspector
from tintype.inspect.compression.head import MAX_OUTPUT, first_bytes
from tintype.testing.sound_boot import sound_boot_images

SAMPLES = sound_boot_images()
OFFSETS = (0, 0x38, 0x1B8, 0x1F0, 0x230, 1024, 4096, 16 * 2048, 16 * 2048 + 80, 17 * 2048, 21 * 2048, 22 * 2048)
PATCHES = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\x7f" * 4, b"00000000", b"FFFFFFFF", b"\x80\0\0\0"]),
)


def verdict(declared: DiskFormat, content: bytes, cuts: list[int]) -> Inspection | type[RefusedContentError]:
    inspector = Inspector(declared, max_virtual_size=1 << 50)
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            inspector.feed(content[begin:end])
        return inspector.finish()
    except RefusedContentError as refusal:
        return meant(refusal)


def meant(refusal: RefusedContentError) -> type[RefusedContentError]:
    """Its class; a parser that stumbled has refused nothing."""
    assert "cannot be read (" not in str(refusal), refusal.__cause__
    return type(refusal)


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_image_is_sound_before_it_is_spoiled(number: int) -> None:
    declared, content = SAMPLES[number]
    assert isinstance(verdict(declared, content, []), Inspection)


@given(
    sample=st.sampled_from(SAMPLES),
    patches=st.lists(st.tuples(st.sampled_from(OFFSETS), st.integers(0, 256), PATCHES), max_size=5),
    cut_short=st.one_of(st.none(), st.integers(1, 60_000)),
    cuts=st.lists(st.integers(0, 60_000), max_size=3),
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_spoiled_image_is_judged_alike_however_it_is_cut(
    sample: tuple[DiskFormat, bytes],
    patches: list[tuple[int, int, bytes]],
    cut_short: int | None,
    cuts: list[int],
) -> None:
    declared, content = sample
    spoiled = bytearray(content)
    for base, offset, patch in patches:
        spoiled[base + offset : base + offset + len(patch)] = patch
    image = bytes(spoiled[:cut_short])
    within = sorted(min(cut, len(image)) for cut in cuts)
    assert verdict(declared, image, within) == verdict(declared, image, [])


@given(content=st.binary(max_size=4096), magic=st.sampled_from([content[:600] for _, content in SAMPLES]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_behind_any_magic_lead_to_a_verdict(content: bytes, magic: bytes) -> None:
    for declared in (DiskFormat.AKI, DiskFormat.ARI, DiskFormat.AMI):
        for length in (4, 64, 600):
            outcome = verdict(declared, magic[:length] + content, [])
            assert isinstance(outcome, Inspection) or issubclass(outcome, RefusedContentError)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
}  # fmt: skip


@pytest.mark.parametrize("compression", COMPRESS)
def test_no_more_is_decompressed_than_is_looked_at(compression: str) -> None:
    bomb = COMPRESS[compression](bytes(32 << 20))
    assert first_bytes(compression, bomb) == bytes(MAX_OUTPUT)


@given(content=st.binary(max_size=512))
@pytest.mark.parametrize("compression", COMPRESS)
@settings(max_examples=60, deadline=None)
def test_damaged_stream_is_refused_or_tells_its_beginning(compression: str, content: bytes) -> None:
    stream = COMPRESS[compression](b"content" * 100)[:20] + content
    with suppress(MalformedImageError):
        assert len(first_bytes(compression, stream) or b"") <= MAX_OUTPUT
