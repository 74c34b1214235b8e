"""Directories of trusted certificates: what is read, and what is refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tintype.domain.errors import TrustStoreError
from tintype.testing.certificates import ec_key, pem, private_pem, root_authority
from tintype.trust.trust_store import MAX_FILES, MAX_STORE_BYTES, TrustStore, load_trust_store, trust_store_of

ROOT = root_authority()
MIDDLE = ROOT.authority("Middle")
SIGNER = MIDDLE.issue("Signer", ec_key("signer").public_key())


def test_a_directory_holds_roots_lists_intermediates_and_service_keys(tmp_path: Path) -> None:
    other = root_authority("Other")
    (tmp_path / "roots.pem").write_bytes(b"Two of them:\n" + pem(ROOT.certificate, other.certificate))
    (tmp_path / "root.crl").write_bytes(pem(ROOT.revocation_list()))
    (tmp_path / "intermediates").mkdir()
    (tmp_path / "intermediates" / "middle.crt").write_bytes(pem(MIDDLE.certificate, MIDDLE.revocation_list()))
    (tmp_path / "service-keys").mkdir()
    (tmp_path / "service-keys" / "tintype-2026.pem").write_bytes(pem(SIGNER))
    (tmp_path / "README").write_text("left alone")
    (tmp_path / ".hidden.pem").write_text("left alone")
    store = load_trust_store(tmp_path)
    assert store.roots == (ROOT.certificate, other.certificate)
    assert store.intermediates == (MIDDLE.certificate,)
    assert len(store.revocation_lists) == 2
    assert store.service_certificates == {"tintype-2026": SIGNER}


def test_an_authority_that_is_not_its_own_may_be_a_root(tmp_path: Path) -> None:
    (tmp_path / "middle.pem").write_bytes(pem(MIDDLE.certificate))
    assert load_trust_store(tmp_path).roots == (MIDDLE.certificate,)


def test_a_signers_certificate_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "signer.pem").write_bytes(pem(SIGNER))
    with pytest.raises(TrustStoreError, match=r"signer\.pem.*can be no root"):
        load_trust_store(tmp_path)


def test_an_empty_directory_trusts_nobody(tmp_path: Path) -> None:
    assert load_trust_store(tmp_path) == TrustStore()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ROOT.certificate.public_bytes(Encoding.DER),
        private_pem(ec_key("private")),
        pem(ROOT.certificate) + private_pem(ec_key("private")),
        pem(ROOT.certificate)[:-40],
        pem(ROOT.certificate) + pem(ROOT.certificate)[:-40],
        b"-----BEGIN CERTIFICATE" * 10_000,
        b"-----BEGIN CERTIFICATE-----\n" * 10_000,
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pem").write_bytes(content)
    with pytest.raises(TrustStoreError, match=r"bad\.pem"):
        load_trust_store(tmp_path)


def test_what_is_no_plain_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pem")
    with pytest.raises(TrustStoreError, match=r"pipe\.pem is not a regular file"):
        load_trust_store(tmp_path)


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "link.pem").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TrustStoreError, match=r"link\.pem"):
        load_trust_store(tmp_path)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrustStoreError, match="nowhere"):
        load_trust_store(tmp_path / "nowhere")


def test_files_are_bounded_in_number(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number:04}.pem").write_bytes(pem(ROOT.certificate))
    with pytest.raises(TrustStoreError, match="more than"):
        load_trust_store(tmp_path)


def test_files_are_bounded_in_size_together(tmp_path: Path) -> None:
    filling = b"#" * (MAX_STORE_BYTES // 2)
    (tmp_path / "a.pem").write_bytes(pem(ROOT.certificate) + filling)
    assert load_trust_store(tmp_path).roots
    (tmp_path / "b.pem").write_bytes(pem(ROOT.certificate) + filling)
    with pytest.raises(TrustStoreError, match=r"b\.pem"):
        load_trust_store(tmp_path)


def test_a_service_key_is_one_certificate(tmp_path: Path) -> None:
    (tmp_path / "service-keys").mkdir()
    (tmp_path / "service-keys" / "key.pem").write_bytes(pem(SIGNER, ROOT.certificate))
    with pytest.raises(TrustStoreError, match=r"key\.pem must hold one"):
        load_trust_store(tmp_path)


def test_a_store_that_came_over_the_wire_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(pem(ROOT.certificate))
    (tmp_path / "root.crl").write_bytes(pem(ROOT.revocation_list()))
    loaded = load_trust_store(tmp_path)
    received = trust_store_of(
        [pem(each) for each in loaded.roots], revocation_lists=[pem(each) for each in loaded.revocation_lists]
    )
    assert received == loaded


@pytest.mark.parametrize("content", [b"", b"nonsense", pem(SIGNER)])
def test_a_bad_root_over_the_wire_is_refused(content: bytes) -> None:
    with pytest.raises(TrustStoreError):
        trust_store_of([content])
