"""A signer with policies, on a log in memory: images are signed, staged, verified and published."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography import x509

from services.signer.policy_calls import PolicyCalls
from services.signer.policy_tests import PolicyTests
from services.signer.settings import SignerSection
from services.signer.trust import Trust
from services.signer.verifier import SignatureVerifier
from tintype.adapters.memory.certificates import MemoryCertificates
from tintype.adapters.memory.event_log import MemoryEventLog
from tintype.adapters.memory.service_keys import MemoryKeyManager, MemoryServiceKeys
from tintype.domain.commands import (
    Command,
    CreateImage,
    DeleteImage,
    RecordAttested,
    RecordConversionSkipped,
    RecordPublished,
    RecordStaged,
    RecordVerified,
    RequestImport,
)
from tintype.domain.events import (
    EventContext,
    ImportMethod,
    ImportSource,
    SkipReason,
    StagePurpose,
    Verdict,
    Verification,
)
from tintype.domain.image import Image
from tintype.domain.values import CommandId, Digest, ImageId, OperationId, ProjectId, PropertyValue, Visibility
from tintype.runtime.journal import Journal
from tintype.testing.calls import call_by
from tintype.testing.certificates import ec_key, pem, root_authority
from tintype.testing.clock import FakeClock
from tintype.testing.events import ATTRIBUTES, STAGED_BLOB, an_id, an_image_id
from tintype.trust.signing import sign_digest, signature_properties

DATA = b"the bytes of an image"
DIGEST = Digest("sha256", hashlib.sha256(DATA).hexdigest())
OTHER_DIGEST = Digest("sha256", hashlib.sha256(b"other bytes").hexdigest())
KEY = ec_key("signer")
ROOT = root_authority()
SIGNER = ROOT.issue("Signer", KEY.public_key())
SIGNED: Mapping[str, PropertyValue] = signature_properties(
    sign_digest(KEY, DIGEST), DIGEST, "ECC_SECP256R1", "publisher"
)
ACME, DEMO = ProjectId("acme"), ProjectId("demo")


class PolicyBench:
    """The parts of a signer, under these settings."""

    def __init__(self, **settings: Any) -> None:
        self.log = MemoryEventLog()
        self.clock = FakeClock()
        self.journal = Journal(self.log, self.clock)
        self.certificates = MemoryCertificates()
        self.certificates.put("publisher", pem(SIGNER))
        self.manager = MemoryKeyManager(self.clock)
        self.keys = MemoryServiceKeys(self.manager)
        self.trust = Trust(SignerSection.model_validate(settings), self.keys)
        self.verifier = SignatureVerifier(self.certificates, self.trust, self.clock)
        self.tests = PolicyTests(self.log, self.journal, self.verifier, self.trust)
        self.calls = PolicyCalls(self.trust, self.tests)

    async def do(self, image_id: ImageId, project: ProjectId, *commands: Command) -> Image:
        """The image after these commands."""
        image: Image | None = None
        for command in commands:
            executed = await self.journal.execute(
                image_id,
                command,
                project=project,
                command_id=CommandId(f"{type(command).__name__}"),
                context=EventContext("ann", "request", "request"),
            )
            image = executed.image
        assert image is not None
        return image

    async def staged(
        self,
        name: str,
        properties: Mapping[str, PropertyValue],
        *,
        project: ProjectId = DEMO,
        digest: Digest = DIGEST,
    ) -> Image:
        """An image whose bytes are staged; it waits to be verified."""
        blob = replace(STAGED_BLOB, digests={digest.algorithm: digest.hex})
        operation = OperationId(an_id(f"operation of {name}"))
        return await self.do(
            an_image_id(name),
            project,
            CreateImage(replace(ATTRIBUTES, properties=properties, visibility=Visibility.PRIVATE)),
            RequestImport(operation, ImportSource(ImportMethod.WEB_DOWNLOAD, "https://example.org/disk")),
            RecordStaged(operation, StagePurpose.IMPORT, blob),
        )

    async def published(
        self,
        name: str,
        properties: Mapping[str, PropertyValue],
        *,
        project: ProjectId = DEMO,
        digest: Digest = DIGEST,
    ) -> Image:
        """An image that was let in, under whatever policy there was."""
        image = await self.staged(name, properties, project=project, digest=digest)
        assert image.operation is not None
        assert image.operation.staged is not None
        operation = image.operation.id
        return await self.do(
            image.id,
            project,
            RecordVerified(operation, Verification(Verdict.UNSIGNED)),
            RecordConversionSkipped(operation, SkipReason.DISABLED),
            RecordAttested(operation, "key", b"{}"),
            RecordPublished(operation, (image.operation.staged.ref,)),
        )

    async def deleted(self, image: Image) -> Image:
        """The image, deleted."""
        return await self.do(image.id, image.project, DeleteImage())


def context(project: str = "demo", *, is_admin: bool = False) -> Any:
    """A call of that project."""
    return call_by(project, is_admin=is_admin)


def roots_of(folder: Path, *items: x509.Certificate) -> Path:
    """A directory of trusted roots."""
    folder.mkdir(exist_ok=True)
    (folder / "roots.pem").write_bytes(pem(*items))
    return folder
