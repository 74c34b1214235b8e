"""What the converter can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.converter.plan import Preference, Qcow2Compression
from tintype.adapters.store_settings import StoreUserSettings
from tintype.domain.values import DiskFormat
from tintype.runtime.jail import JailLimits
from tintype.runtime.settings import ServiceSettings


class ConverterSection(ServiceSettings):
    """The table ``[converter]``."""

    concurrency: int = Field(default=2, ge=1, le=64, description="Images that are converted at once.")
    output_format: Literal["raw", "qcow2", "vmdk", "none"] = Field(
        default="raw", description="The format that imports are converted to; none leaves them as they come."
    )
    qcow2_compression: Literal["none", "zstd"] = Field(
        default="none", description="How the clusters are compressed where imports are converted to qcow2."
    )
    convert_docker: bool = Field(
        default=False, description="Make a raw ext4 disk of the files in docker and OCI archives that are imported."
    )
    unsafe_no_sandbox: bool = Field(
        default=False,
        description="Run untrusted tools without bubblewrap where it does not work: only limits hold them then.",
    )
    scratch_dir: Path = Field(
        default=Path("/var/tmp"),  # noqa: S108  # files in it are made by mkstemp or mkdtemp
        description="Directory for what has no file in a store: images of other stores, the files of archives.",
    )
    timeout_s: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds that one run of qemu-img may take, and reading its output.",
    )
    cpu_limit_s: int = Field(default=7200, ge=1, description="Seconds of processor time that one run may take.")
    memory_limit_bytes: int = Field(
        default=4 * 1024**3, ge=256 * 1024**2, description="Address space of one run, in bytes."
    )

    @property
    def preferred_format(self) -> DiskFormat | None:
        """The format to convert to; ``None`` for no conversion."""
        return None if self.output_format == "none" else DiskFormat(self.output_format)

    @property
    def preference(self) -> Preference:
        """What is wanted of imports."""
        return Preference(self.preferred_format, Qcow2Compression(self.qcow2_compression), self.convert_docker)

    @property
    def limits(self) -> JailLimits:
        """What one run of qemu-img may use up."""
        return JailLimits(
            wall_clock_s=self.timeout_s, cpu_s=self.cpu_limit_s, address_space_bytes=self.memory_limit_bytes
        )


class ConverterSettings(StoreUserSettings):
    """All that the converter reads."""

    converter: ConverterSection = ConverterSection()
