"""``python -m tintype.embedded``: what ``tintype up`` becomes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tintype.domain.errors import ConfigurationError, TintypeError
from tintype.embedded.supervisor import run
from tintype.runtime.settings import LogSettings
from tintype.runtime.telemetry import configure_logging


def main() -> int:
    """Run a stack; 0 after it was stopped, 2 if it is set up wrongly, 1 if it did not start for another reason."""
    parser = argparse.ArgumentParser(prog="tintype up", description="Run the whole of Tintype on this machine.")
    parser.add_argument("--dir", type=Path, default=Path("tintype-data"), help="where it keeps its data")
    parser.add_argument("--config", type=Path, help="TOML file with settings of the services")
    parser.add_argument("--ready-file", type=Path, help="gets a JSON with all endpoints once every service is healthy")
    parser.add_argument("--tls", action="store_true", help="encrypt everything, and ask callers for a token")
    arguments = parser.parse_args()
    configure_logging(LogSettings(level="warning", format="console"), "up")
    try:
        run(arguments.dir, arguments.config, arguments.ready_file, is_encrypted=arguments.tls)
    except KeyboardInterrupt:
        return 130  # before there was anything to stop in order
    except TintypeError as exc:
        print(f"tintype up: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
