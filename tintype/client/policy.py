"""What today's signature policy says about images of the past."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from tintype.api.signer.v1 import signer_pb2 as pb
from tintype.client import decoding
from tintype.client.models import Image, PolicyVerdict
from tintype.client.transport import AS_ADMIN, Transport


class Policy:
    """Questions about signature policies; nothing is changed by asking."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def test(self, image: str | Image) -> PolicyVerdict:
        """What the policy of the image's project says about it today; a refusal is an answer, and not an error.

        Raises:
            NotFoundError: there is no such image, or it is not yours to see.
            PreconditionError: it has no bytes yet.
            ServiceUnavailableError: certificates or trusted roots cannot be had.
            ConfigurationError: the configuration names no signer.
        """
        image_id = image.id if isinstance(image, Image) else image
        request = pb.TestPolicyRequest(image_id=image_id)
        return decoding.policy_verdict(await self._transport.call(self._transport.signer.TestPolicy, request))

    async def replay(
        self, project: str | None = None, *, on_progress: Callable[[int, int], None] | None = None
    ) -> AsyncGenerator[PolicyVerdict, None]:
        """What today's policies say about every image, of one project or all, that was published and is still there.

        Speaks as an administrator. ``on_progress`` is told how far the log was read, and how far it goes.

        Raises:
            ServiceUnavailableError: certificates or trusted roots cannot be had.
            ClientError: the signer refused, or the stream broke: replay again.
        """
        request = pb.ReplayPolicyRequest(project=project or "")
        method = self._transport.signer_admin.ReplayPolicy
        async with aclosing(self._transport.stream(method, request, extra_metadata=(AS_ADMIN,))) as messages:
            async for message in messages:
                if on_progress:
                    on_progress(message.position, message.head)
                if message.HasField("verdict"):
                    yield decoding.policy_verdict(message.verdict)
