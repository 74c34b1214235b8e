"""`tintype image download --trust-store`: whatever catalog, log and store say, no other bytes get a name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.unit.cli.conftest import Outcome, Tintype
from tests.unit.client.fake_services import FakeServices
from tests.unit.trust.roads import CONVERTED, KEY_ID, NOW, SENT, Issued, RoadCase, issued, publisher, root, service
from tintype.api.signer.v1 import signer_pb2
from tintype.cli.exit_codes import ExitCode
from tintype.client import custody
from tintype.codec.provenance import encode_provenance
from tintype.domain.provenance import Provenance
from tintype.testing.events import an_image_id

IMAGE = an_image_id()
OTHER = b"bytes of an attacker's choice!!"
Download = Callable[..., Outcome]


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    """Whom a careful user trusts."""
    folder = tmp_path / "trust"
    (folder / "service-keys").mkdir(parents=True)
    (folder / "root.pem").write_bytes(root().certificate.public_bytes(Encoding.PEM))
    (folder / "service-keys" / f"{KEY_ID}.pem").write_bytes(service().public_bytes(Encoding.PEM))
    return folder


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Sets the time at which certificates are judged."""

    def set_time(time: datetime) -> None:
        monkeypatch.setattr(custody, "now", lambda: time)

    set_time(NOW)
    return set_time


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


@pytest.fixture
def download(
    tintype: Tintype, services: FakeServices, trust: Path, at: Callable[[datetime], None], downloads: Path
) -> Download:
    """Downloads an image whose services tell this provenance, and have these bytes."""

    def run(provenance: Provenance, data: bytes = CONVERTED, *options: str) -> Outcome:
        services.add_image("x", data=data, image_id=IMAGE)
        services.provenances[IMAGE] = encode_provenance(provenance)
        chosen = options or ("--trust-store", str(trust))
        return tintype("image", "download", IMAGE, "--file", str(downloads / "disk"), "-o", "json", *chosen)

    return run


def test_proven_bytes_get_their_name_with_their_proof(download: Download, downloads: Path) -> None:
    done = download(RoadCase().provenance())
    assert done.code == ExitCode.OK
    assert (downloads / "disk").read_bytes() == CONVERTED
    proof = done.answer["custody"]
    assert isinstance(proof, dict) and proof["service_key_id"] == KEY_ID
    assert done.answer["digest"] == f"sha512:{hashlib.sha512(CONVERTED).hexdigest()}"


def test_the_proof_says_which_image_it_is_about(
    tintype: Tintype, download: Download, downloads: Path, trust: Path
) -> None:
    """A name is the catalog's word for an image: what was proven is the image of an id, and of a project."""
    download(HONEST)
    file = str(downloads / "by-name")
    done = tintype("image", "download", "x", "--file", file, "--trust-store", str(trust), "-o", "table")
    assert done.code == ExitCode.OK
    assert f"image {IMAGE} of project {HONEST.project}" in done.out


def test_the_configuration_may_say_whom_to_trust(download: Download, downloads: Path, config: Path) -> None:
    config.write_text(config.read_text() + 'trust_store = "trust"\n')
    assert download(RoadCase().provenance(), CONVERTED, "--verify").code == ExitCode.OK
    assert (downloads / "disk").exists()


HONEST = RoadCase().provenance()
OTHER_CASE = RoadCase(sent=b"another image of that publisher", image="other")


@pytest.mark.parametrize(
    ("provenance", "data", "reason"),
    [
        (HONEST, bytes([CONVERTED[0] ^ 1]) + CONVERTED[1:], "INTEGRITY"),
        (HONEST, CONVERTED[:-1], "INTEGRITY"),
        (HONEST, OTHER, "INTEGRITY"),
        (HONEST, SENT, "INTEGRITY"),
        (
            replace(HONEST, published=replace(HONEST.published, digests={"sha512": hashlib.sha512(OTHER).hexdigest()})),
            OTHER,
            "ATTESTATION_FOREIGN",
        ),
        (
            replace(HONEST, signature_properties=OTHER_CASE.provenance().signature_properties),
            CONVERTED,
            "SIGNATURE_INVALID",
        ),
        (replace(HONEST, attestation=OTHER_CASE.envelope()), CONVERTED, "ATTESTATION_FOREIGN"),
        (OTHER_CASE.provenance(), CONVERTED, "ATTESTATION_FOREIGN"),
        (replace(HONEST, attestation=b""), CONVERTED, "ATTESTATION_MISSING"),
        (replace(HONEST, attestation=b"{}"), CONVERTED, "ATTESTATION_INVALID"),
        (replace(HONEST, signature_properties={}), CONVERTED, "SIGNATURE_MISSING"),
        (RoadCase(signer=issued("Self-made")).provenance(), CONVERTED, "CERTIFICATE_UNTRUSTED"),
    ],
    ids=[
        "a byte flipped at rest",
        "fewer bytes",
        "other bytes",
        "the bytes before the conversion",
        "other bytes, and their digest in the catalog",
        "a swapped signature",
        "the attestation of another image",
        "all of another image",
        "no attestation",
        "no envelope",
        "the signature taken away",
        "an untrusted certificate",
    ],
)
def test_other_bytes_get_no_name(
    download: Download, downloads: Path, provenance: Provenance, data: bytes, reason: str
) -> None:
    done = download(provenance, data)
    assert (done.code, done.error["reason"], done.out) == (ExitCode.CONTENT, reason, "")
    assert list(downloads.iterdir()) == []


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (NOW + timedelta(days=40), "CERTIFICATE_EXPIRED"),
        (NOW - timedelta(days=40), "CERTIFICATE_NOT_YET_VALID"),
    ],
)
def test_a_certificate_that_is_not_valid_now_leaves_no_file(
    download: Download, downloads: Path, at: Callable[[datetime], None], time: datetime, reason: str
) -> None:
    at(time)
    done = download(RoadCase().provenance())
    assert (done.code, done.error["reason"]) == (ExitCode.CONTENT, reason)
    assert list(downloads.iterdir()) == []


def test_an_older_file_of_that_name_stays_as_it_was(download: Download, downloads: Path) -> None:
    (downloads / "disk").write_bytes(b"older")
    assert download(HONEST, OTHER).code == ExitCode.CONTENT
    assert (downloads / "disk").read_bytes() == b"older"
    assert len(list(downloads.iterdir())) == 1


BY_ID = ("--trusted-certificate", "publisher-1")


def revoked_by(authority: Issued, *revoked: x509.Certificate) -> bytes:
    """A revocation list in PEM."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(NOW - timedelta(hours=1)).next_update(NOW + timedelta(hours=1))
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number).revocation_date(NOW)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, hashes.SHA384()).public_bytes(Encoding.PEM)


@pytest.fixture
def site(services: FakeServices) -> FakeServices:
    """A signer that has a publisher's certificate, and names whom the site trusts."""
    services.certificates["publisher-1"] = publisher().certificate.public_bytes(Encoding.PEM)
    services.trust = signer_pb2.Trust(
        roots=[root().certificate.public_bytes(Encoding.PEM)],
        requires_chain=True,
        service_keys=[signer_pb2.ServiceKey(id=KEY_ID, certificate=service().public_bytes(Encoding.PEM))],
    )
    return services


@pytest.mark.parametrize("options", [BY_ID, ("--verify",)])
@pytest.mark.parametrize("taken_back", ["the certificate", "another one"])
def test_a_certificate_that_was_taken_back_counts_no_more_however_it_is_named(
    site: FakeServices, download: Download, downloads: Path, options: tuple[str, ...], taken_back: str
) -> None:
    """The signer tells the site's revocation lists as well."""
    foreign = issued("Another", root()).certificate
    revoked = publisher().certificate if taken_back == "the certificate" else foreign
    site.trust.revocation_lists.append(revoked_by(root(), revoked))

    done = download(HONEST, CONVERTED, *options)

    if taken_back == "the certificate":
        assert (done.code, done.error["reason"]) == (ExitCode.CONTENT, "CERTIFICATE_REVOKED")
        assert list(downloads.iterdir()) == []
    else:
        assert done.code == ExitCode.OK


def test_a_certificate_that_is_named_needs_no_root(site: FakeServices, download: Download) -> None:
    own = issued("Of its own")
    site.certificates["publisher-1"] = own.certificate.public_bytes(Encoding.PEM)
    site.trust.revocation_lists.append(revoked_by(root()))
    assert download(RoadCase(signer=own).provenance(), CONVERTED, *BY_ID).code == ExitCode.OK
