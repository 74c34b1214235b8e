"""Which files are certificates, and which ids lead to one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.signer.keys.directory import MAX_CERTIFICATE_BYTES, CertificateDirectory
from tintype.domain.errors import CertificateNotFoundError, KeyManagerUnavailableError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory beside which lies a secret."""
    (tmp_path / "secret.pem").write_bytes(b"secret")
    inside = tmp_path / "certificates"
    inside.mkdir()
    (inside / "publisher.pem").write_bytes(b"certificate")
    return inside


@pytest.mark.parametrize("suffix", [".pem", ".crt", ".cer"])
async def test_name_without_suffix_is_the_id(directory: Path, suffix: str) -> None:
    (directory / f"5d2f-a.b_c{suffix}").write_bytes(b"found")
    assert await CertificateDirectory(directory).certificate("5d2f-a.b_c") == b"found"


@pytest.mark.parametrize(
    "certificate_id",
    [
        "",
        ".",
        "..",
        "../secret",
        "/etc/passwd",
        "a/b",
        "a\x00b",
        "-x",
        ".hidden",
        "a..b",
        "a" * 129,
        "ä",
        "publisher\n",
    ],
)
async def test_malformed_id_finds_nothing(directory: Path, certificate_id: str) -> None:
    with pytest.raises(CertificateNotFoundError):
        await CertificateDirectory(directory).certificate(certificate_id)


async def test_unknown_id_finds_nothing(directory: Path) -> None:
    with pytest.raises(CertificateNotFoundError):
        await CertificateDirectory(directory).certificate("nobody")


async def test_link_out_of_the_directory_finds_nothing(directory: Path) -> None:
    (directory / "escape.pem").symlink_to("../secret.pem")
    with pytest.raises(CertificateNotFoundError):
        await CertificateDirectory(directory).certificate("escape")


async def test_link_inside_the_directory_is_followed(directory: Path) -> None:
    (directory / "..data").mkdir()
    (directory / "..data" / "real.pem").write_bytes(b"mounted")
    (directory / "linked.pem").symlink_to("..data/real.pem")
    assert await CertificateDirectory(directory).certificate("linked") == b"mounted"


async def test_what_is_no_plain_file_is_no_certificate(directory: Path) -> None:
    os.mkfifo(directory / "fifo.pem")
    (directory / "folder.pem").mkdir()
    for certificate_id in ("fifo", "folder"):
        with pytest.raises(CertificateNotFoundError):
            await CertificateDirectory(directory).certificate(certificate_id)


async def test_size_is_bounded(directory: Path) -> None:
    (directory / "large.pem").write_bytes(b"x" * (MAX_CERTIFICATE_BYTES + 1))
    with pytest.raises(CertificateNotFoundError, match="larger"):
        await CertificateDirectory(directory).certificate("large")


async def test_site_without_directory_has_no_certificates() -> None:
    with pytest.raises(CertificateNotFoundError):
        await CertificateDirectory(None).certificate("publisher")


async def test_directory_that_is_gone_is_unavailable_not_empty(directory: Path) -> None:
    with pytest.raises(KeyManagerUnavailableError):
        await CertificateDirectory(directory / "gone").certificate("publisher")
