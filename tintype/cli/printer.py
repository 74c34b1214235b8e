"""Where answers and errors go, and in which form."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

from tintype.cli.event_view import sentence as sentence_of
from tintype.cli.image_view import image_fields, property_rows, verification_text
from tintype.cli.plain import Plain, cell, escaped, plain, size_text, to_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tintype.client import ClientError, Image, ImageEvent, Progress

_PIPE_WIDTH = 10_000
"""A table that goes to a program is never cut."""

_KEY_WIDTH = 36
"""The first column is not folded for the others' sake below this: an id, or nearly every property's key."""


class OutputFormat(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class Printer:
    """Prints answers to standard output, and errors to standard error."""

    def __init__(self, output: OutputFormat) -> None:
        self.output = output

    @property
    def is_table(self) -> bool:
        """Whether a person reads."""
        return self.output is OutputFormat.TABLE

    def one(self, value: object, *, hidden: Collection[str] = ()) -> None:
        """Print one thing, field by field; a person is not shown the fields ``hidden``."""
        data = plain(value)
        if not self.is_table:
            self._data(data)
        elif isinstance(data, dict):
            self.table(("Field", "Value"), [(key, _cell(key, data[key])) for key in data if key not in hidden])

    def image(self, image: Image) -> None:
        """Print an image; a person is shown the properties that count, and where each comes from."""
        if self.is_table:
            self.table(("Field", "Value"), image_fields(image))
            if rows := property_rows(image):
                self.table(("Property", "Value", "Where from"), rows)
        else:
            self._data(plain(image))

    def many(self, values: Sequence[object], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a list: ``rows`` for a person, all of ``values`` otherwise."""
        if self.is_table:
            self.table(columns, rows)
        else:
            self._data([plain(value) for value in values])

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        from rich.box import ASCII
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=ASCII)
        for column in table.columns:
            column.overflow = "fold"
        # What a row is about is read at a glance: the columns beside it are folded first.
        table.columns[0].min_width = min(_KEY_WIDTH, max((len(escaped(row[0])) for row in rows), default=0))
        for row in rows:
            table.add_row(*(Text(escaped(cell)) for cell in row))
        _console(sys.stdout).print(table)

    def show(self, renderable: RenderableType) -> None:
        """Print what has been laid out for a person."""
        console = _console(sys.stdout)
        if sys.stdout.isatty():
            console.print(renderable)
            return
        with console.capture() as captured:
            console.print(renderable)
        # Columns are filled up with blanks, which are of no use to a program.
        print("\n".join(line.rstrip() for line in captured.get().splitlines()), flush=True)

    @contextmanager
    def in_place(self) -> Iterator[Callable[[RenderableType], None]]:
        """Show one thing after the other in the same place of a terminal; at the end what was there before is back."""
        from rich.live import Live

        with Live(console=_console(sys.stdout), screen=True, auto_refresh=False) as live:
            yield lambda renderable: live.update(renderable, refresh=True)

    def line(self, text: str) -> None:
        """Print one line."""
        print(escaped(text), flush=True)

    def change(self, change: ImageEvent | Progress) -> None:
        """Print one of a stream of changes in one line."""
        self.item(change, sentence_of(change))

    def item(self, value: object, sentence: str) -> None:
        """Print one of a stream of values in one line: ``sentence`` for a person, all of ``value`` otherwise."""
        match self.output:
            case OutputFormat.JSON:
                print(to_json(plain(value)), flush=True)
            case OutputFormat.YAML:
                print("---", flush=True)
                self._data(plain(value))
            case OutputFormat.TABLE:
                self.line(sentence)

    def note(self, text: str) -> None:
        """Tell the user something beside the answer."""
        print(escaped(text), file=sys.stderr, flush=True)

    def error(self, error: ClientError) -> None:
        """Print an error with its reason, and what to do about it."""
        self.failure(error.message, error.reason, error.hint, error.retryable, error.evidence)

    def failure(
        self, message: str, reason: str, hint: str, retryable: bool, evidence: Mapping[str, str] | None = None
    ) -> None:
        """Print that something failed."""
        if self.output is OutputFormat.JSON:
            body: dict[str, Plain] = {"reason": reason, "message": message, "hint": hint, "retryable": retryable}
            if evidence:
                body["evidence"] = dict(evidence)
            print(to_json({"error": body}), file=sys.stderr, flush=True)
            return
        self.note(f"error: {message} [{reason}]")
        for name, value in sorted((evidence or {}).items()):
            self.note(f"evidence: {name}: {value}")
        if hint:
            self.note(f"hint: {hint}")

    def _data(self, data: Plain) -> None:
        if self.output is OutputFormat.JSON:
            print(to_json(data, indent=2), flush=True)
            return
        import yaml

        # Escaped beyond ASCII: PyYAML prints the characters that turn the direction of writing as they are.
        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=False), end="", flush=True)


def image_row(image: Image) -> tuple[str, ...]:
    """An image in a list, under :data:`IMAGE_COLUMNS`."""
    return (
        image.id,
        image.name,
        image.status,
        image.disk_format or "",
        "" if image.size is None else size_text(image.size),
        image.visibility,
        ", ".join(image.tags),
    )


IMAGE_COLUMNS = ("ID", "Name", "Status", "Format", "Size", "Visibility", "Tags")


def _cell(key: str, value: Plain) -> str:
    return verification_text(value) if key == "verification" else cell(value)


def _console(file: TextIO) -> Console:
    from rich.console import Console

    width = None if file.isatty() else _PIPE_WIDTH
    return Console(file=file, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)
