"""What happened to an image, as a person reads it: a row of a history, or a line of a watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tintype.cli.plain import Plain, cell, plain, size_text

if TYPE_CHECKING:
    from tintype.client import ImageEvent, Progress


def event_row(event: ImageEvent) -> tuple[str, ...]:
    """An event in a list, under :data:`EVENT_COLUMNS`."""
    return (
        str(event.version),
        str(plain(event.time)),
        event.type,
        event.actor,
        detail(event),
        str(event.position),
    )


EVENT_COLUMNS = ("Version", "Time", "Event", "Actor", "Detail", "Position")


def detail(event: ImageEvent) -> str:
    """What is worth telling of an event in a few words."""
    body = plain(event.payload)
    values = body if isinstance(body, dict) else {}
    match event.type:
        case "created":
            return _text(values, "attributes", "name")
        case "updated":
            changed = values["changed"]
            return ", ".join(_change(str(name), values) for name in changed) if isinstance(changed, list) else ""
        case "import_requested":
            return f"{_text(values, 'source', 'method')} {_text(values, 'source', 'uri')}".strip()
        case "staged" | "converted" | "published":
            size = _text(values, "blob", "size")
            return f"{_text(values, 'blob', 'disk_format')}, {size_text(int(size))}{_failed(values)}"
        case "verified":
            return _text(values, "verification", "verdict")
        case "attested":
            return _text(values, "key_id")
        case "copy_damaged" | "copy_healed" | "copy_removed":
            return _text(values, "ref", "store")
        case "copy_requested":
            return _asked(values.get("placement"))
        case "placed":
            return f"{_names(values.get('copies'))}{_failed(values)}".removeprefix("; ")
        case "deleted":
            until = _text(values, "purge_after")
            return f"can be restored until {until}" if until else ""
        case "conversion_skipped":
            return _text(values, "why")
        case "step_failed":
            return (
                f"{_text(values, 'step')}: {_text(values, 'failure', 'message')} [{_text(values, 'failure', 'reason')}]"
            )
        case _:
            return ""


def _change(name: str, values: dict[str, Plain]) -> str:
    """A field that was changed; of overrides, which few have and which win over all else, what they are now."""
    attributes = values.get("attributes")
    now = attributes.get(name) if isinstance(attributes, dict) else None
    if name != "overrides" or not isinstance(now, dict):
        return name
    return f"{name}: {', '.join(f'{key}={cell(value)}' for key, value in sorted(now.items())) or 'none'}"


def _asked(placement: Plain) -> str:
    """Where a copy is wanted."""
    if not isinstance(placement, dict):
        return ""
    return "all stores" if placement.get("in_all") else cell(placement.get("stores"))


def _failed(values: dict[str, Plain]) -> str:
    """The stores that could not take the bytes, behind those that did."""
    failed = values.get("failed")
    if not isinstance(failed, list) or not failed:
        return ""
    told = ", ".join(f"{_text(each, 'store')} [{_text(each, 'failure', 'reason')}]" for each in failed)
    return f"; not in {told}"


def _names(refs: Plain) -> str:
    return ", ".join(_text(ref, "store") for ref in refs) if isinstance(refs, list) else ""


def sentence(change: ImageEvent | Progress) -> str:
    """One of a stream of changes, in one line."""
    from tintype.client import ImageEvent

    when = str(plain(change.time))
    if isinstance(change, ImageEvent):
        return f"{when}  {change.position}  {change.image_id}  {change.type}  {detail(change)}".rstrip()
    if waiting_for := change.waiting_for:
        return f"{when}  -  {change.image_id}  {change.step} waits: {waiting_for.message} [{waiting_for.reason}]"
    total = "" if change.total is None else f" of {size_text(change.total)}"
    return f"{when}  -  {change.image_id}  {change.step}: {size_text(change.done)}{total}"


def _text(values: Plain, *path: str) -> str:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return "" if values is None else str(values)
