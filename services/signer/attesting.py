"""The step ATTEST: the service puts its name to what became of the publisher's bytes."""

from __future__ import annotations

import tintype
from tintype.domain.commands import RecordAttested
from tintype.domain.errors import InternalError, StaleStepError
from tintype.domain.image import Image
from tintype.domain.provenance import road_of
from tintype.ports.event_log import EventLog
from tintype.ports.service_keys import ServiceKeys
from tintype.runtime.worker import StepRun
from tintype.trust.dsse import IN_TOTO, sealed, sealing_key
from tintype.trust.statement import statement_of


class Attesting:
    """Attests with the service's active key, what the log says and nothing else."""

    def __init__(self, keys: ServiceKeys, event_log: EventLog) -> None:
        self._keys = keys
        self._log = event_log

    async def attest_image(self, image: Image, run: StepRun) -> RecordAttested:
        """Sign a statement about the road of the image's bytes.

        Raises:
            KeyManagerUnavailableError: the key manager does not answer, or has no key that signs: the image waits.
            StaleStepError: the image has gone on meanwhile.
            EventTooLargeError: the statement would not fit into the log.
        """
        operation = image.operation
        if operation is None:
            raise InternalError(f"image {image.id} has no road to attest")
        # The image is too little: where it stands in the log, and the policy, are in its history alone.
        history = await self._log.history(image.id)
        road = road_of([event for event in history if event.version <= image.version])
        if road.operation_id != operation.id:
            raise StaleStepError(f"operation {operation.id} of image {image.id} is no longer the newest one")
        key = sealing_key(await self._keys.keys())
        envelope = await sealed(statement_of(road, tintype.__version__), IN_TOTO, key.id, self._keys.sign)
        run.tell_progress(road.published.size, road.published.size)
        return RecordAttested(operation.id, key.id, envelope)
