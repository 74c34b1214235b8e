"""ECDSA on the binary curves, which Glance's convention names and `cryptography` left out: by the `openssl` program.

The program sees nothing that a stranger wrote as it was written: the key is rebuilt from a known curve and a point of
the right length, the signature from its two numbers, and the digest is ours. So it runs without a jail, as the same
library does within this process for every other curve; see ADR 0014.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import PublicKeyAlgorithmOID

from tintype.domain.errors import CertificateInvalidError, SignatureUnsupportedError
from tintype.trust.der import BIT_STRING, SEQUENCE, encoded, encoded_identifier
from tintype.trust.public_keys import BinaryCurve, BinaryCurveKey

_TIMEOUT_S = 10.0
_SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin"
_ENVIRONMENT = {"PATH": _SEARCH_PATH, "LC_ALL": "C", "OPENSSL_CONF": "/dev/null"}


def verify_on_binary_curve(key: BinaryCurveKey, signature: bytes, digest: bytes) -> None:
    """Verify an ECDSA signature (DER) over a digest. Starts a process: some milliseconds.

    Raises:
        InvalidSignature: it is not the key's.
        ValueError: it is not an ECDSA signature at all.
        CertificateInvalidError: the key's point does not lie on its curve.
        SignatureUnsupportedError: there is no `openssl` program, or none that knows the curve.
    """
    rebuilt = encode_dss_signature(*decode_dss_signature(signature))
    if rebuilt != signature:
        raise ValueError("not DER")
    program = _program()
    with tempfile.TemporaryDirectory(prefix="tintype-verify-") as folder:
        files = {"key": _public_key_info(key), "signature": rebuilt, "digest": digest}
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        command = ["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key", "-sigfile", "signature"]
        result = _run([program, *command, "-in", "digest"], folder)
    if result.returncode == 0 and b"Signature Verified Successfully" in result.stdout:
        return
    if b"Signature Verification Failure" in result.stdout + result.stderr:
        raise InvalidSignature
    if not _knows(program, key.curve):
        raise SignatureUnsupportedError(
            f"the openssl program of this machine does not know the curve {key.curve.openssl_name}: "
            "install one that does, such as Debian's, or sign with another key"
        )
    raise CertificateInvalidError(f"the certificate's key is no point of the curve {key.curve.openssl_name}")


def _program() -> str:
    program = shutil.which("openssl", path=_SEARCH_PATH)
    if program is None:
        raise SignatureUnsupportedError(
            "signatures on SECT curves need the openssl program, which is not installed on this machine"
        )
    return program


@cache
def _knows(program: str, curve: BinaryCurve) -> bool:
    return _run([program, "ecparam", "-name", curve.openssl_name, "-noout"], "/").returncode == 0


def _run(command: list[str], folder: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SignatureUnsupportedError(f"the openssl program does not run: {type(exc).__name__}") from exc


def _public_key_info(key: BinaryCurveKey) -> bytes:
    """RFC 5480, section 2."""
    algorithm = encoded_identifier(PublicKeyAlgorithmOID.EC_PUBLIC_KEY.dotted_string)
    algorithm += encoded_identifier(key.curve.oid)
    return encoded(SEQUENCE, encoded(SEQUENCE, algorithm) + encoded(BIT_STRING, b"\x00" + key.point))
