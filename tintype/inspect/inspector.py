"""Feeding an image to its format's parser while the bytes arrive: one pass, bounded memory, no second read.

It owns what is captured and when; what the bytes mean is the matter of the modules in ``formats/``.
"""

from __future__ import annotations

from collections.abc import Mapping

from tintype.domain.errors import AllocationRatioError, EmptyImageError, MalformedImageError, RefusedContentError
from tintype.domain.values import DiskFormat
from tintype.inspect.detection import format_of_head, format_of_tail, needing_declaration, reconcile
from tintype.inspect.fact_bounds import facts_of
from tintype.inspect.inspection import Findings, Inspection
from tintype.inspect.registry import Format, known_formats
from tintype.inspect.second_opinion import FIRST, SECOND, require_agreement, require_second_opinion, second_opinion
from tintype.inspect.stream import END, HEAD_SIZE, TAIL_SIZE, Parsing, Passage, Stream, Wish

ALLOCATION_RATIO_FLOOR = 1 << 40
"""Guest disks of up to so many bytes (1 TiB) may be as empty as they like: thin ones are what cloud images are."""


class Inspector:
    """Inspects one image. Not reusable; an image that was refused stays refused.

    Once the tables have been read, feeding only counts and keeps the last :data:`~tintype.inspect.stream.TAIL_SIZE`
    bytes: the bulk of the data is never copied.
    """

    def __init__(
        self,
        declared: DiskFormat | None,
        *,
        max_virtual_size: int | None = None,
        max_allocation_ratio: int | None = None,
    ) -> None:
        """Both limits are off when ``None``.

        ``max_virtual_size`` in bytes is the largest guest disk that is let in. ``max_allocation_ratio`` is how many
        times larger than its file a guest disk beyond :data:`ALLOCATION_RATIO_FLOOR` may be.
        """
        # So that a defect in a format's module, or a missing library, is not taken for one of the image.
        known_formats()
        require_second_opinion()
        self._declared = declared
        self._max_virtual_size = max_virtual_size
        self._max_allocation_ratio = max_allocation_ratio
        self._head: bytearray = bytearray()
        self._tail = b""
        self._size = 0
        self._stream: Stream | None = None
        self._format: Format | None = None
        self._disk_format: DiskFormat | None = None
        self._parsing: Parsing | None = None
        self._wanted: Wish | None = None
        self._captured = bytearray()
        self._findings: Findings | None = None
        self._refusal: RefusedContentError | None = None
        self._second_opinion: str | None = None

    @property
    def opinions(self) -> Mapping[str, str]:
        """What each program takes the bytes for, as far as it is known; also of an image that is refused."""
        first = self._format and str(self._format.disk_format)
        return {name: answer for name, answer in ((FIRST, first), (SECOND, self._second_opinion)) if answer}

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes, of any length; large chunks are cheapest.

        Raises:
            RefusedContentError: as soon as the bytes seen so far are reason enough.
        """
        self._check_not_refused()
        view = memoryview(chunk).cast("B")
        if not view:
            return
        start = self._size
        self._size += len(view)
        self._tail = bytes(view[-TAIL_SIZE:]) if len(view) >= TAIL_SIZE else (self._tail + view)[-TAIL_SIZE:]
        try:
            self._consume(start, view)
        except RefusedContentError as refusal:
            self._refusal = refusal
            raise
        except Exception as exc:
            # A parser that stumbles has met bytes that no program writes; nothing else may leave an inspection.
            self._refusal = MalformedImageError(f"the image's tables cannot be read ({type(exc).__name__})")
            raise self._refusal from exc

    def finish(self) -> Inspection:
        """The verdict, after the last byte.

        Raises:
            EmptyImageError: if there was not one byte.
            RefusedContentError: a subclass that says what is wrong with the image.
        """
        self._check_not_refused()
        try:
            return self._conclude()
        except RefusedContentError as refusal:
            self._refusal = refusal
            raise
        except Exception as exc:
            # A parser that stumbles has met bytes that no program writes; nothing else may leave an inspection.
            self._refusal = MalformedImageError(f"the image's tables cannot be read ({type(exc).__name__})")
            raise self._refusal from exc

    def _consume(self, start: int, view: memoryview) -> None:
        if self._stream is None:
            self._head += view[: HEAD_SIZE - len(self._head)]
            if len(self._head) < HEAD_SIZE:
                return
            self._begin()
            self._compare_opinions()
        while self._wanted is not None and self._wanted is not END:
            if not self._serve(self._wanted, start, view):
                return
            self._resume()

    def _serve(self, wish: Wish, start: int, view: memoryview) -> bool:
        """Give the parser what these bytes have of its wish; whether it is fulfilled."""
        done = wish.passed if isinstance(wish, Passage) else len(self._captured)
        begin = wish.offset + done - start
        piece = view[begin : begin + wish.length - done] if done < wish.length else view[:0]
        if isinstance(wish, Passage):
            if piece:
                wish.passed += len(piece)
                wish.sink(piece)
        else:
            self._captured += piece
        return done + len(piece) >= wish.length

    def _begin(self) -> None:
        """Take the head as known: find the format, and let its parser look for more."""
        self._stream = Stream(bytes(self._head), declared=self._declared, max_virtual_size=self._max_virtual_size)
        self._head.clear()
        self._second_opinion = second_opinion(self._stream.head)
        found = format_of_head(self._stream.head) or needing_declaration(self._declared)
        if found is not None:
            self._start(found, self._stream)

    def _start(self, found: Format, stream: Stream) -> None:
        self._format = found
        self._disk_format = reconcile(self._declared, found.disk_format, stream.head)
        self._parsing = found.parse(stream)
        self._advance(None)

    def _compare_opinions(self) -> None:
        """Only once the parser has seen the head: what it refuses says more than that two opinions disagree."""
        if self._format is not None and self._second_opinion is not None:
            require_agreement(self._format.disk_format, self._second_opinion)

    def _resume(self) -> None:
        """Hand the captured region to the parser, and take its next wish."""
        assert self._wanted is not None
        assert self._stream is not None
        end = self._wanted.offset + self._wanted.length
        self._stream.position = max(self._stream.position, end)
        data = bytes(self._captured)
        self._captured.clear()
        self._advance(data)

    def _advance(self, data: bytes | None) -> None:
        assert self._parsing is not None
        assert self._stream is not None
        try:
            self._wanted = next(self._parsing) if data is None else self._parsing.send(data)
        except StopIteration as stop:
            self._wanted, self._findings = None, stop.value
            return
        if self._wanted is not END:
            # The head is kept, so a region that begins in it need not wait for what has come already.
            self._serve(self._wanted, 0, memoryview(self._stream.head))

    def _conclude(self) -> Inspection:
        if self._size == 0:
            raise EmptyImageError("the image has no bytes")
        if self._stream is None:
            self._begin()
        assert self._stream is not None
        self._stream.size, self._stream.tail = self._size, self._tail
        if self._format is None:
            self._start(format_of_tail(self._tail), self._stream)
        elif self._format.needs_declaration:
            reconcile(self._declared, format_of_tail(self._tail).disk_format, self._stream.head)
        while self._wanted is not None:
            self._resume()
        assert self._findings is not None
        assert self._disk_format is not None
        assert self._format is not None
        self._compare_opinions()
        virtual_size = self._size if self._disk_format is DiskFormat.RAW else self._findings.virtual_size
        if virtual_size is not None:
            self._stream.require_admissible(virtual_size)
            self._require_allocation(virtual_size)
        facts = facts_of(self._format, self._findings.facts, virtual_size)
        return Inspection(self._disk_format, virtual_size, facts, self.opinions)

    def _require_allocation(self, virtual_size: int) -> None:
        """Check how much larger than its file the guest's disk is.

        Raises:
            AllocationRatioError: if it is more than the site allows, and so large that it matters.
        """
        ratio = self._max_allocation_ratio
        if ratio is None or virtual_size <= ALLOCATION_RATIO_FLOOR or virtual_size <= ratio * self._size:
            return
        raise AllocationRatioError(
            f"the guest's disk has {virtual_size} bytes, more than {ratio} times the file's {self._size} bytes"
        )

    def _check_not_refused(self) -> None:
        if self._refusal is not None:
            raise self._refusal
