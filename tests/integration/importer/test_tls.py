"""Web downloads over TLS: the name of the URL is what the certificate has to bear, whatever address is connected to."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.importer.sources.addresses import AddressRules
from services.importer.sources.connection import WebLimits
from services.importer.sources.http import WebSource
from tintype.domain.errors import SourceCertificateError

BODY = b"x" * 100_000


def certificate(directory: Path, name: str) -> Path:
    """A self-signed certificate for ``name``, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@asynccontextmanager
async def serving(pem: Path) -> AsyncIterator[int]:
    """An HTTPS server on loopback; yields its port."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client did not like the certificate
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def download(port: int, trusted: Path | None) -> bytes:
    tls = ssl.create_default_context(cafile=trusted) if trusted else None
    source = WebSource(AddressRules(("127.0.0.1",), ()), WebLimits(connect_timeout_s=5), tls=tls)
    pieces = source.download(
        f"https://localhost:{port}/", max_size=1 << 20, expected_size=None, announce=lambda _: None
    )
    return b"".join([piece async for piece in pieces])


async def test_the_certificate_of_the_urls_host_is_accepted(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "localhost")
    async with serving(pem) as port:
        assert await download(port, pem) == BODY


async def test_a_certificate_of_another_name_is_not(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "other.example")
    async with serving(pem) as port:
        with pytest.raises(SourceCertificateError):
            await download(port, pem)


async def test_a_certificate_that_nobody_vouches_for_is_not(tmp_path: Path) -> None:
    pem = certificate(tmp_path, "localhost")
    async with serving(pem) as port:
        with pytest.raises(SourceCertificateError):
            await download(port, None)
