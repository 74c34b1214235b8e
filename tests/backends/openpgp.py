"""OpenPGP keys and signatures made by GnuPG, in a home of their own."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class GnuPG:
    """Makes keys without a passphrase, named ``NAME@example.org``, and signs with them."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def make_key(self, name: str, kind: str = "ed25519", *, made: str = "", expires: str = "0") -> str:
        """A key that signs by itself; its fingerprint. ``made`` is when, as 20200131T000000."""
        self.run("--quick-gen-key", f"{name}@example.org", kind, "cert,sign", expires, at=made)
        return self.fingerprint(name)

    def add_subkey(self, name: str, *, made: str = "", expires: str = "0") -> str:
        """A subkey, with which the key signs from now on; its fingerprint."""
        self.run("--quick-add-key", self.fingerprint(name), "ed25519", "sign", expires, at=made)
        return self._fingerprints(name)[-1]

    def revoke(self, name: str) -> None:
        """Publish the revocation that gpg keeps of every key; its reason is none."""
        kept = (self._home / "openpgp-revocs.d" / f"{self.fingerprint(name)}.rev").read_text()
        self.run("--import", data=kept.replace(":-----BEGIN", "-----BEGIN").encode())

    def revoke_subkey(self, name: str) -> None:
        """Revoke the first subkey as superseded: what it signed before would count elsewhere."""
        answers = b"key 1\nrevkey\ny\n2\n\ny\nsave\n"
        self.run("--command-fd", "0", "--edit-key", self.fingerprint(name), data=answers)

    def public(self, *names: str, armor: bool = True) -> bytes:
        """The public certificates."""
        return self.run("--export", *(f"{name}@example.org" for name in names), armor=armor)

    def secret(self, name: str, *, armor: bool = True) -> bytes:
        """The secret key."""
        return self.run("--export-secret-keys", f"{name}@example.org", armor=armor)

    def sign(self, name: str, data: bytes, *options: str, made: str = "", armor: bool = True) -> bytes:
        """A detached signature."""
        key = ("--local-user", f"{name}@example.org")
        return self.run(*options, *key, "--detach-sign", data=data, at=made, armor=armor)

    def clearsign(self, name: str, data: bytes) -> bytes:
        """The text and its signature in one."""
        return self.run("--local-user", f"{name}@example.org", "--clear-sign", data=data)

    def fingerprint(self, name: str) -> str:
        """Of the primary key, in upper case."""
        return self._fingerprints(name)[0]

    def run(self, *arguments: str, data: bytes = b"", at: str = "", armor: bool = False) -> bytes:
        """What gpg answers."""
        command = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", "--no-tty", "--yes"]
        command += ["--pinentry-mode", "loopback", "--passphrase", "", *(["--armor"] if armor else [])]
        command += ["--faked-system-time", f"{at}!"] if at else []
        done = subprocess.run([*command, *arguments], input=data, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def _fingerprints(self, name: str) -> list[str]:
        listing = self.run("--list-keys", "--with-colons", f"{name}@example.org").decode()
        return re.findall(r"^fpr:+([0-9A-F]+):", listing, re.MULTILINE)


@contextmanager
def gnupg() -> Iterator[GnuPG]:
    """A GnuPG without keys. Its agent ends with it."""
    home = Path(tempfile.mkdtemp(prefix="gnupg-"))  # short: a socket's path has a bound
    try:
        yield GnuPG(home)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, timeout=60)
        shutil.rmtree(home, ignore_errors=True)
