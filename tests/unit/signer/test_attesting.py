"""The step ATTEST: with which key, about what, and when the image waits."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography import x509

from services.signer.attesting import Attesting
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.service_keys import MemoryKeyManager, MemoryServiceKeys
from tintype.domain.commands import RecordAttested
from tintype.domain.errors import KeyManagerUnavailableError, StaleStepError
from tintype.domain.events import Event, ImageUpdated, RecordedEvent, Step
from tintype.domain.evolve import fold
from tintype.domain.image import Image
from tintype.domain.values import OperationId
from tintype.ports.service_keys import ServiceKey
from tintype.runtime.worker import StepRun
from tintype.testing.clock import FakeClock
from tintype.testing.events import ATTRIBUTES, CONVERTED_BLOB, IMPORT_ROAD, OPERATION, EventBuilder, an_id, an_image_id
from tintype.trust.dsse import IN_TOTO, envelope_of, verified_payload
from tintype.trust.statement import Converted, read_statement


class Silent(MemoryServiceKeys):
    """Knows its keys, and has none that signs."""

    async def keys(self) -> Sequence[ServiceKey]:
        return [replace(key, is_active=False) for key in await super().keys()]


async def logged(*more: Event, length: int = 5) -> tuple[MemoryEventLog, Image]:
    """A log with a road up to its conversion, and the image that comes of it."""
    log, builder = MemoryEventLog(), EventBuilder()
    previous: RecordedEvent | None = None
    history = []
    for payload in (*IMPORT_ROAD[:length], *more):
        previous = await log.append(builder.new(payload), after=previous)
        history.append(previous)
    image = fold(history)
    assert image is not None
    return log, image


@pytest.fixture
async def keys() -> MemoryServiceKeys:
    return await MemoryServiceKeys.prepared(MemoryKeyManager(FakeClock()), "key-1")


async def attest(log: MemoryEventLog, image: Image, keys: MemoryServiceKeys) -> RecordAttested:
    run = StepRun(image, Step.ATTEST, 1, "nonce", lambda *told: None)
    return await Attesting(keys, log).attest_image(image, run)


async def test_the_active_key_signs_what_the_history_tells(keys: MemoryServiceKeys) -> None:
    log, image = await logged()
    recorded = await attest(log, image, keys)
    active = next(key for key in await keys.keys() if key.is_active)
    certificates = {active.id: x509.load_pem_x509_certificate(active.certificate)}
    payload, key_id = verified_payload(envelope_of(recorded.envelope), IN_TOTO, certificates)
    assert key_id == recorded.key_id == active.id
    attested = read_statement(payload)
    assert (attested.image_id, attested.operation_id, attested.project) == (an_image_id(), OPERATION, image.project)
    assert attested.published.digests == CONVERTED_BLOB.digests
    assert isinstance(attested.conversion, Converted) and attested.conversion.tool == "qemu-img"


async def test_a_change_that_a_user_makes_meanwhile_does_not_change_the_statement(keys: MemoryServiceKeys) -> None:
    statements = []
    for more in ((), (ImageUpdated(replace(ATTRIBUTES, name="another"), ("name",)),)):
        log, image = await logged(*more)
        statements.append(json.loads((await attest(log, image, keys)).envelope)["payload"])
    assert statements[0] == statements[1]
    assert b"another" not in base64.b64decode(statements[0])


async def test_an_image_waits_while_no_key_signs() -> None:
    log, image = await logged()
    with pytest.raises(KeyManagerUnavailableError):
        await attest(log, image, await Silent.prepared(MemoryKeyManager(FakeClock()), "key-1"))


async def test_an_operation_that_is_over_is_not_attested(keys: MemoryServiceKeys) -> None:
    log, image = await logged()
    assert image.operation is not None
    other = replace(image, operation=replace(image.operation, id=OperationId(an_id("older"))))
    with pytest.raises(StaleStepError):
        await attest(log, other, keys)
