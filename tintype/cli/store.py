"""``tintype store``: the stores of the deployment, for those who choose one, and for operators."""

from __future__ import annotations

from typing import Annotated

import typer

from tintype.cli.session import Session, command
from tintype.cli.store_view import FINDING_COLUMNS, STORE_COLUMNS, finding_row, store_fields, store_row

app = typer.Typer(help="Stores: where the bytes of images are, and how each store is.", no_args_is_help=True)

StoreArgument = Annotated[str, typer.Argument(metavar="NAME", help="The store's name, as `tintype store list` tells.")]

_LIST_EXAMPLES = """\b
Examples:
  tintype store list
  tintype store list -o json | jq -r '.[] | select(.mode == "read-write") | .name'
"""

_SHOW_EXAMPLES = """\b
Examples:
  tintype store show main
  tintype store show main -o json | jq -r .mode
"""

_CHECK_EXAMPLES = """\b
Examples:
  tintype store check main
  tintype store check main -o json | jq '.[] | select(.grade != "good")'
"""


@command(app, "list", epilog=_LIST_EXAMPLES)
async def list_stores(session: Session) -> None:
    """List the stores: the default one first, then by weight and name."""
    stores = await session.client.stores.list()
    session.printer.many(stores, STORE_COLUMNS, [store_row(store) for store in stores])


@command(app, "show", epilog=_SHOW_EXAMPLES)
async def show(session: Session, name: StoreArgument) -> None:
    """Show one store: what it is, how it is and why, and how much room it has."""
    store = await session.client.stores.get(name)
    if session.printer.is_table:
        session.printer.table(("Field", "Value"), store_fields(store))
    else:
        session.printer.one(store)


@command(app, "check", epilog=_CHECK_EXAMPLES)
async def check(session: Session, name: StoreArgument) -> None:
    """Have the service look at everything that should be known before a store is trusted; for administrators.

    Fails if a finding is bad; what is doubtful works, and is not how it should be in production. The importer does the
    looking, with its own rights. Where it does not run: `python -m services.importer.check_store NAME` on its host.
    """
    from tintype.client.store_models import require_good

    findings = await session.client.admin.examine_store(name)
    session.printer.many(findings, FINDING_COLUMNS, [finding_row(finding) for finding in findings])
    require_good(name, findings)
