"""What is read from the tables: one image, one operation, a page of a list.

A list is the union of what the caller owns and of what is open to all. Each half walks its own index to the page's end,
so that the time for a page does not grow with the number of images.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    TextClause,
    and_,
    exists,
    false,
    func,
    or_,
    select,
    tuple_,
    union,
)
from sqlalchemy.sql.elements import KeyedColumnElement

from services.catalog.filters import Term
from services.catalog.paging import SORTABLE, Key, OrderBy, fitting
from services.catalog.rows import image_of, operation_of
from services.catalog.schema import LISTED, WAITING, Tables
from tintype.domain.access import Caller
from tintype.domain.events import Step
from tintype.domain.image import Image, Operation
from tintype.domain.values import ImageId, OperationId, ProjectId, Visibility

_SECOND_ENTRY = 32
"""What a map's entry takes in a message besides its text: tags, lengths, numbers."""

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class StoredOperation:
    """An operation with what its row knows around it."""

    operation: Operation
    image_id: ImageId
    project: ProjectId
    step: Step | None
    position: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some images of a list, and where the last of them stands if there are more."""

    images: tuple[Image, ...]
    next_key: Key | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A deleted image that can be restored until ``purge_after``, in microseconds since 1970."""

    image_id: ImageId
    project: ProjectId
    version: int
    purge_after: int


def image_by_id(connection: Connection, tables: Tables, image_id: ImageId) -> Image | None:
    """The image, deleted or not, whosever it is."""
    state = connection.execute(select(tables.images.c.state).where(tables.images.c.id == image_id)).scalar()
    return image_of(state) if state is not None else None


def deletions_due(
    connection: Connection, tables: Tables, now: int, after: tuple[int, str], limit: int
) -> tuple[Waiting, ...]:
    """Deleted images whose time to be restored is over at ``now``, by that time and by id, behind ``after``."""
    return tuple(Waiting(*row) for row in connection.execute(due_query(tables, now, after, limit)))


def due_query(tables: Tables, now: int, after: tuple[int, str], limit: int) -> Select[Any]:
    """The statement behind :func:`deletions_due`."""
    columns = tables.images.c
    return (
        select(columns.id, columns.project, columns.version, columns.purge_after)
        .where(WAITING, columns.purge_after <= now, tuple_(columns.purge_after, columns.id) > after)
        .order_by(columns.purge_after, columns.id)
        .limit(limit)
    )


def operation_by_id(connection: Connection, tables: Tables, operation_id: OperationId) -> StoredOperation | None:
    """The operation, whosever it is."""
    columns = tables.operations.c
    query = select(columns.state, columns.image_id, columns.project, columns.step, columns.position)
    row = connection.execute(query.where(columns.id == operation_id)).one_or_none()
    return None if row is None else stored_operation(row)


def stored_operation(row: Row[*tuple[Any, ...]]) -> StoredOperation:
    """What a row of the operations' table says."""
    step = Step(row.step) if row.step else None
    return StoredOperation(operation_of(row.state), row.image_id, row.project, step, row.position)


def page_of_images(
    connection: Connection,
    tables: Tables,
    caller: Caller,
    terms: Sequence[Term],
    order: Sequence[OrderBy],
    after: Key | None,
    size: int,
) -> Page:
    """The next ``size`` images that the caller sees, behind ``after``; fewer where they fill a message."""
    rows = connection.execute(list_query(tables, caller, terms, order, after, size + 1)).all()
    images = [image_of(row.state) for row in rows[:size]]
    count = fitting(map(message_bound, (row.state for row in rows), images))
    last = rows[count - 1] if len(rows) > count else None
    return Page(
        tuple(images[:count]),
        tuple(getattr(last, f"key_{index}") for index in range(len(order))) if last else None,
    )


def message_bound(state: str, image: Image) -> int:
    """A number of bytes that the API's message of an image stays below; far cheaper than to make the message.

    The state's JSON is no smaller than the message, facts included, which it holds for the staged and for the
    published bytes, but for what an owner and an administrator have set: the message tells that a second time.
    """
    said = (*image.attributes.properties.items(), *image.attributes.overrides.items())
    told_again = sum(len(key.encode()) + len(str(value).encode()) + _SECOND_ENTRY for key, value in said)
    return len(state.encode()) + told_again


def list_query(
    tables: Tables, caller: Caller, terms: Sequence[Term], order: Sequence[OrderBy], after: Key | None, limit: int
) -> Select[Any]:
    """The statement behind a page of a list."""
    conditions: list[ColumnElement[bool] | TextClause] = [LISTED, *(_condition(tables, term) for term in terms)]
    if not any(term.field == "hidden" for term in terms):
        conditions.append(tables.images.c.hidden == false())
    if after is not None:
        conditions.append(_behind(tables, order, after))
    keys = [_sort_key(tables, column.field).label(f"key_{index}") for index, column in enumerate(order)]
    halves = [
        select(tables.images.c.state, *keys)
        .where(scope, *conditions)
        .order_by(*(_directed(_sort_key(tables, column.field), column) for column in order))
        .limit(limit)
        .subquery()
        for scope in _scopes(tables, caller, terms)
    ]
    # An own image that is open to all stands in both halves, with the same row: the union keeps it once.
    merged = union(*(select(half) for half in halves)).subquery() if len(halves) > 1 else halves[0]
    ordering = (_directed(merged.c[f"key_{index}"], column) for index, column in enumerate(order))
    return select(merged).order_by(*ordering).limit(limit)


def _scopes(tables: Tables, caller: Caller, terms: Sequence[Term]) -> list[ColumnElement[bool]]:
    """What the caller sees, in parts of which each is the head of an index, and nothing but that index's rows.

    They may overlap: to leave one's own images out of those open to all would be to walk over all of one's own.
    """
    columns = tables.images.c
    if caller.is_admin:
        return [columns.created_at.is_not(None)]
    open_to_all = [Visibility.PUBLIC.value]
    if any(term == Term("visibility", "=", Visibility.COMMUNITY.value) for term in terms):
        open_to_all.append(Visibility.COMMUNITY.value)  # as in Glance: seen by who asks for it
    return [columns.project == caller.project, *(columns.visibility == value for value in open_to_all)]


def _condition(tables: Tables, term: Term) -> ColumnElement[bool]:
    columns = tables.images.c
    if term.field == "tag":
        has_tag = exists().where(tables.tags.c.image_id == columns.id, tables.tags.c.tag == term.value)
        return has_tag if term.operator == "=" else ~has_tag
    if term.field == "properties":
        properties = tables.properties.c
        has_value = exists().where(
            properties.image_id == columns.id, properties.key == term.key, properties.term == term.value
        )
        return has_value if term.operator == "=" else ~has_value
    column = columns["project" if term.field == "owner" else term.field]
    if term.operator == "!=":
        return column.is_distinct_from(term.value)
    condition: ColumnElement[bool] = _COMPARE[term.operator](column, term.value)
    return condition


def _sort_key(tables: Tables, field: str) -> ColumnElement[Any]:
    column: KeyedColumnElement[Any] = tables.images.c[field]
    if not tables.images.c[field].nullable:
        return column
    # What is not known sorts lowest, on every database.
    return func.coalesce(column, -1 if SORTABLE[field] is int else "")


def _directed(key: ColumnElement[Any], column: OrderBy) -> ColumnElement[Any]:
    return key.desc() if column.is_descending else key.asc()


def _behind(tables: Tables, order: Sequence[OrderBy], after: Key) -> ColumnElement[bool]:
    """Rows behind ``after``: later in the first column in which they differ."""
    keys = [_sort_key(tables, column.field) for column in order]
    later = [
        key < value if column.is_descending else key > value
        for key, value, column in zip(keys, after, order, strict=True)
    ]
    cases = [
        and_(*(keys[earlier] == after[earlier] for earlier in range(index)), later[index])
        for index in range(len(order))
    ]
    # Implied by the cases, but a plain range on the first column is what a planner takes an index for.
    bound = keys[0] <= after[0] if order[0].is_descending else keys[0] >= after[0]
    return and_(bound, or_(*cases))
