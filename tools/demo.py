"""The main job, from nothing to a proven image: `make demo`.

Starts the embedded stack, makes a qcow2 with an ext4 file system full of files, signs it as a publisher does, serves it
over HTTP, imports it with live progress and conversion to raw, downloads it again while its whole chain of custody is
proven, and compares the guest's disk. Leaves nothing behind; the exit code is 0 only if every step was true.
"""

from __future__ import annotations

import contextlib
import filecmp
import functools
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

TINTYPE = str(Path(sys.executable).with_name("tintype"))
DISK_SIZE = 256 * 1024 * 1024
FILES = 600
START_TIMEOUT_S = 60


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, format: str, *args: object) -> None:  # the name is the base class's
        """Say nothing."""


def say(text: str) -> None:
    """Announce a step."""
    print(f"\n\033[1m==> {text}\033[0m" if sys.stdout.isatty() else f"\n==> {text}", flush=True)


def program(name: str) -> str:
    """The path of a system program, also where /usr/sbin is not on the PATH."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if found is None:
        sys.exit(f"demo: {name} is missing: run tools/install-system-packages")
    return found


def make_disk(directory: Path) -> tuple[Path, Path]:
    """A raw disk with a real ext4 file system, and the same disk as qcow2."""
    content = directory / "content"
    chance = random.Random(1839)  # noqa: S311  # the year of the daguerreotype: the same disk every time
    for number in range(FILES):
        path = content / f"plates/{number % 20:02}/{number:04}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.randrange(1, 200_000)))
    (content / "hello.txt").write_text("a tintype is its own negative\n")
    raw, qcow2 = directory / "disk.raw", directory / "disk.qcow2"
    with raw.open("wb") as file:
        file.truncate(DISK_SIZE)
    run(program("mke2fs"), "-q", "-t", "ext4", "-d", str(content), str(raw))
    run(program("qemu-img"), "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2))
    return raw, qcow2


def make_publisher(directory: Path) -> None:
    """A publisher's key, and its certificate where the signer looks for it."""
    certificates = directory / "certificates"
    certificates.mkdir()
    run(
        *(program("openssl"), "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-days", "30", "-subj", "/CN=Demo"),
        *("-keyout", str(directory / "publisher.key"), "-out", str(certificates / "publisher.pem")),
    )
    (directory / "publisher.key").chmod(0o600)


def run(*command: str, env: dict[str, str] | None = None) -> None:
    """Run a program that must succeed; what it prints is shown."""
    if subprocess.run(command, env=env, check=False).returncode != 0:
        sys.exit(f"demo: failed: {' '.join(command)}")


def answer(*command: str, env: dict[str, str]) -> object:
    """What a `tintype … --output json` command answers."""
    done = subprocess.run([TINTYPE, *command, "--output", "json"], env=env, check=False, stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"demo: failed: tintype {' '.join(command)}")
    return json.loads(done.stdout)


@contextlib.contextmanager
def web_server(directory: Path) -> Iterator[str]:
    """Serve a directory on loopback; yields its URL."""
    handler = functools.partial(QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextlib.contextmanager
def stack(directory: Path) -> Iterator[dict[str, str]]:
    """Run `tintype up`; yields the environment for its clients."""
    ready = directory / "ready.json"
    env = {
        **os.environ,
        "TINTYPE_IMPORTER__ALLOWED_HOSTS": "127.0.0.1",
        "TINTYPE_SIGNER__CERTIFICATE_DIR": str(directory / "certificates"),
    }
    command = [TINTYPE, "up", "--dir", str(directory / "data"), "--ready-file", str(ready)]
    process = subprocess.Popen(command, env=env)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("demo: the stack did not start")
            time.sleep(0.05)
        yield {**os.environ, "TINTYPE_CONFIG": str(directory / "data" / "client.toml")}
    finally:
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=60) != 0:
            sys.exit("demo: the stack did not stop cleanly")


def import_and_compare(directory: Path, raw: Path, env: dict[str, str], url: str) -> None:
    """Sign and import the qcow2, download what was published, proven, and compare it with the disk it was made from."""
    say("Signing it, as its publisher, offline")
    served = str(directory / "served/disk.qcow2")
    signature = answer(
        *("image", "sign", served, "--key", str(directory / "publisher.key"), "--certificate-id", "publisher"), env=env
    )
    if not isinstance(signature, dict):
        sys.exit(f"demo: there should be four properties, and there is {signature}")
    properties = [word for key, value in signature.items() for word in ("--property", f"{key}={value}")]

    say("Importing it by web download, with conversion to raw")
    command = "image create-via-import --disk-format qcow2 --container-format bare --name demo --visibility public"
    source = ("--import-method", "web-download", "--uri", f"{url}/disk.qcow2", "--wait")
    run(TINTYPE, *command.split(), *properties, *source, env=env)
    listed = answer("image", "list", "--name", "demo", env=env)
    if not (isinstance(listed, list) and len(listed) == 1):
        sys.exit(f"demo: the list should show one image, and shows {listed}")
    image = listed[0]
    checks = {"is active": image["status"] == "active", "was converted to raw": image["disk_format"] == "raw"}
    sent = answer("inspect", served, "--guest-digest", env=env)
    checks["has the guest digest that the qcow2 had"] = (
        isinstance(sent, dict) and sent["guest_digest"] == image["guest_digest"] is not None
    )

    say("Downloading it again, trusting the publisher's certificate and the service's key, and nothing else")
    copy, trust = directory / "copy.raw", directory / "trust"
    run(TINTYPE, "key", "export", str(trust), env=env)
    shutil.copy(directory / "certificates/publisher.pem", trust)
    proven = answer(
        *("image", "download", image["id"], "--file", str(copy), "--verify", "--trust-store", str(trust)), env=env
    )
    checks["is what its publisher signed, whatever it became"] = (
        isinstance(proven, dict) and proven["custody"]["signer"]["certificate_id"] == "publisher"
    )
    checks["holds the same guest disk, byte for byte"] = filecmp.cmp(raw, copy, shallow=False)
    fsck = subprocess.run([program("e2fsck"), "-fn", str(copy)], check=False, capture_output=True)
    checks["holds a clean ext4 file system"] = fsck.returncode == 0

    say("The image, and what happened to it")
    run(TINTYPE, "image", "show", image["id"], env=env)
    run(TINTYPE, "image", "history", image["id"], env=env)
    run(TINTYPE, "image", "provenance", image["id"], env=env)

    say("Checks")
    for what, is_true in checks.items():
        print(f"  {'ok' if is_true else 'FAILED'}: the image {what}")
    if not all(checks.values()):
        sys.exit("demo: not everything was true")


def main() -> None:
    """Run the demo."""
    with tempfile.TemporaryDirectory(prefix="tintype-demo-") as name:
        directory = Path(name)
        say(f"Making a disk of {DISK_SIZE >> 20} MiB with {FILES} files in it")
        served = directory / "served"
        served.mkdir()
        raw, qcow2 = make_disk(directory)
        qcow2.rename(served / qcow2.name)
        make_publisher(directory)
        say("Starting the stack")
        with web_server(served) as url, stack(directory) as env:
            import_and_compare(directory, raw, env, url)
    say("Done: nothing is left behind")


if __name__ == "__main__":
    main()
