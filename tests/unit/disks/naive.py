"""The guest-disk digest once more, straight from the words of docs/guest-disk-digest.md, with nothing left out."""

from __future__ import annotations

from hashlib import sha256


def naive_digest(disk: bytes) -> str:
    """The digest of a disk that is in memory."""
    disk += bytes(-len(disk) % 512)
    padded = disk + bytes(-len(disk) % 1048576)
    chunks = [padded[offset : offset + 1048576] for offset in range(0, len(padded), 1048576)]
    root = sha256(b"\x02guest-disk-v1" + len(disk).to_bytes(8, "big") + _tree(chunks))
    return "guest-disk-v1:" + root.hexdigest()


def _tree(chunks: list[bytes]) -> bytes:
    if not chunks:
        return sha256(b"").digest()
    if len(chunks) == 1:
        return sha256(b"\x00" + chunks[0]).digest()
    k = 1
    while k * 2 < len(chunks):
        k *= 2
    return sha256(b"\x01" + _tree(chunks[:k]) + _tree(chunks[k:])).digest()


class SparseTree:
    """The same for disks that do not fit into memory: from the top down, over a few pieces of data."""

    def __init__(self, size: int, pieces: dict[int, bytes]) -> None:
        self._size = -(-size // 512) * 512
        self._pieces = pieces
        self._zeros: dict[int, bytes] = {}

    def digest(self) -> str:
        """The disk's digest."""
        tree = self._tree(0, -(-self._size // 1048576))
        return "guest-disk-v1:" + sha256(b"\x02guest-disk-v1" + self._size.to_bytes(8, "big") + tree).hexdigest()

    def _tree(self, first: int, count: int) -> bytes:
        begin, end = first * 1048576, (first + count) * 1048576
        here = {at: data for at, data in self._pieces.items() if at < end and at + len(data) > begin}
        if not here and count in self._zeros:
            return self._zeros[count]
        if count > 1:
            k = 1 << (count - 1).bit_length() - 1
            tree = sha256(b"\x01" + self._tree(first, k) + self._tree(first + k, count - k)).digest()
        elif count:
            chunk = bytearray(1048576)
            for at, data in here.items():
                for index, byte in enumerate(data):
                    if begin <= at + index < end:
                        chunk[at + index - begin] = byte
            tree = sha256(b"\x00" + chunk).digest()
        else:
            tree = sha256(b"").digest()
        if not here:
            self._zeros[count] = tree
        return tree
