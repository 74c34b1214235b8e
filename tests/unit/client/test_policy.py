"""Questions about policies, as a program asks them."""

from __future__ import annotations

import uuid

import pytest

from tests.unit.client.fake_services import FakeServices, verdict
from tintype.api.signer.v1 import signer_pb2
from tintype.client import Client, ClientConfig, ConfigurationError, NotFoundError, PolicyVerdict
from tintype.client.transport import Transport
from tintype.codec.call_metadata import ADMIN_KEY

ONE, TWO, THREE = (str(uuid.uuid5(uuid.NAMESPACE_URL, name)) for name in ("one", "two", "three"))


async def test_a_refusal_is_an_answer(services: FakeServices, client: Client) -> None:
    services.verdicts = [verdict(ONE), verdict(TWO, reason="CERTIFICATE_UNTRUSTED")]
    good, bad = await client.policy.test(ONE), await client.policy.test(TWO)
    assert good.allowed
    assert good.verification is not None
    assert good.verification.certificate_subject == "CN=Publisher"
    assert good.failure is None
    assert not bad.allowed
    assert bad.verification is None
    assert bad.failure is not None
    assert (bad.failure.reason, dict(bad.failure.evidence)) == (
        "CERTIFICATE_UNTRUSTED",
        {"certificate_subject": "CN=X"},
    )


async def test_an_image_that_is_not_there_is_an_error(client: Client) -> None:
    with pytest.raises(NotFoundError):
        await client.policy.test(ONE)


@pytest.mark.parametrize(("project", "expected"), [(None, [ONE, TWO, THREE]), ("p2", [TWO])])
async def test_a_replay_yields_verdicts_and_tells_how_far_it_is(
    services: FakeServices, client: Client, project: str | None, expected: list[str]
) -> None:
    services.verdicts = [verdict(ONE), verdict(TWO, "p2", reason="SIGNATURE_MISSING"), verdict(THREE)]
    told: list[tuple[int, int]] = []
    found: list[PolicyVerdict] = [
        each async for each in client.policy.replay(project, on_progress=lambda *step: told.append(step))
    ]
    assert [each.image_id for each in found] == expected
    assert told[0] == (1, 4)
    assert services.metadata[ADMIN_KEY] == "true"
    assert signer_pb2.ReplayPolicyRequest(project=project or "") in services.requests


async def test_a_client_without_a_signer_says_so(services: FakeServices) -> None:
    transport = Transport(ClientConfig(catalog=services.target))
    with pytest.raises(ConfigurationError, match=r"client\.signer"):
        await Client(transport).policy.test(ONE)
    await transport.close()
