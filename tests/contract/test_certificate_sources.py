"""The port CertificateSource: one suite on memory, on a directory, and on a real Barbican."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509

from tests.contract.certificate_sources import (
    UNKNOWN_ID,
    BarbicanHarness,
    CertificateSourceHarness,
    DirectoryHarness,
    MemoryHarness,
)
from tintype.domain.errors import CertificateNotFoundError, UnavailableError
from tintype.testing.certificates import pem, root_authority

ROOT, OTHER = root_authority().certificate, root_authority("another").certificate
PEM = pem(ROOT)
BARBICAN = pytest.param(
    "barbican",
    marks=[pytest.mark.barbican, pytest.mark.timeout(900), pytest.mark.xdist_group("barbican")],
)


@pytest_asyncio.fixture(params=["memory", "directory", BARBICAN])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CertificateSourceHarness]:
    made: CertificateSourceHarness
    if request.param == "memory":
        made = MemoryHarness()
    elif request.param == "directory":
        made = DirectoryHarness(tmp_path)
    else:
        made = BarbicanHarness(request.getfixturevalue("key_manager"), tmp_path)
    yield made
    await made.close()


async def test_a_certificate_is_found_by_its_id(harness: CertificateSourceHarness) -> None:
    first, second = harness.put(PEM), harness.put(pem(OTHER))
    assert first != second
    assert x509.load_pem_x509_certificate(await harness.source.certificate(first)) == ROOT
    assert x509.load_pem_x509_certificate(await harness.source.certificate(second)) == OTHER


async def test_an_unknown_id_is_not_found(harness: CertificateSourceHarness) -> None:
    with pytest.raises(CertificateNotFoundError):
        await harness.source.certificate(UNKNOWN_ID)


@pytest.mark.parametrize(
    "certificate_id",
    [
        "",
        ".",
        "../publisher-1",
        "publisher-1/..",
        "/etc/ssl/certs/ca",
        "http://127.0.0.1/v1/secrets/11111111-2222-4333-8444-555555555555",
        "{11111111-2222-4333-8444-555555555555}",
        "11111111-2222-4333-8444-555555555555/payload",
        "11111111-2222-4333-8444-555555555555\n",
        "publisher\0",
        "größe",
        "a" * 10_000,
    ],
)
async def test_a_malformed_id_is_not_found(harness: CertificateSourceHarness, certificate_id: str) -> None:
    harness.put(PEM)
    with pytest.raises(CertificateNotFoundError):
        await harness.source.certificate(certificate_id)


async def test_a_removed_certificate_is_not_found(harness: CertificateSourceHarness) -> None:
    certificate_id = harness.put(PEM)
    await harness.source.certificate(certificate_id)
    harness.remove(certificate_id)
    with pytest.raises(CertificateNotFoundError):
        await harness.source.certificate(certificate_id)


async def test_a_source_that_is_away_does_not_say_that_there_is_none(harness: CertificateSourceHarness) -> None:
    certificate_id = harness.put(PEM)
    await harness.source.certificate(certificate_id)
    harness.take_away()
    try:
        for asked in (certificate_id, UNKNOWN_ID):
            with pytest.raises(UnavailableError) as away:
                await harness.source.certificate(asked)
            assert away.value.retryable
    finally:
        harness.bring_back()
    assert await harness.source.certificate(certificate_id)


async def test_many_may_ask_at_once(harness: CertificateSourceHarness) -> None:
    certificate_id = harness.put(PEM)
    answers = await asyncio.gather(*(harness.source.certificate(certificate_id) for _ in range(12)))
    assert len(set(answers)) == 1
