"""``python -m services.importer.mark_share NAME``: marks the mounted share of a guarded store as that store's, once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from services.importer.settings import ImporterSettings
from tintype.adapters.filesystem.mount_marker import initialise
from tintype.adapters.filesystem.settings import FileStoreSettings
from tintype.domain.errors import ConfigurationError, TintypeError
from tintype.runtime.settings import load


def main(argv: Sequence[str] | None = None) -> int:
    """Write the marker, and print the share's id for ``share_id``; 2 if set up wrongly, 1 if the share refuses."""
    parser = argparse.ArgumentParser(
        prog="python -m services.importer.mark_share",
        description="Marks the mounted share of a store with require_mount as that store's; prints the share's id.",
    )
    parser.add_argument("name", metavar="NAME", help="of the table [stores.NAME]")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the TOML file with the settings")
    arguments = parser.parse_args(argv)
    try:
        store = load(ImporterSettings, arguments.config).stores.get(arguments.name)
        if not isinstance(store, FileStoreSettings):
            raise ConfigurationError(f"stores.{arguments.name[:80]}: no such store, or not a directory")
        if not store.require_mount:
            raise ConfigurationError(f"stores.{arguments.name}.require_mount: set it to true: only its share is marked")
        print(initialise(arguments.name, store.path, mount_point=store.mount_point).share_id)
    except TintypeError as exc:
        print(f"mark_share: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
