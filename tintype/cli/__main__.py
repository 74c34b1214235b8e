"""``tintype``, and ``python -m tintype.cli``."""

from __future__ import annotations

from tintype.cli.app import app


def main() -> None:
    """Run the command line, and exit."""
    app(prog_name="tintype")


if __name__ == "__main__":
    main()
