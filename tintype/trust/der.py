"""The little of DER that is read and written by hand, where `cryptography` does not (ITU-T X.690)."""

from __future__ import annotations

from dataclasses import dataclass

SEQUENCE = 0x30
BIT_STRING = 0x03
OBJECT_IDENTIFIER = 0x06

_MAX_ELEMENTS = 64
_MAX_IDENTIFIER_BYTES = 64


class DerError(Exception):
    """Not DER, or not what is read here."""


@dataclass(frozen=True, slots=True)
class Element:
    """One tag with its content."""

    tag: int
    content: bytes


def elements(data: bytes) -> list[Element]:
    """The elements that ``data`` is a row of.

    Raises:
        DerError: it is not, or they are too many.
    """
    found: list[Element] = []
    position = 0
    while position < len(data):
        if len(found) == _MAX_ELEMENTS:
            raise DerError("too many elements")
        element, position = _element(data, position)
        found.append(element)
    return found


def object_identifier(element: Element) -> str:
    """The dotted form of an OBJECT IDENTIFIER (X.690, section 8.19).

    Raises:
        DerError: it is none.
    """
    content = element.content
    if element.tag != OBJECT_IDENTIFIER or not 0 < len(content) <= _MAX_IDENTIFIER_BYTES or content[-1] & 0x80:
        raise DerError("no object identifier")
    arcs: list[int] = []
    value = 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def encoded(tag: int, content: bytes) -> bytes:
    """One element."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + content


def encoded_identifier(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = b"".join(_base128(arc) for arc in (40 * first + second, *rest))
    return encoded(OBJECT_IDENTIFIER, content)


def _base128(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


def _element(data: bytes, position: int) -> tuple[Element, int]:
    if position + 2 > len(data):
        raise DerError("an element is cut short")
    tag, length = data[position], data[position + 1]
    start = position + 2
    if tag & 0x1F == 0x1F:
        raise DerError("a tag of several bytes")
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or start + size > len(data):
            raise DerError("a length that is not of DER")
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    if start + length > len(data):
        raise DerError("an element is cut short")
    return Element(tag, data[start : start + length]), start + length
