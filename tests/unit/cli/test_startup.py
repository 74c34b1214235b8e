"""Asking for help costs no gRPC and no NATS."""

from __future__ import annotations

import json
import subprocess
import sys


def test_help_imports_neither_grpc_nor_nats() -> None:
    code = "import json, sys, tintype.cli.app; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)

    assert "typer" in modules
    assert not {"grpc", "nats", "google.protobuf", "tintype.client", "rich", "yaml"} & set(modules)
