"""Finding the text that Linux greets with, "Linux version 6.1.0 (…", in an uncompressed kernel that passes by."""

from __future__ import annotations

import re

_PREFIX = b"Linux version "
_BANNER = re.compile(_PREFIX + rb"(\d[^\n\0]{0,254})")
_LONGEST = len(_PREFIX) + 255


class BannerSearch:
    """A sink for the kernel's bytes; ``text`` is the banner without its first words once it has come."""

    def __init__(self) -> None:
        self.text = ""
        self._rest = b""

    def take(self, piece: memoryview) -> None:
        """Look into the next bytes; nothing more than a banner's length of them is kept."""
        if self.text:
            return
        data = self._rest + bytes(piece)
        match = _BANNER.search(data)
        if match is None or (match.end() == len(data) and len(match[0]) < _LONGEST):
            # It may be cut here, and go on with the next piece.
            self._rest = data[match.start() if match else -len(_PREFIX) :]
            return
        self.text, self._rest = match[1].decode("utf-8", "replace"), b""
