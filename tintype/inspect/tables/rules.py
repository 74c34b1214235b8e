"""What is refused of a disk in any format. The inspector checks it; each disk format declares it with its own rules."""

from __future__ import annotations

from tintype.domain.errors import AllocationRatioError, FormatMismatchError, VirtualSizeTooLargeError
from tintype.inspect.registry import Rule

DISK_RULES = (
    Rule(FormatMismatchError, "bytes of another format than was declared", cve="CVE-2024-40767"),
    Rule(VirtualSizeTooLargeError, "a guest disk larger than the site takes"),
    Rule(AllocationRatioError, "a guest disk of over 1 TiB that is too many times larger than its file"),
)
