"""Running ``qemu-img convert`` in the jail: its limits, its progress, and what its failures mean.

It owns nothing of the decision to convert (:mod:`services.converter.plan`). The source must have been inspected and
verified before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from services.converter.plan import Qcow2Compression, SourceDisk, qemu_img_arguments
from tintype.domain.errors import ConfigurationError, ConversionFailedError, StoreFullError, TintypeError
from tintype.domain.values import DiskFormat
from tintype.runtime.jail import JailLimits, JailResult, Sandbox, run_jailed

QEMU_IMG = Path("/usr/bin/qemu-img")
TOOL = "qemu-img"

_PROGRESS = re.compile(r"\s*\((\d{1,3}(?:\.\d+)?)/100%\)\s*")
_VERSION = re.compile(r"qemu-img version (\d+(?:\.\d+)*)")
_VERSION_TIMEOUT_S = 30.0
_MAX_MESSAGE_LENGTH = 300
_OUTPUT_OVERHEAD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ConversionResult:
    """What made the output, for the attestation; ``arguments`` without the names of files on this machine."""

    tool: str
    version: str
    arguments: tuple[str, ...]
    limits: JailLimits


async def qemu_img_version(sandbox: Sandbox) -> str:
    """The version of the installed qemu-img, such as ``7.2.22``.

    Raises:
        ConfigurationError: if it is not installed, or does not run.
    """
    lines: list[str] = []
    result = await run_jailed(
        [str(QEMU_IMG), "--version"],
        read_only=[],
        writable=[],
        limits=JailLimits(wall_clock_s=_VERSION_TIMEOUT_S),
        on_stdout_line=lines.append,
        sandbox=sandbox,
    )
    match = _VERSION.match(lines[0]) if lines else None
    if not result.is_success or match is None:
        told = _told(result.stderr) or "it says nothing"
        raise ConfigurationError(f"{QEMU_IMG} (package qemu-utils) does not run: {told}")
    return match[1]


async def convert(
    source: Path,
    source_disk: SourceDisk,
    output: Path,
    output_format: DiskFormat,
    *,
    virtual_size: int,
    compression: Qcow2Compression = Qcow2Compression.NONE,
    limits: JailLimits,
    sandbox: Sandbox,
    on_progress: Callable[[float], None],
    version: str | None = None,
) -> ConversionResult:
    """Write the disk in ``source`` to ``output``, an existing and empty file, in another format.

    ``virtual_size`` in bytes bounds what is written. ``on_progress`` gets fractions from 0 to 1, rising. ``version``
    spares asking qemu-img for it. If this fails or is cancelled the content of ``output`` is undefined.

    Raises:
        ConversionFailedError: qemu-img refused the image, or came to a limit.
        StoreFullError: there is no room for the output.
        ConfigurationError: qemu-img or the sandbox does not run.
        InvalidFormatError: there is no such conversion.
    """
    arguments = qemu_img_arguments(source_disk, output_format, str(source), compression)
    version = version or await qemu_img_version(sandbox)
    largest_output = virtual_size + virtual_size // 16 + _OUTPUT_OVERHEAD_BYTES
    limits = replace(limits, file_size_bytes=min(limits.file_size_bytes, largest_output))
    result = await run_jailed(
        [str(QEMU_IMG), *arguments, str(output)],
        read_only=[source],
        writable=[output],
        limits=limits,
        on_stdout_line=_ProgressReader(on_progress),
        sandbox=sandbox,
    )
    if not result.is_success:
        raise _failure(result, source, output)
    named = qemu_img_arguments(source_disk, output_format, "source", compression)
    return ConversionResult(TOOL, version, named, limits)


class _ProgressReader:
    """Takes the lines of ``-p``, and tells what rises."""

    def __init__(self, on_progress: Callable[[float], None]) -> None:
        self._on_progress = on_progress
        self._last = 0.0

    def __call__(self, line: str) -> None:
        match = _PROGRESS.fullmatch(line)
        fraction = min(float(match[1]) / 100, 1.0) if match else 0.0
        if fraction > self._last:
            self._last = fraction
            self._on_progress(fraction)


def _failure(result: JailResult, source: Path, output: Path) -> TintypeError:
    if result.is_timed_out:
        return ConversionFailedError("qemu-img did not end within the time that the site allows")
    if result.exit_code < 0:
        return ConversionFailedError(f"qemu-img was ended by signal {-result.exit_code}, as if at a limit")
    if result.stderr.startswith("bwrap: "):
        return ConfigurationError(f"the sandbox does not start: {_told(result.stderr)}")
    if "No space left on device" in result.stderr or "Disk quota exceeded" in result.stderr:
        return StoreFullError("the store has no room for the converted image")
    text = result.stderr.replace(str(source), "the image").replace(str(output), "the output")
    return ConversionFailedError(_told(text) or f"qemu-img ended with exit code {result.exit_code}")


def _told(stderr: str) -> str:
    """One bounded line without control characters or paths: it is shown to users."""
    text = " ".join("".join(c if c.isprintable() else " " for c in stderr).split())
    return re.sub(r"(?<![\w.])/[^\s'\":,]+", "[path]", text)[:_MAX_MESSAGE_LENGTH]
