"""DSSE envelopes: a payload, what it is, and signatures over both (https://github.com/secure-systems-lab/dsse).

The envelope's form and what is signed are securesystemslib's; keys stay behind the service's port.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable

from securesystemslib.dsse import Envelope
from securesystemslib.signer._signature import Signature

from tintype.domain.values import Digest

IN_TOTO = "application/vnd.in-toto+json"

Sign = Callable[[str, Digest], Awaitable[bytes]]
"""Signs bytes of a digest with the key of an id."""


async def sealed(payload: bytes, payload_type: str, key_id: str, sign: Sign) -> bytes:
    """The envelope (JSON) around ``payload``, signed with one key: ECDSA over SHA-384 of DSSE's encoding.

    Raises:
        KeyManagerUnavailableError: the key manager does not answer.
    """
    envelope = Envelope(payload, payload_type, {})
    digest = Digest("sha384", hashlib.sha384(envelope.pae()).hexdigest())
    envelope.signatures[key_id] = Signature(key_id, (await sign(key_id, digest)).hex())
    return json.dumps(envelope.to_dict(), sort_keys=True).encode()
