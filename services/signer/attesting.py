"""The step ATTEST: the service puts its name to what became of the publisher's bytes."""

from __future__ import annotations

import json

from tintype.domain.commands import RecordAttested
from tintype.domain.decide import final_blob
from tintype.domain.errors import InternalError
from tintype.domain.image import Image
from tintype.ports.service_keys import ServiceKeys
from tintype.runtime.worker import StepRun
from tintype.trust.dsse import IN_TOTO, sealed


class Attesting:
    """Attests with the service's active key."""

    def __init__(self, keys: ServiceKeys) -> None:
        self._keys = keys

    async def attest_image(self, image: Image, run: StepRun) -> RecordAttested:
        """Sign a statement about the road of the image's bytes.

        Raises:
            KeyManagerUnavailableError: the key manager does not answer: the image waits.
        """
        operation = image.operation
        if operation is None or operation.staged is None:
            raise InternalError(f"image {image.id} has no road to attest")
        key = next(key for key in await self._keys.keys() if key.is_active)
        blob = final_blob(operation)
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": image.id, "digest": dict(blob.digests)}],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {},
        }
        envelope = await sealed(json.dumps(statement).encode(), IN_TOTO, key.id, self._keys.sign)
        run.tell_progress(blob.size, blob.size)
        return RecordAttested(operation.id, key.id, envelope)
