"""In which stores an image shall be: the options of all commands that bring bytes there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from tintype.cli.session import Session, usage_error

if TYPE_CHECKING:
    from tintype.client import Image


class PlacementWords(TypedDict):
    """What the SDK's calls take."""

    stores: Sequence[str]
    all_stores: bool
    all_must_succeed: bool


@dataclass(frozen=True, slots=True)
class PlacementOptions:
    """Each field is an option, by :func:`tintype.cli.session.command`."""

    store: Annotated[
        list[str] | None,
        typer.Option(
            "--store",
            metavar="NAME[,NAME…]",
            help="The stores to write to, all at once; may be repeated. Default: the deployment's default store. "
            "`tintype store list` names them.",
        ),
    ] = None
    all_stores: Annotated[bool, typer.Option("--all-stores", help="Write to every store of the deployment.")] = False
    all_stores_must_succeed: Annotated[
        bool,
        typer.Option(
            "--all-stores-must-succeed",
            help="Fail if one of them fails. Default: fail only if all do, and tell the others as failed_stores.",
        ),
    ] = False

    @property
    def is_given(self) -> bool:
        """Whether a store is chosen."""
        return bool(self.store) or self.all_stores

    def words(self) -> PlacementWords:
        """What is asked for, as the SDK takes it; each store once.

        Raises:
            BadParameter: the options contradict each other, or a name is empty.
        """
        if self.store and self.all_stores:
            raise usage_error("--store names some stores, and --all-stores means every one: give one of them")
        if self.all_stores_must_succeed and not self.is_given:
            raise usage_error(
                "--all-stores-must-succeed is about several stores: give them with --store or --all-stores"
            )
        return {
            "stores": store_names(self.store or ()),
            "all_stores": self.all_stores,
            "all_must_succeed": self.all_stores_must_succeed,
        }


async def require_stores(session: Session, names: Sequence[str]) -> None:
    """Check that there are such stores, before an image is made that would stay without bytes.

    Raises:
        NotFoundError: reason ``STORE_NOT_FOUND``.
    """
    from tintype.client import ConfigurationError

    try:
        for name in names:
            await session.client.stores.get(name)
    except ConfigurationError:  # no importer is named: the catalog, or the import itself, finds out
        return


def store_names(given: Sequence[str]) -> Sequence[str]:
    """The names in lists with commas between, in their order, each once.

    Raises:
        BadParameter: one is empty.
    """
    names = [name.strip() for part in given for name in part.split(",")]
    if not all(names):
        raise usage_error("--store: a store's name is empty")
    return list(dict.fromkeys(names))


def failed_stores_note(image: Image) -> str:
    """What to tell of an image that is there, and not in every store that was asked for; empty if it is."""
    if not image.failed_stores:
        return ""
    failed = "; ".join(f"{each.store}: {each.failure.message} [{each.failure.reason}]" for each in image.failed_stores)
    names = ",".join(each.store for each in image.failed_stores)
    return f"note: not in every store: {failed}; to try again: tintype image copy {image.id} --store {names}"
