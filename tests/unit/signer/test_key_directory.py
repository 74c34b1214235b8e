"""The directory of the service's keys: which files are keys, and which are refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from services.signer.keys import key_files
from services.signer.keys.directory import MAX_CERTIFICATE_BYTES
from services.signer.keys.key_directory import KeyDirectory
from services.signer.keys.names import GENERATED_ID, new_key_id, requested_key_id
from tintype.domain.errors import (
    ConfigurationError,
    KeyManagerUnavailableError,
    KeyPassphraseError,
    KeyPermissionsError,
    KeyUnreadableError,
    ServiceKeyNotFoundError,
)
from tintype.domain.values import Digest
from tintype.testing.clock import START, FakeClock
from tintype.trust.certificates import service_certificate
from tintype.trust.private_files import MAX_PRIVATE_BYTES

FIRST = "tintype-20261127-00000001"
DIGEST = Digest("sha384", hashlib.sha384(b"payload").hexdigest())


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """A directory that was prepared."""
    await KeyDirectory(tmp_path / "keys", FakeClock()).prepare(FIRST)
    return tmp_path / "keys"


def open_directory(path: Path) -> KeyDirectory:
    return KeyDirectory(path, FakeClock())


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def put(directory: Path, name: str, private: bytes, certificate: bytes) -> None:
    """An operator's own key."""
    (directory / f"{name}.key").touch(mode=0o600)
    (directory / f"{name}.key").write_bytes(private)
    (directory / f"{name}.pem").write_bytes(certificate)


async def test_directory_and_key_are_the_services_alone(directory: Path) -> None:
    assert oct(directory.stat().st_mode & 0o777) == "0o700"
    assert oct((directory / f"{FIRST}.key").stat().st_mode & 0o777) == "0o600"
    assert {path.name for path in directory.iterdir()} == {f"{FIRST}.key", f"{FIRST}.pem"}


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o602, 0o666, 0o610])
async def test_key_that_others_may_read_or_write_is_refused(directory: Path, mode: int) -> None:
    (directory / f"{FIRST}.key").chmod(mode)
    with pytest.raises(KeyPermissionsError):
        await open_directory(directory).prepare(FIRST)


@pytest.mark.parametrize("mode", [0o620, 0o602])
async def test_certificate_that_others_may_write_to_is_refused(directory: Path, mode: int) -> None:
    (directory / f"{FIRST}.pem").chmod(mode)
    with pytest.raises(KeyPermissionsError):
        await open_directory(directory).prepare(FIRST)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
async def test_directory_that_others_may_write_to_is_refused(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    with pytest.raises(KeyPermissionsError):
        await open_directory(directory).prepare(FIRST)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("name", ["", f"{FIRST}.key", f"{FIRST}.pem"])
async def test_what_belongs_to_another_user_is_refused(directory: Path, name: str) -> None:
    os.chown(directory / name, 4711, 4711)
    with pytest.raises(KeyPermissionsError):
        await open_directory(directory).prepare(FIRST)


async def test_key_that_becomes_readable_later_signs_no_more_until_it_is_mended(directory: Path) -> None:
    keys = open_directory(directory)
    await keys.sign(FIRST, DIGEST)
    (directory / f"{FIRST}.key").chmod(0o644)
    with pytest.raises(KeyManagerUnavailableError, match="KEY_PERMISSIONS"):
        await keys.sign(FIRST, DIGEST)
    (directory / f"{FIRST}.key").chmod(0o600)
    await keys.sign(FIRST, DIGEST)


async def test_link_out_of_the_directory_is_refused(directory: Path, tmp_path: Path) -> None:
    (directory / f"{FIRST}.key").rename(tmp_path / "elsewhere.key")
    (directory / f"{FIRST}.key").symlink_to(tmp_path / "elsewhere.key")
    with pytest.raises(KeyPermissionsError, match="leads out"):
        await open_directory(directory).prepare(FIRST)


async def test_link_inside_the_directory_is_followed_as_kubernetes_mounts_secrets(directory: Path) -> None:
    (directory / "..data").mkdir(mode=0o700)
    for name in (f"{FIRST}.key", f"{FIRST}.pem"):
        (directory / name).rename(directory / "..data" / name)
        (directory / name).symlink_to(f"..data/{name}")
    keys = open_directory(directory)
    await keys.prepare("another")
    assert [key.id for key in await keys.keys()] == [FIRST]
    await keys.sign(FIRST, DIGEST)


@pytest.mark.parametrize("suffix", [".key", ".pem"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["fifo", "folder"])
async def test_what_is_no_plain_file_is_refused_and_holds_nobody_up(
    directory: Path, suffix: str, make: Callable[[Path], None]
) -> None:
    (directory / f"{FIRST}{suffix}").unlink()
    make(directory / f"{FIRST}{suffix}")
    with pytest.raises(KeyPermissionsError, match="plain"):
        await open_directory(directory).prepare(FIRST)


@pytest.mark.parametrize(("suffix", "size"), [(".key", MAX_PRIVATE_BYTES), (".pem", MAX_CERTIFICATE_BYTES)])
async def test_sizes_are_bounded(directory: Path, suffix: str, size: int) -> None:
    path = directory / f"{FIRST}{suffix}"
    path.write_bytes(path.read_bytes().ljust(size + 1, b"\n"))
    with pytest.raises(KeyUnreadableError, match="larger"):
        await open_directory(directory).prepare(FIRST)


async def test_number_of_files_is_bounded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_files, "MAX_FILES", 1)
    with pytest.raises(KeyUnreadableError, match="more than 1"):
        await open_directory(directory).prepare(FIRST)


@pytest.mark.parametrize("suffix", [".key", ".pem"])
async def test_garbage_is_refused_and_not_shown(directory: Path, suffix: str) -> None:
    (directory / f"{FIRST}{suffix}").write_bytes(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----")
    with pytest.raises(KeyUnreadableError) as refused:
        await open_directory(directory).prepare(FIRST)
    assert "c2VjcmV0" not in str(refused.value)
    assert refused.value.__cause__ is None or suffix == ".pem"


async def test_key_of_another_certificate_is_refused(directory: Path) -> None:
    (directory / f"{FIRST}.key").write_bytes(pem_of(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(KeyUnreadableError, match="not the private key"):
        await open_directory(directory).prepare(FIRST)


async def test_encrypted_key_is_refused_as_nobody_is_there_to_ask(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    put(directory, "operator", pem_of(key, b"passphrase"), service_certificate(key, "operator", START))
    with pytest.raises(KeyPassphraseError):
        await open_directory(directory).prepare(FIRST)


async def test_operators_rsa_key_signs_once_it_is_the_newest(directory: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    certificate = service_certificate(key, "operator", START + timedelta(hours=1))
    put(directory, "operator", pem_of(key), certificate)
    keys = open_directory(directory)
    newest = (await keys.keys())[0]
    assert (newest.id, newest.key_type, newest.is_active, newest.certificate) == (
        "operator",
        "RSA-PSS",
        True,
        certificate,
    )
    scheme = padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.MAX_LENGTH)
    signature = await keys.sign("operator", DIGEST)
    key.public_key().verify(signature, bytes.fromhex(DIGEST.hex), scheme, Prehashed(hashes.SHA384()))


@pytest.mark.parametrize("is_key_first", [True, False])
async def test_private_key_beside_a_certificate_is_told_to_nobody(directory: Path, is_key_first: bool) -> None:
    """Many programs want both in one file, and everybody is shown the certificates of all keys."""
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = service_certificate(key, "own", START + timedelta(days=1))
    both = (pem_of(key), certificate) if is_key_first else (certificate, pem_of(key))
    put(directory, "own", pem_of(key), b"".join(both))

    newest, _ = await open_directory(directory).keys()

    assert (newest.id, newest.certificate) == ("own", certificate)


async def test_weak_key_is_refused(directory: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    put(directory, "operator", pem_of(key), service_certificate(key, "operator", START))
    with pytest.raises(KeyUnreadableError, match="1024 bits"):
        await open_directory(directory).prepare(FIRST)


async def test_removed_private_key_leaves_its_certificate_and_signs_no_more(directory: Path) -> None:
    keys = open_directory(directory)
    await keys.rotate("next")
    (directory / f"{FIRST}.key").unlink()
    assert [(key.id, key.is_active) for key in await keys.keys()] == [("next", True), (FIRST, False)]
    with pytest.raises(ServiceKeyNotFoundError):
        await keys.sign(FIRST, DIGEST)
    await open_directory(directory).prepare(FIRST)


async def test_older_key_signs_again_when_the_newest_private_key_is_removed(directory: Path) -> None:
    keys = open_directory(directory)
    await keys.rotate("next")
    (directory / "next.key").unlink()
    assert [(key.id, key.is_active) for key in await keys.keys()] == [("next", False), (FIRST, True)]


async def test_directory_without_any_private_key_is_refused(directory: Path) -> None:
    (directory / f"{FIRST}.key").unlink()
    with pytest.raises(KeyUnreadableError, match="no private key"):
        await open_directory(directory).prepare(FIRST)


async def test_files_are_read_again_only_when_they_look_different(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def load(path: Path, load: Callable[[Path], key_files.KeyFiles] = key_files.load) -> key_files.KeyFiles:
        read.append(path)
        return load(path)

    monkeypatch.setattr(key_files, "load", load)
    keys = open_directory(directory)
    for _ in range(3):
        await keys.sign(FIRST, DIGEST)
    assert len(read) == 1
    await open_directory(directory).rotate("next")
    read.clear()
    assert [key.id for key in await keys.keys()] == ["next", FIRST]
    assert len(read) == 1


@pytest.mark.parametrize("left", [f"{new_key_id(START)}.key", ".next.key.0a1b.partial"], ids=["key", "partial"])
async def test_half_made_key_is_swept_when_nobody_can_be_making_it(directory: Path, left: str) -> None:
    (directory / left).touch(mode=0o600)
    (directory / left).write_bytes(b"cut off")
    long_ago = (START - timedelta(hours=1)).timestamp()
    os.utime(directory / left, (START.timestamp(), START.timestamp()))
    await open_directory(directory).prepare(FIRST)
    assert (directory / left).exists()  # another replica may be making it
    os.utime(directory / left, (long_ago, long_ago))
    await open_directory(directory).prepare(FIRST)
    assert not (directory / left).exists()


async def test_private_key_that_an_operator_named_is_never_removed(directory: Path) -> None:
    (directory / "operator.key").touch(mode=0o600)
    os.utime(directory / "operator.key", (0, 0))
    await open_directory(directory).prepare(FIRST)
    assert (directory / "operator.key").exists()


async def test_half_made_key_is_finished_by_the_same_request(directory: Path) -> None:
    key = pem_of(ec.generate_private_key(ec.SECP384R1()))
    (directory / "next.key").touch(mode=0o600)
    (directory / "next.key").write_bytes(key)
    keys = open_directory(directory)
    assert (await keys.rotate("next")).is_active
    await keys.sign("next", DIGEST)
    assert (directory / "next.key").read_bytes() == key


async def test_directory_that_cannot_be_made_is_a_wrong_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError):
        await open_directory(tmp_path / "file" / "keys").prepare(FIRST)


async def test_certificates_that_follow_one_another_begin_in_that_order(directory: Path) -> None:
    keys = open_directory(directory)  # its clock stands still
    for number in range(4):
        await keys.rotate(f"next-{number}")
    starts = [x509.load_pem_x509_certificate(key.certificate).not_valid_before_utc for key in await keys.keys()]
    assert starts == sorted(set(starts), reverse=True)


def test_requested_id_follows_from_the_request_alone() -> None:
    assert requested_key_id("one") == requested_key_id("one") != requested_key_id("two")
    assert GENERATED_ID.fullmatch(requested_key_id("one"))
    assert GENERATED_ID.fullmatch(new_key_id(START))
