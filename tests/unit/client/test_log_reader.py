"""What a log that cannot be reached is told as."""

from __future__ import annotations

import pytest

from tintype.client import Client, ClientConfig, ServiceUnavailableError, log_reader
from tintype.client.transport import Transport


async def test_a_log_that_does_not_answer_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "_CONNECT_TIMEOUT_S", 0.5)
    transport = Transport(ClientConfig(catalog="127.0.0.1:1", nats="nats://127.0.0.1:1"))
    with pytest.raises(ServiceUnavailableError, match="Connect call failed") as caught:
        await Client(transport).events.check_log()
    await transport.close()

    assert caught.value.hint == ServiceUnavailableError.default_hint


def test_a_certificate_of_nats_that_is_not_believed_has_the_hint_of_one() -> None:
    error = log_reader.unavailable(OSError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"))

    assert "`ca` of client.toml" in error.hint
