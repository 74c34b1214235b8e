"""The files of a directory of keys: which there are, what is in them, and how new ones come to be.

``<id>.key`` is a private key (PEM, its owner's alone) and ``<id>.pem`` its certificate. Both are linked into place
whole, the certificate last: a key without a certificate is no key yet.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from services.signer.keys.directory import MAX_CERTIFICATE_BYTES
from services.signer.keys.names import GENERATED_ID
from tintype.domain.errors import CertificateInvalidError, KeyPermissionsError, KeyUnreadableError
from tintype.domain.values import CERTIFICATE_ID
from tintype.ports.service_keys import ServiceKey
from tintype.trust.pem import certificates_of
from tintype.trust.private_files import read_own, read_private, require_own_directory
from tintype.trust.signing import PrivateKey, key_type_of, load_private_key

MAX_FILES = 4096
KEY_SUFFIX, CERTIFICATE_SUFFIX, PARTIAL_SUFFIX = ".key", ".pem", ".partial"

Fingerprint = tuple[tuple[object, ...], ...]
"""Changes whenever a file of the directory does: its content, its owner or its mode."""


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """What a directory holds: all keys, newest first, and the private parts of those that sign."""

    keys: tuple[ServiceKey, ...]
    private: dict[str, PrivateKey] = field(repr=False)


def fingerprint(directory: Path) -> Fingerprint:
    """What the directory looks like, without reading a file.

    Raises:
        KeyPermissionsError: others may write to the directory.
        OSError: it cannot be read.
    """
    found = directory.stat()
    require_own_directory(found, directory)
    files = sorted((name, *_state(directory / name)) for name in _names(directory))
    return ((found.st_dev, found.st_ino, found.st_mode, found.st_uid), *files)


def load(directory: Path) -> KeyFiles:
    """Read every key and certificate.

    Raises:
        KeyPermissionsError: others may read or replace a private key, or a link leads out of the directory.
        KeyUnreadableError: a file is not what its name says.
        OSError: the directory cannot be read.
    """
    root = directory.resolve(strict=True)
    names = set(_names(directory))
    private: dict[str, PrivateKey] = {}
    found: list[ServiceKey] = []
    for name in sorted(names):
        key_id, suffix = os.path.splitext(name)
        if suffix != CERTIFICATE_SUFFIX:
            continue
        certificate_path = _inside(root, name)
        certificate = _certificate(read_own(certificate_path, MAX_CERTIFICATE_BYTES), certificate_path)
        if f"{key_id}{KEY_SUFFIX}" in names:
            private[key_id] = _private_key(_inside(root, f"{key_id}{KEY_SUFFIX}"), certificate)
        key_type = key_type_of(certificate.public_key(), str(certificate_path))
        # Everybody is shown the certificate, and nobody what else an operator has put into its file.
        pem = certificate.public_bytes(Encoding.PEM)
        found.append(ServiceKey(key_id, key_type, pem, certificate.not_valid_before_utc, is_active=False))
    found.sort(key=lambda key: (key.created_at, key.id), reverse=True)
    active = next((key.id for key in found if key.id in private), None)
    keys = (ServiceKey(k.id, k.key_type, k.certificate, k.created_at, k.id == active) for k in found)
    return KeyFiles(tuple(keys), private)


def place(path: Path, content: bytes, mode: int) -> None:
    """Give a file its name, whole and on the disk; one that is there already stays as it is."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)  # whatever the umask is
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another replica was faster: its key counts
            os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_directory(path.parent)


def sweep(directory: Path, older_than: float) -> list[str]:
    """Remove what is left of keys whose making was cut off before that time (seconds since 1970); their names.

    A private key without a certificate has signed nothing. One that an operator has named is left alone.
    """
    removed = []
    with os.scandir(directory) as entries:
        names = {entry.name for entry in entries}
    for name in sorted(names):
        key_id, suffix = os.path.splitext(name)
        is_partial = name.startswith(".") and suffix == PARTIAL_SUFFIX
        is_half = bool(GENERATED_ID.fullmatch(key_id)) and suffix == KEY_SUFFIX and f"{key_id}.pem" not in names
        if not is_partial and not is_half:
            continue
        with suppress(FileNotFoundError):
            if (directory / name).lstat().st_mtime < older_than:
                (directory / name).unlink()
                removed.append(name)
    return removed


def _names(directory: Path) -> Iterator[str]:
    """The files that belong to keys; what else lies there is none of ours."""
    with os.scandir(directory) as entries:
        for count, entry in enumerate(entries, start=1):
            if count > MAX_FILES:
                raise KeyUnreadableError(f"{directory} holds more than {MAX_FILES} files")
            key_id, suffix = os.path.splitext(entry.name)
            if suffix in (KEY_SUFFIX, CERTIFICATE_SUFFIX) and CERTIFICATE_ID.fullmatch(key_id):
                yield entry.name


def _state(path: Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ("gone",)
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode, found.st_uid)


def _inside(root: Path, name: str) -> Path:
    # Links inside the directory are how Kubernetes mounts a secret; one that leads out of it is somebody's trap.
    path = (root / name).resolve(strict=True)
    if not path.is_relative_to(root):
        raise KeyPermissionsError(f"{root / name} is a link that leads out of the directory")
    return path


def _certificate(pem: bytes, path: Path) -> x509.Certificate:
    try:
        return certificates_of(pem, str(path))[0]
    except CertificateInvalidError as exc:
        raise KeyUnreadableError(exc.message) from exc


def _private_key(path: Path, certificate: x509.Certificate) -> PrivateKey:
    key = load_private_key(read_private(path), str(path))
    if key.public_key() != certificate.public_key():
        raise KeyUnreadableError(f"{path} is not the private key of the certificate beside it")
    return key


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
