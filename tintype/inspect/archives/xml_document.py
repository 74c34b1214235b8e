"""XML documents whose author may be anybody: no document type, no entities, and of bounded depth and size."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from tintype.domain.errors import MalformedImageError, UnsafeXmlError

MAX_DEPTH = 32
MAX_ELEMENTS = 20_000


class _BoundedBuilder(TreeBuilder):
    """Builds a tree that is not too deep and not too large."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._elements = 0

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        """Begin an element."""
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise UnsafeXmlError("the XML document is nested too deeply, or has too many elements")
        return super().start(tag, attrs)

    def end(self, tag: str) -> Element:
        """End an element."""
        self._depth -= 1
        return super().end(tag)


def parse_xml(data: bytes, what: str) -> Element:
    """Read a document.

    Raises:
        UnsafeXmlError: it declares a document type or entities, refers to others, or is too large.
        MalformedImageError: it is no XML.
    """
    parser = DefusedXMLParser(target=_BoundedBuilder(), forbid_dtd=True, forbid_entities=True, forbid_external=True)
    try:
        parser.feed(data)
        root: Element = parser.close()
    except DefusedXmlException as exc:
        raise UnsafeXmlError(f"{what} declares a document type or entities") from exc
    except (ParseError, ValueError, LookupError) as exc:
        raise MalformedImageError(f"{what} cannot be read: {exc!s:.80}") from exc
    return root


def local_name(qualified: str) -> str:
    """A tag's or an attribute's name without its namespace, which differs between the versions of a standard."""
    return qualified.rpartition("}")[2]


def attribute(element: Element, name: str) -> str:
    """The attribute of that local name; empty if there is none."""
    return next((value for key, value in element.attrib.items() if local_name(key) == name), "")


def children(element: Element, *names: str) -> Iterator[Element]:
    """The elements directly within, of these local names."""
    return (child for child in element if local_name(child.tag) in names)


def descendants(element: Element, *names: str) -> Iterator[Element]:
    """All elements within, of these local names."""
    return (child for child in element.iter() if local_name(child.tag) in names)


def text_of(element: Element, name: str) -> str:
    """The text of the first element within, of that local name; empty if there is none."""
    found = next(children(element, name), None)
    return (found.text or "").strip() if found is not None else ""
