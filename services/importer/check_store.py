"""``python -m services.importer.check_store NAME``: looks at what should be known before a store is trusted."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from services.importer.settings import ImporterSettings
from tintype.adapters.store_settings import StoreSettings
from tintype.adapters.stores import open_store
from tintype.domain.errors import ConfigurationError, TintypeError
from tintype.ports.image_store import Finding, Grade
from tintype.runtime.settings import load


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings; 1 if one is bad or the store does not open, 2 if set up wrongly."""
    parser = argparse.ArgumentParser(
        prog="python -m services.importer.check_store",
        description="Looks at a store as the services would use it: access, rights, room, durability. "
        "Exits with 1 if anything is bad.",
    )
    parser.add_argument("name", metavar="NAME", help="of the table [stores.NAME]")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the TOML file with the settings")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="lines for people, or JSON")
    arguments = parser.parse_args(argv)
    try:
        stores = load(ImporterSettings, arguments.config).stores
        if arguments.name not in stores:
            raise ConfigurationError(f"stores.{arguments.name[:80]}: no such store; there are: {', '.join(stores)}")
        findings = asyncio.run(_examined(arguments.name, stores[arguments.name]))
    except TintypeError as exc:
        print(f"check_store: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, ConfigurationError) else 1
    print(_as_json(findings) if arguments.output == "json" else _as_text(findings))
    return 1 if any(finding.grade is Grade.BAD for finding in findings) else 0


async def _examined(name: str, settings: StoreSettings) -> Sequence[Finding]:
    store = await open_store(name, settings)
    try:
        return await store.examine()
    finally:
        await store.aclose()


def _as_json(findings: Sequence[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def _as_text(findings: Sequence[Finding]) -> str:
    return "\n".join(_as_line(finding) for finding in findings)


def _as_line(finding: Finding) -> str:
    advice = f". {finding.advice}" if finding.advice else ""
    return f"{finding.grade:<8}  {finding.name}: {finding.found}{advice}"


if __name__ == "__main__":
    sys.exit(main())
