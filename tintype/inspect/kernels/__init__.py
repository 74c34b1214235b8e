"""Which kernel some bytes begin with, by its header alone: Linux's boot images, ELF and PE.

It reads no file; whether the file is as long as its header says is for the caller to compare.
"""

from __future__ import annotations

from tintype.inspect.kernels.elf import elf
from tintype.inspect.kernels.image import arm64_image, arm_zimage, riscv_image, s390_image, zboot
from tintype.inspect.kernels.kernel import Kernel
from tintype.inspect.kernels.pe import pe
from tintype.inspect.kernels.x86 import x86_image

__all__ = ["Kernel", "identify_kernel"]

_READERS = (x86_image, zboot, arm64_image, riscv_image, arm_zimage, s390_image, elf, pe)
"""PE comes last: kernels that UEFI can start are of it as well."""


def identify_kernel(head: bytes) -> Kernel | None:
    """The kernel that begins with ``head``, at least 64 KiB of it or all; ``None`` if it is none that is known.

    Raises:
        MalformedImageError: its header contradicts itself.
        TruncatedError: it ends within its header.
    """
    for reader in _READERS:
        found = reader(head)
        if found is not None:
            return found
    return None
