"""What the contract suite of service keys runs on: an empty key manager that several participants share."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from services.signer.keys.key_directory import KeyDirectory
from services.signer.keys.token_keys import Token, TokenKeys
from tintype.adapters.memory.service_keys import MemoryKeyManager, MemoryServiceKeys
from tintype.ports.service_keys import ServiceKeys
from tintype.runtime.clock import SystemClock

SOFTHSM_MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
)
PIN = "4711-0815"


class KeyManagerHarness(Protocol):
    """One key manager."""

    async def open(self, first_key_id: str) -> ServiceKeys:
        """Another participant, prepared."""
        ...

    async def remove(self) -> None:
        """Take the key manager away."""
        ...

    async def bring_back(self) -> None:
        """Put it back, with all that it had."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class MemoryHarness:
    """Keys in memory."""

    def __init__(self) -> None:
        self._manager = MemoryKeyManager(SystemClock())

    async def open(self, first_key_id: str) -> ServiceKeys:
        return await MemoryServiceKeys.prepared(self._manager, first_key_id)

    async def remove(self) -> None:
        self._manager.is_away = True

    async def bring_back(self) -> None:
        self._manager.is_away = False

    async def close(self) -> None:
        """Nothing is held."""


class DirectoryHarness:
    """Files in a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def open(self, first_key_id: str) -> ServiceKeys:
        keys = KeyDirectory(self._root / "keys", SystemClock())
        await keys.prepare(first_key_id)
        return keys

    async def remove(self) -> None:
        (self._root / "keys").rename(self._root / "gone")

    async def bring_back(self) -> None:
        (self._root / "gone").rename(self._root / "keys")

    async def close(self) -> None:
        """Nothing is held."""


class TokenHarness:
    """A token of SoftHSM. ``SOFTHSM2_CONF`` has to name :attr:`configuration` before it is used."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._opened: list[TokenKeys] = []
        self.configuration = root / "softhsm2.conf"
        self.token = Token(softhsm_module(), "tintype", root / "pin")
        (root / "tokens").mkdir()
        self.configuration.write_text(f"directories.tokendir = {root}/tokens\nobjectstore.backend = file\n")
        self.token.pin_file.touch(mode=0o600)
        self.token.pin_file.write_text(f"{PIN}\n")

    def initialize(self) -> None:
        """Make the token."""
        words = ("--init-token", "--free", "--label", "tintype", "--so-pin", "12345678", "--pin", PIN)
        subprocess.run([softhsm_program(), *words], check=True, capture_output=True)

    async def open(self, first_key_id: str) -> TokenKeys:
        keys = TokenKeys(self.token, SystemClock())
        self._opened.append(keys)
        await keys.prepare(first_key_id)
        return keys

    async def remove(self) -> None:
        (self._root / "tokens").rename(self._root / "gone")

    async def bring_back(self) -> None:
        (self._root / "gone").rename(self._root / "tokens")

    async def close(self) -> None:
        for keys in self._opened:
            await keys.aclose()


def softhsm_module() -> Path:
    """SoftHSM's module; the tests need it, and do not pass without it."""
    found = next((path for path in SOFTHSM_MODULES if path.exists()), None)
    assert found, "SoftHSM is missing: run `tools/install-system-packages keys` (Debian's package is softhsm2)"
    return found


def softhsm_program() -> str:
    """The program that makes tokens."""
    found = shutil.which("softhsm2-util")
    assert found, "softhsm2-util is missing: run `tools/install-system-packages keys` (Debian's package is softhsm2)"
    return found
