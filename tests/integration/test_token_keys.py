"""Keys in a PKCS #11 token (SoftHSM): who gets in, what leaves the token, and what becomes of a call that hangs."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from pkcs11 import Attribute, ObjectClass
from pkcs11.util.ec import decode_ec_private_key
from pkcs11.util.rsa import decode_rsa_private_key

from services.signer.keys import token_objects
from services.signer.keys.one_thread import OneThread
from services.signer.keys.token_keys import TokenKeys
from tests.contract.key_managers import PIN, TokenHarness
from tintype.domain.errors import (
    ConfigurationError,
    KeyManagerUnavailableError,
    KeyPermissionsError,
    KeyUnreadableError,
)
from tintype.domain.values import Digest
from tintype.runtime.clock import SystemClock
from tintype.trust.certificates import service_certificate

DIGEST = Digest("sha256", hashlib.sha256(b"payload").hexdigest())


@pytest.fixture
async def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TokenHarness]:
    made = TokenHarness(tmp_path)
    monkeypatch.setenv("SOFTHSM2_CONF", str(made.configuration))
    made.initialize()
    yield made
    await made.close()


def session_of(harness: TokenHarness) -> pkcs11.Session:
    """A session of the test's own, while nobody else is in the module."""
    token = pkcs11.lib(str(harness.token.module)).get_token(token_label="tintype")
    try:
        return token.open(rw=True, user_pin=PIN)
    except pkcs11.UserAlreadyLoggedIn:
        return token.open(rw=True)


async def test_private_key_is_made_in_the_token_and_never_leaves_it(harness: TokenHarness) -> None:
    await harness.open("first")
    (private,) = session_of(harness).get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    assert private[Attribute.SENSITIVE] and private[Attribute.ALWAYS_SENSITIVE]
    assert not private[Attribute.EXTRACTABLE] and private[Attribute.NEVER_EXTRACTABLE]
    assert private[Attribute.LOCAL]
    with pytest.raises(pkcs11.AttributeSensitive):
        private[Attribute.VALUE]


async def test_certificate_in_the_token_is_one_that_other_programs_read(harness: TokenHarness) -> None:
    keys = await harness.open("first")
    (found,) = session_of(harness).get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE})
    pem = x509.load_der_x509_certificate(found[Attribute.VALUE]).public_bytes(serialization.Encoding.PEM)
    assert pem == (await keys.keys())[0].certificate
    assert found[Attribute.LABEL] == "first"


async def test_pin_that_others_may_read_is_refused(harness: TokenHarness) -> None:
    harness.token.pin_file.chmod(0o640)
    with pytest.raises(KeyPermissionsError):
        await harness.open("first")


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"\xff\xfe", b"1" * 5000])
async def test_pin_file_must_have_one_line_of_text(harness: TokenHarness, content: bytes) -> None:
    harness.token.pin_file.write_bytes(content)
    with pytest.raises(KeyUnreadableError) as refused:
        await harness.open("first")
    assert "1111" not in str(refused.value)


async def test_missing_pin_file_is_a_wrong_configuration(harness: TokenHarness) -> None:
    harness.token.pin_file.unlink()
    with pytest.raises(ConfigurationError):
        await harness.open("first")


async def test_refused_pin_is_a_wrong_setting_and_tried_again_only_when_the_file_says_another(
    harness: TokenHarness,
) -> None:
    keys = TokenKeys(harness.token, SystemClock())
    harness.token.pin_file.write_text("0000-1111\n")
    with pytest.raises(ConfigurationError, match="PinIncorrect") as refused:
        await keys.prepare("first")
    assert "0000-1111" not in str(refused.value)
    with pytest.raises(KeyManagerUnavailableError, match="not tried again"):
        await keys.keys()
    harness.token.pin_file.write_text(f"{PIN}\n")
    await keys.prepare("first")
    assert [key.id for key in await keys.keys()] == ["first"]
    await keys.aclose()


async def test_unknown_token_and_missing_module_are_unavailable(harness: TokenHarness, tmp_path: Path) -> None:
    for token in (replace(harness.token, label="another"), replace(harness.token, module=tmp_path / "none.so")):
        with pytest.raises(KeyManagerUnavailableError):
            await TokenKeys(token, SystemClock()).prepare("first")


async def test_key_of_another_process_is_seen(harness: TokenHarness) -> None:
    keys = await harness.open("first")
    program = (
        "import sys, pkcs11\n"
        "from datetime import UTC, datetime\n"
        "from services.signer.keys import token_objects\n"
        "token = pkcs11.lib(sys.argv[1]).get_token(token_label='tintype')\n"
        "session = token.open(rw=True, user_pin=sys.stdin.readline())\n"
        "token_objects.make(session, 'second', datetime.now(UTC))\n"
    )
    words = [sys.executable, "-c", program, str(harness.token.module)]
    await asyncio.to_thread(subprocess.run, words, input=PIN, text=True, check=True, timeout=60)
    assert [(key.id, key.is_active) for key in await keys.keys()] == [("second", True), ("first", False)]
    key = (await keys.keys())[0]
    public = x509.load_pem_x509_certificate(key.certificate).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signature = await keys.sign("second", DIGEST)
    public.verify(signature, bytes.fromhex(DIGEST.hex), ec.ECDSA(Prehashed(hashes.SHA256())))


def put(harness: TokenHarness, private: dict[Attribute, object], certificate: bytes, name: str) -> None:
    """An operator's own key and certificate."""
    session = session_of(harness)
    session.create_object({Attribute.TOKEN: True, Attribute.LABEL: name, Attribute.ID: name.encode(), **private})
    token_objects._store_certificate(session, name, name.encode(), x509.load_pem_x509_certificate(certificate))


async def test_operators_rsa_key_signs_with_maximum_salt(harness: TokenHarness) -> None:
    keys = await harness.open("first")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    put(harness, decode_rsa_private_key(der), service_certificate(key, "operator", SystemClock().now()), "operator")
    assert ("operator", "RSA-PSS") in [(found.id, found.key_type) for found in await keys.keys()]
    for algorithm in (hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        digest = Digest(algorithm.name, hashlib.new(algorithm.name, b"payload").hexdigest())
        scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH)
        signature = await keys.sign("operator", digest)
        key.public_key().verify(signature, bytes.fromhex(digest.hex), scheme, Prehashed(algorithm))


async def test_private_key_of_another_certificate_signs_nothing(harness: TokenHarness) -> None:
    keys = await harness.open("first")
    key, other = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    put(harness, decode_ec_private_key(der), service_certificate(other, "mixed", SystemClock().now()), "mixed")
    with pytest.raises(KeyManagerUnavailableError, match="not that of its certificate"):
        await keys.sign("mixed", DIGEST)


async def test_call_that_hangs_ends_in_time_and_holds_up_no_later_one_for_ever() -> None:
    thread, gate, begun = OneThread("test"), threading.Event(), []
    with pytest.raises(TimeoutError):
        await thread.run(gate.wait, 0.01)
    with pytest.raises(TimeoutError):
        await thread.run(lambda: begun.append("late"), 0.01)
    gate.set()
    assert await thread.run(lambda: "healed", 30) == "healed"
    assert begun == []  # its time was up before its turn
