"""The signer's parts, put together."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from services.signer.admin import SignerAdminServicer
from services.signer.attesting import Attesting
from services.signer.checkpoint_calls import CheckpointCalls
from services.signer.checkpointing import Checkpointing
from services.signer.digest_signing import DigestSigning
from services.signer.key_calls import KeyCalls
from services.signer.keys.opening import open_certificates, open_service_keys
from services.signer.keys.own import CertificatesWithOwn
from services.signer.policy_calls import PolicyCalls
from services.signer.policy_tests import PolicyTests
from services.signer.servicer import SignerServicer
from services.signer.settings import SignerSettings
from services.signer.trust import Trust
from services.signer.verifier import SignatureVerifier
from tintype.adapters.event_log import open_event_log
from tintype.api.signer.v1 import signer_pb2, signer_pb2_grpc
from tintype.domain.errors import ConfigurationError
from tintype.domain.events import ConversionSkipped, ImageConverted, ImageStaged, ImportRequested, Step
from tintype.runtime.clock import SystemClock
from tintype.runtime.journal import Journal
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
    clock = SystemClock()
    keys = await open_service_keys(own, clock, stack)
    certificates = CertificatesWithOwn(open_certificates(own, stack), keys)
    key_calls = KeyCalls(keys, DigestSigning(keys, own.sign_for), certificates)
    trust = Trust(own, keys)
    await trust.prepare()
    opened = await stack.enter_async_context(open_event_log(settings.nats, settings.tls, client_name="signer"))
    checkpointing = Checkpointing(opened.log, await opened.checkpoints(), keys, clock, own.checkpoint_limits)
    verifier = SignatureVerifier(certificates, trust, clock)
    policy_calls = PolicyCalls(trust, PolicyTests(opened.log, Journal(opened.log, clock), verifier, trust))
    worker = Worker(
        name="signer",
        event_log=opened.log,
        clock=clock,
        steps={Step.VERIFY: verifier.verify_image, Step.ATTEST: Attesting(keys, opened.log).attest_image},
        # ImportRequested: the bytes of glance-direct are staged already.
        types=(ImageStaged, ImportRequested, ImageConverted, ConversionSkipped),
        settings=own.worker,
    )
    servicer = SignerServicer(verifier, key_calls, policy_calls, CheckpointCalls(checkpointing))
    return Service(
        registrations=[
            partial(signer_pb2_grpc.add_SignerServiceServicer_to_server, servicer),
            partial(
                signer_pb2_grpc.add_SignerAdminServiceServicer_to_server, SignerAdminServicer(key_calls, policy_calls)
            ),
        ],
        service_names=[service.full_name for service in signer_pb2.DESCRIPTOR.services_by_name.values()],
        background={
            "worker": worker.run,
            **({"checkpoints": checkpointing.run} if own.checkpoint_limits.every else {}),
        },
        health_checks={"event log": opened.check},
        part_checks={CHECKPOINTS_HEALTH: checkpointing.check},
        roll_call=opened.roll_call,
    )
