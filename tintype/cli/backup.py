"""``tintype admin backup``, ``check-backup`` and ``restore``: the log in a file, and back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.bars import count_bar
from tintype.cli.log_view import print_faults
from tintype.cli.session import Session, command, usage_error

if TYPE_CHECKING:
    from tintype.client import LogCheck

FilesArgument = Annotated[
    list[Path], typer.Argument(metavar="FILE…", help="A full backup, and those that continue it, oldest first.")
]
TrustStoreOption = Annotated[
    Path | None,
    typer.Option(
        "--trust-store",
        metavar="DIR",
        help="Certificates of the service's keys in DIR/service-keys, as `tintype key export` writes them; "
        "without, signatures of checkpoints are not verified.",
    ),
]

_BACKUP_EXAMPLES = """\b
Examples:
  tintype admin backup full.tintype
  tintype admin backup next.tintype --since full.tintype
  tintype admin backup - | ssh elsewhere 'cat > full.tintype'
"""

_RESTORE_EXAMPLES = """\b
Examples (stop every service first):
  tintype admin restore full.tintype --dry-run
  tintype admin restore full.tintype next.tintype
"""


def register(app: typer.Typer) -> None:
    """Add the commands to ``tintype admin``."""
    command(app, "backup", epilog=_BACKUP_EXAMPLES)(backup)
    command(app, "check-backup", offline_with="files")(check_backup)
    command(app, "restore", epilog=_RESTORE_EXAMPLES)(restore)


async def backup(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write; - is standard output.")],
    since: Annotated[
        Path | None,
        typer.Option("--since", metavar="FILE", help="A former backup: write only what came later, to continue it."),
    ] = None,
) -> None:
    """Write the log with its signed checkpoints to a file, while the services go on.

    Not in it: the images' bytes, the service's keys, and the states of stores.
    """
    if file == "-" and sys.stdout.isatty():
        raise usage_error("a backup is not for a terminal: redirect the output, or name a FILE")
    with count_bar("messages") as report:
        made = await session.client.admin.backup(
            sys.stdout.buffer if file == "-" else Path(file), since=since, on_progress=report
        )
    if file == "-":
        session.printer.note(f"position {made.position}, {made.size_bytes} bytes, digest {made.digest}")
    else:
        session.printer.one(made)


async def check_backup(session: Session, files: FilesArgument, trust_store: TrustStoreOption = None) -> None:
    """Verify backups without any service: that they are whole, follow one another, and hold a sound log."""
    from tintype.client import check_backup as check

    with count_bar("events") as report:
        found = await check(files, trust_store=trust_store, on_progress=report)
    if session.printer.is_table:
        rows = [
            (str(path), str(each.after), str(each.position), str(each.checkpoints), each.time.isoformat())
            for path, each in zip(files, found.backups, strict=True)
        ]
        session.printer.table(("Backup", "After", "Position", "Checkpoints", "Time"), rows)
        _print_log(session, found.log)
    else:
        session.printer.one(found)
    found.log.require_sound()


async def restore(
    session: Session,
    files: FilesArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Verify the files, look at what is there, and write nothing.")
    ] = False,
    replicas: Annotated[
        int, typer.Option("--replicas", min=0, max=5, help="Of streams that are made; 0 is as many as there were.")
    ] = 0,
    trust_store: TrustStoreOption = None,
    unsafe_accept_faults: Annotated[
        bool,
        typer.Option("--unsafe-accept-faults", help="Restore although the log in the backup is damaged; it stays so."),
    ] = False,
) -> None:
    """Put the log back into a NATS that lost it. Stop every service first.

    All files are verified before anything is written. A restore that broke off goes on when it is run again. A NATS
    that has another log is left as it is.
    """
    with count_bar("messages") as report:
        done = await session.client.admin.restore(
            files,
            dry_run=dry_run,
            replicas=replicas,
            trust_store=trust_store,
            unsafe_accept_faults=unsafe_accept_faults,
            on_progress=report,
        )
    session.printer.one(done, hidden=("log",))
    if session.printer.is_table:
        _print_log(session, done.log)


def _print_log(session: Session, found: LogCheck) -> None:
    session.printer.one(found, hidden=("faults",))
    print_faults(session.printer, found)
    if found.checkpoints and found.keys_from == "nobody":
        session.printer.note("note: no signature of a checkpoint was verified; give --trust-store to be sure")
