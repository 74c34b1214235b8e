"""The systems' own programs that come from PyPI, in a virtual environment of their own below ~/.cache/tintype."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("python-swiftclient==4.11.0", "obstore==0.12.1")

_OBSTORE = """
import os, sys
from pathlib import Path
import obstore
from obstore.store import S3Store
store = S3Store(
    os.environ["BUCKET"], endpoint=os.environ["ENDPOINT"], region="us-east-1", virtual_hosted_style_request=False,
    access_key_id=os.environ["ACCESS_KEY"], secret_access_key=os.environ["SECRET_KEY"],
    client_options={"allow_http": True},
)
action, name, path = sys.argv[1:4]
if action == "put":
    obstore.put(store, name, Path(path), use_multipart=True)
elif action == "delete":
    obstore.delete(store, name)
else:
    with open(path, "wb") as file:
        for piece in obstore.get(store, name).stream(min_chunk_size=1024 * 1024):
            file.write(piece)
"""
"""As obstore's own documentation has it: ``put NAME PATH`` in parts, several at once, ``get`` and ``delete``."""


def prepared_tools() -> Path:
    """The environment's directory of programs; it is made now, if it is not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tintype"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = cache / "-".join(("store-tools", *(package.partition("==")[2] for package in PACKAGES), version))
    programs = home / "venv" / "bin"
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
        pip: list[str | Path] = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True)
        (home / "complete").touch()
    (home / "obstore_example.py").write_text(_OBSTORE)
    return programs


def obstore_example(programs: Path) -> list[str]:
    """How it is called: what follows is ``put``, ``get`` or ``delete``, a name, and a path."""
    return [str(programs / "python"), str(programs.parents[1] / "obstore_example.py")]
