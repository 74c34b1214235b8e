"""``tintype admin``: work on the catalog, the log and the stores, for operators."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from tintype.cli.arguments import MAX_INT64
from tintype.cli.bars import byte_bar, count_bar
from tintype.cli.log_view import print_faults
from tintype.cli.plain import cell, is_empty, plain
from tintype.cli.scrub_view import FINDING_COLUMNS, finding_row, scrub_row
from tintype.cli.session import Session, command
from tintype.cli.store_view import SWEEP_COLUMNS, sweep_row, swept_row

app = typer.Typer(help="Work on the catalog, the log and the stores, for operators.", no_args_is_help=True)


@command(app, "rebuild")
async def rebuild(session: Session) -> None:
    """Build the catalog's tables anew from the log, beside those in use, and switch."""
    from tintype.client import ServiceDefectError

    state = None
    with count_bar("events") as report:
        async with aclosing(session.client.admin.rebuild()) as states:
            async for state in states:
                if report:
                    report(state.position, state.head)
    if state is None or not state.switched:
        raise ServiceDefectError("the rebuild ended before its tables were in use")
    session.printer.one(state)


@command(app, "checkpoint")
async def checkpoint(
    session: Session,
    max_position: Annotated[
        int, typer.Option("--max-position", min=0, max=MAX_INT64, help="The newest one of this log position or before.")
    ] = 0,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Keep it here, for `check-log --since`.")
    ] = None,
) -> None:
    """Show the newest signed checkpoint of the log."""
    found = await session.client.admin.checkpoint(max_position=max_position)
    if save:
        from tintype.client.partial_file import named_when_done

        async with named_when_done(save, fsync=True) as file:
            file.write(found.envelope.encode())
    if session.printer.is_table:
        data = plain(found)
        fields = data.items() if isinstance(data, dict) else ()
        rows = [(key, cell(value)) for key, value in fields if key != "envelope" and not is_empty(value)]
        session.printer.table(("Field", "Value"), rows)
    else:
        session.printer.one(found)


@command(app, "check-log")
async def check_log(
    session: Session,
    since: Annotated[
        Path | None,
        typer.Option("--since", metavar="FILE", help="A saved checkpoint: nothing before it may have changed or gone."),
    ] = None,
    trust_store: Annotated[
        Path | None,
        typer.Option(
            "--trust-store",
            metavar="DIR",
            help="Certificates of the service's keys in DIR/service-keys, as `tintype key export` writes them. "
            "Default: client.trust_store, or the keys that the signer lists.",
        ),
    ] = None,
) -> None:
    """Read the whole log, and verify the chain of hashes of every image, and all signed checkpoints."""
    saved = since.read_bytes() if since else None
    with count_bar("events") as report:
        found = await session.client.events.check_log(since=saved, trust_store=trust_store, on_progress=report)
    session.printer.one(found, hidden=("faults",))
    print_faults(session.printer, found)
    if found.keys_from == "signer" and session.printer.is_table:
        session.printer.note("note: the signer's own word was taken for its keys; give --trust-store to be sure")
    found.require_sound()


@command(app, "scrub")
async def scrub(
    session: Session,
    store: Annotated[str, typer.Option("--store", metavar="NAME", help="Only copies in this store.")] = "",
    rate: Annotated[
        float, typer.Option("--rate", min=0, max=1e6, metavar="MB/S", help="Megabytes to read a second; 0 is no limit.")
    ] = 0,
    image: Annotated[str, typer.Option("--image", metavar="IMAGE", help="Only this image: its id or name.")] = "",
) -> None:
    """Read stored copies again, compare them with their digests, mark damaged ones, and heal them from other stores."""
    from tintype.client import ScrubFinding, ScrubReport

    image_id = await session.image_id(image) if image else ""
    # Less than a byte a second would be no limit.
    rate_bytes_s = max(1, int(rate * 1e6)) if rate else 0
    findings: list[ScrubFinding] = []
    state = None
    with byte_bar("scrub") as report:
        states = session.client.admin.scrub(store=store, rate_bytes_s=rate_bytes_s, image_id=image_id)
        async with aclosing(states):
            async for state in states:
                if state.finding:
                    findings.append(state.finding)
                if report:
                    report(state.done, state.total or None)
    found = ScrubReport(state.done if state else 0, state.copies if state else 0, tuple(findings))
    if session.printer.is_table:
        session.printer.table(("Copies", "Bytes read", "Not sound", "Healed"), [scrub_row(found)])
        if findings:
            session.printer.table(FINDING_COLUMNS, [finding_row(finding) for finding in findings])
    else:
        session.printer.one(found)
    found.require_sound()


_SWEEP_EXAMPLES = """\b
Examples:
  tintype admin sweep --dry-run                  what would be removed
  tintype admin sweep --store main -o json
"""


@command(app, "sweep", epilog=_SWEEP_EXAMPLES)
async def sweep(
    session: Session,
    store: Annotated[str, typer.Option("--store", metavar="NAME", help="Only this store.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove bytes in the stores that no image wants, and find copies that images have lost.

    What is being written, or is too young to judge, is left. Fails if a copy is missing, or a store was not swept.
    """
    from tintype.client import SweepFinding, SweepReport

    findings: list[SweepFinding] = []
    state = None
    with count_bar("blobs") as report:
        async with aclosing(session.client.admin.sweep(store=store, dry_run=dry_run)) as states:
            async for state in states:
                if state.finding:
                    findings.append(state.finding)
                if report:
                    report(state.blobs, None)
    found = SweepReport(state.blobs if state else 0, tuple(findings))
    if session.printer.is_table:
        session.printer.table(("Blobs", "Findings", "Removed", "Room reclaimed"), [sweep_row(found)])
        if findings:
            session.printer.table(SWEEP_COLUMNS, [swept_row(finding, dry_run=dry_run) for finding in findings])
    else:
        session.printer.one(found)
    found.require_swept()
