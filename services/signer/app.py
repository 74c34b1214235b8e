"""The signer's parts, put together."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from services.signer.attesting import Attesting
from services.signer.checkpointing import Checkpointing
from services.signer.keys.directory import CertificateDirectory
from services.signer.keys.key_directory import KeyDirectory
from services.signer.keys.names import new_key_id
from services.signer.servicer import SignerServicer
from services.signer.settings import SignerSettings
from services.signer.verifier import SignatureVerifier
from tintype.adapters.event_log import open_event_log
from tintype.api.signer.v1 import signer_pb2, signer_pb2_grpc
from tintype.domain.errors import ConfigurationError
from tintype.domain.events import ConversionSkipped, ImageConverted, ImageStaged, ImportRequested, Step
from tintype.runtime.clock import SystemClock
from tintype.runtime.service import Service
from tintype.runtime.worker import Worker

CHECKPOINTS_HEALTH = "tintype.checkpoints"
"""What gRPC health calls the checkpoints, which may fail while the signer serves."""


async def build(settings: SignerSettings, stack: AsyncExitStack) -> Service:
    """The signer: one worker for VERIFY and ATTEST, the checkpoints of the log, and its servicer.

    Raises:
        ConfigurationError: the certificate directory does not exist, or there is no place for keys.
    """
    own = settings.signer
    if own.certificate_dir and not own.certificate_dir.is_dir():
        raise ConfigurationError(f"signer.certificate_dir: {own.certificate_dir} is not a directory")
    if own.key_dir is None:
        raise ConfigurationError("signer.key_dir is missing: the signer needs a directory for its own keys")
    clock = SystemClock()
    keys = KeyDirectory(own.key_dir, clock)
    await keys.prepare(new_key_id(clock.now()))
    opened = await stack.enter_async_context(open_event_log(settings.nats, client_name="signer"))
    checkpointing = Checkpointing(opened.log, await opened.checkpoints(), keys, clock, own.checkpoint_limits)
    verifier = SignatureVerifier(
        CertificateDirectory(own.certificate_dir), clock, require_signature=own.require_signature
    )
    worker = Worker(
        name="signer",
        event_log=opened.log,
        clock=clock,
        steps={Step.VERIFY: verifier.verify_image, Step.ATTEST: Attesting(keys).attest_image},
        # ImportRequested: the bytes of glance-direct are staged already.
        types=(ImageStaged, ImportRequested, ImageConverted, ConversionSkipped),
        settings=own.worker,
    )
    servicer = SignerServicer(verifier, checkpointing)
    return Service(
        registrations=[partial(signer_pb2_grpc.add_SignerServiceServicer_to_server, servicer)],
        service_names=[signer_pb2.DESCRIPTOR.services_by_name["SignerService"].full_name],
        background={
            "worker": worker.run,
            **({"checkpoints": checkpointing.run} if own.checkpoint_limits.every else {}),
        },
        health_checks={"event log": opened.check},
        part_checks={CHECKPOINTS_HEALTH: checkpointing.check},
    )
