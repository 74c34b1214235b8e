"""Histories of several images, interleaved as in a real log: drawn at random, and made by the domain's own rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st

from tintype.domain.attributes import ImageAttributes
from tintype.domain.commands import (
    CancelOperation,
    Command,
    CreateImage,
    DeleteImage,
    ExpireImage,
    RecordAttested,
    RecordConversionSkipped,
    RecordConverted,
    RecordCopyDamaged,
    RecordCopyHealed,
    RecordPlaced,
    RecordPublished,
    RecordPurged,
    RecordStaged,
    RecordStepFailed,
    RecordVerified,
    RemoveCopy,
    RequestCopy,
    RequestImport,
    RestoreImage,
    UpdateImage,
)
from tintype.domain.decide import decide
from tintype.domain.errors import TintypeError
from tintype.domain.events import (
    EventContext,
    FailedStore,
    Failure,
    ImportMethod,
    ImportSource,
    NewEvent,
    RecordedEvent,
    SkipReason,
    StagePurpose,
    Step,
    Verdict,
    Verification,
)
from tintype.domain.evolve import evolve
from tintype.domain.image import Image
from tintype.domain.values import (
    BlobRef,
    CommandId,
    ContainerFormat,
    Digest,
    DiskFormat,
    ImageId,
    OperationId,
    Placement,
    ProjectId,
    Visibility,
)
from tintype.testing.clock import START
from tintype.testing.events import CONVERTED_BLOB, STAGED_BLOB, an_id, an_image_id

PROJECTS = (ProjectId("red"), ProjectId("blue"))

_text = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)

attributes = st.builds(
    ImageAttributes,
    name=_text,
    visibility=st.sampled_from(Visibility),
    disk_format=st.just(DiskFormat.QCOW2),
    container_format=st.just(ContainerFormat.BARE),
    min_disk=st.integers(0, 1024),
    hidden=st.booleans(),
    tags=st.lists(_text, max_size=3).map(tuple),
    properties=st.dictionaries(st.sampled_from(["os_distro", "note", "a key"]), _text | st.text("x", min_size=300)),
    overrides=st.dictionaries(st.sampled_from(["os_distro", "compression", "a key"]), _text),
)

_KINDS = (
    ("update", "upload", "stage", "import", "import-staged", "cancel", "fail", "delete", "purge")
    + (
        "delete-later",
        "restore",
        "expire",
        "copy",
        "placed",
        "remove-copy",
    )
    + (
        "staged",
        "verified",
        "converted",
        "skipped",
        "attested",
        "published",
        "damaged",
        "healed",
    )
    * 2
)

steps = st.tuples(st.integers(0, 3), st.sampled_from(_KINDS), attributes)


@st.composite
def logs(draw: st.DrawFn) -> list[RecordedEvent]:
    """A log of up to four images."""
    return recorded(draw(st.lists(steps, min_size=1, max_size=60)))


def recorded(wanted: list[tuple[int, str, ImageAttributes]]) -> list[RecordedEvent]:
    """The events that the wanted steps lead to; what the domain refuses is left out."""
    images: dict[int, Image] = {}
    log: list[RecordedEvent] = []
    for number, (index, kind, said) in enumerate(wanted):
        image = images.get(index)
        command: Command = (
            CreateImage(said, may_override=True) if image is None else _command(image, kind, said, number)
        )
        try:
            payload = decide(image, command)
        except TintypeError:
            continue
        event = NewEvent(
            image_id=image.id if image else ImageId(an_image_id(f"image {index}")),
            project=PROJECTS[index % 2],
            command_id=CommandId(f"command {number}"),
            event_id=an_id(f"event {number}"),
            time=START + timedelta(seconds=number),
            payload=payload,
            context=EventContext("tester", "c", "c"),
        )
        # Positions have gaps, as those of a real log may.
        position = 1 + number * 2
        log.append(RecordedEvent(event, image.version + 1 if image else 1, position, "", ""))
        images[index] = evolve(image, log[-1])
    return log


def _command(image: Image, kind: str, said: ImageAttributes, number: int) -> Command:
    new = OperationId(an_id(f"operation {number}"))
    current = image.operation.id if image.operation else new
    failure = Failure("SOURCE_UNREACHABLE", "nobody answers", "", True)
    verification = Verification(Verdict.UNSIGNED)
    now, second = START + timedelta(seconds=number), BlobRef("second", f"images/{image.id}")
    places = (BlobRef("default", f"images/{image.id}"),)
    mask = ("name", "visibility", "hidden", "tags", "properties", "overrides")
    commands: dict[str, Command] = {
        "update": UpdateImage(replace(said, disk_format=image.attributes.disk_format), mask, may_override=True),
        "upload": RecordStaged(new, StagePurpose.UPLOAD, STAGED_BLOB),
        "stage": RecordStaged(new, StagePurpose.STAGE, STAGED_BLOB),
        "import": RequestImport(new, ImportSource(ImportMethod.WEB_DOWNLOAD, "https://example.org/disk")),
        "import-staged": RequestImport(new, ImportSource(ImportMethod.GLANCE_DIRECT)),
        "cancel": CancelOperation(current),
        "fail": RecordStepFailed(current, Step.STAGE, failure),
        "delete": DeleteImage(),
        "purge": RecordPurged(),
        "delete-later": DeleteImage(purge_after=now + timedelta(seconds=20)),
        "restore": RestoreImage(now),
        "expire": ExpireImage(now),
        "copy": RequestCopy(new, Placement(("second", "third"))),
        "placed": RecordPlaced(current, (second,), (FailedStore("third", failure),)),
        "remove-copy": RemoveCopy("second"),
        "staged": RecordStaged(current, StagePurpose.IMPORT, STAGED_BLOB),
        "verified": RecordVerified(current, verification),
        "converted": RecordConverted(current, CONVERTED_BLOB, "qemu-img", "7.2", ("-f", "qcow2")),
        "skipped": RecordConversionSkipped(current, SkipReason.DISABLED),
        "attested": RecordAttested(current, "key", b"{}"),
        "published": RecordPublished(current, places),
        "damaged": RecordCopyDamaged(places[0], Digest("sha256", "ef" * 32), None),
        "healed": RecordCopyHealed(places[0], "second"),
    }
    return commands[kind]
