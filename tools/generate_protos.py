"""Generates ``tintype/api`` from ``protos/``, or checks that what is committed is what would be generated.

Owns which files come out: messages, gRPC stubs for ``grpc.aio``, their type stubs, and one ``__init__.py`` per package.
Does not lint the protos, nor compare them with what was released: buf does both (see the Makefile).

    python tools/generate_protos.py            write tintype/api anew
    python tools/generate_protos.py --check    write nothing; exit 1 and name every file that differs
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("tintype", "api")
INIT = '"""Generated from ``protos/`` by ``make protos``; never edited by hand."""\n'
GENERATED_SUFFIXES = {".py", ".pyi"}


class GenerationError(Exception):
    """The protos cannot be turned into code; ``str()`` says why."""


def generate(output: Path) -> None:
    """Write the package ``tintype.api`` under ``output``.

    Raises:
        GenerationError: there are no protos, or protoc refused them.
    """
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    if not sources:
        raise GenerationError(f"no .proto file under {PROTOS}")
    command = [
        sys.executable,
        *("-m", "grpc_tools.protoc"),
        f"--proto_path={PROTOS}",
        f"--python_out={output}",
        f"--grpc_python_out={output}",
        f"--mypy_out=quiet:{output}",
        # Abstract servicers, so that mypy finds a method that nobody wrote.
        f"--mypy_grpc_out=quiet,only_async:{output}",
        *sources,
    ]
    # protoc finds its plug-ins on PATH; they are installed beside this interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if subprocess.run(command, check=False, env={**os.environ, "PATH": path}).returncode != 0:
        raise GenerationError("protoc refused the protos (see above)")
    _write_package_files(output / PACKAGE)


def _write_package_files(package: Path) -> None:
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__init__.py").write_text(INIT, encoding="utf-8")


def read_generated(root: Path) -> dict[str, bytes]:
    """Return the content of every source file of ``tintype.api`` under ``root``, by its path from there."""
    files = (path for path in (root / PACKAGE).rglob("*") if path.suffix in GENERATED_SUFFIXES)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def differing_files(committed: dict[str, bytes], generated: dict[str, bytes]) -> list[str]:
    """Name every file that is missing, left over or different, in order."""
    return sorted(name for name in committed.keys() | generated.keys() if committed.get(name) != generated.get(name))


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file differs")
    is_check = parser.parse_args().check
    with tempfile.TemporaryDirectory(prefix="tintype-protos-") as folder:
        scratch = Path(folder)
        try:
            generate(scratch)
        except GenerationError as exc:
            print(f"generate_protos: {exc}", file=sys.stderr)
            return 1
        if is_check:
            return _report(differing_files(read_generated(ROOT), read_generated(scratch)))
        shutil.rmtree(ROOT / PACKAGE, ignore_errors=True)
        shutil.copytree(scratch / PACKAGE, ROOT / PACKAGE)
    return 0


def _report(names: list[str]) -> int:
    for name in names:
        print(f"{name}: not what protos/ generates; run `make protos` and commit the result", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
