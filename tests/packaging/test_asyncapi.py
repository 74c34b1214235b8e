"""docs/asyncapi.yaml is an AsyncAPI document, and tells of what goes over NATS: all of it, and as it is."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from tintype.api.events.v1 import events_pb2
from tintype.api.types.v1 import types_pb2
from tintype.codec import cloudevents, store_states, subjects
from tintype.codec.events import MESSAGES
from tintype.domain.events import EVENT_TOKENS, Progress, Step
from tintype.domain.values import project_id
from tintype.ports.image_store import StoreMode, StoreState
from tintype.ports.store_states import StoreStateChanged
from tintype.testing.clock import FakeClock
from tintype.testing.events import EVERY_EVENT, OPERATION, EventBuilder, an_image_id
from tools import asyncapi
from tools.generate_docs import ASYNCAPI

# https://github.com/asyncapi/spec-json-schemas, Apache-2.0: schemas/3.0.0.json of @asyncapi/specs 6.11.1, compressed.
SCHEMA = Path(__file__).parent / "schemas" / "asyncapi-3.0.0.json.gz"
VECTORS = ASYNCAPI.with_name("log-integrity-vectors.json")

DOCUMENT: dict[str, Any] = yaml.safe_load(ASYNCAPI.read_text())
CHANNELS: dict[str, Any] = DOCUMENT["channels"]
DESCRIBED: dict[str, Any] = DOCUMENT["components"]["messages"]
PAYLOADS: dict[str, type[Message]] = {
    **{kind.DESCRIPTOR.name: kind for kind in MESSAGES.values()},
    "Progress": types_pb2.Progress,
    "StoreStateChanged": events_pb2.StoreStateChanged,
}


def test_the_document_is_what_the_code_gives() -> None:
    assert ASYNCAPI.read_text() == asyncapi.text(), "run `make docs`"


def test_the_document_is_asyncapi() -> None:
    validator().validate(DOCUMENT)


def test_the_schema_refuses_what_is_no_asyncapi() -> None:
    wrong = {**DOCUMENT, "channels": {"imageEvents": {"adress": "tintype.v1"}}}
    assert not validator().is_valid(wrong)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        resolved(reference)


def test_every_event_type_is_described() -> None:
    channel = CHANNELS["imageEvents"]
    assert channel["parameters"]["event"]["enum"] == list(EVENT_TOKENS.values())
    types = {resolved(reference["$ref"])["name"] for reference in channel["messages"].values()}
    assert types == {f"io.tintype.image.{token}.v1" for token in EVENT_TOKENS.values()}


def test_every_message_that_goes_over_nats_is_described() -> None:
    told = {message for channel in CHANNELS.values() for message in channel["messages"]}
    assert told == set(DESCRIBED) == {*PAYLOADS, "SignedCheckpoint"}


@pytest.mark.parametrize("token", EVERY_EVENT)
def test_an_event_is_as_it_is_described(token: str) -> None:
    payload = EVERY_EVENT[token]
    message = cloudevents.encode(EventBuilder().new(payload), version=1, previous_hash="")
    assert re.fullmatch(pattern(CHANNELS["imageEvents"]), message.subject)
    require_headers(DESCRIBED[type(payload).__name__], message.headers)


def test_events_of_the_vectors_are_as_they_are_described() -> None:
    vectors = json.loads(VECTORS.read_text())
    found = set()
    for event in vectors["events"]:
        token = event["headers"]["ce-type"].split(".")[3]
        require_headers(DESCRIBED[MESSAGES[token].DESCRIPTOR.name], event["headers"])
        found |= set(event["headers"])
    known = DOCUMENT["components"]["schemas"]["EventHeaders"]["properties"]
    assert found <= set(known) and set(known) - found <= {"ce-actoradmin"}


def test_a_change_of_a_store_is_as_it_is_described() -> None:
    state = StoreState(StoreMode.AWAY, FakeClock().now(), "STORE_TIMEOUT", "it does not answer")
    message = store_states.encode(StoreStateChanged("main", state, "importer", "host-1"))
    assert re.fullmatch(pattern(CHANNELS["storeStates"]), message.subject)
    require_headers(DESCRIBED["StoreStateChanged"], message.headers)


def test_progress_is_on_the_subject_that_is_described() -> None:
    progress = Progress(an_image_id(), project_id("demo"), OPERATION, Step.STAGE, 1, 2, FakeClock().now())
    assert re.fullmatch(pattern(CHANNELS["progress"]), subjects.progress_subject(progress))


def test_a_checkpoint_is_as_it_is_described() -> None:
    checked = 0
    for checkpoint in json.loads(VECTORS.read_text())["checkpoints"]:
        envelope = json.loads(checkpoint["envelope"])
        jsonschema.validate(envelope, DESCRIBED["SignedCheckpoint"]["payload"])
        jsonschema.validate(json.loads(checkpoint["payload"]), DOCUMENT["components"]["schemas"]["Checkpoint"])
        checked += 1
    assert checked


def test_every_payload_is_the_message_of_the_protos(tmp_path: Path) -> None:
    for name, kind in PAYLOADS.items():
        (tmp_path / f"{name}.proto").write_text(DESCRIBED[name]["payload"]["schema"])
        described = compiled(tmp_path, name)
        assert described == forms(kind.DESCRIPTOR), name


def validator() -> jsonschema.protocols.Validator:
    return jsonschema.Draft7Validator(json.loads(gzip.decompress(SCHEMA.read_bytes())))


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from references(each)


def resolved(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return resolved(node["$ref"]) if "$ref" in node else node


def pattern(channel: dict[str, Any]) -> str:
    return re.sub(r"\\\{\w+\\\}", "[^.]+", re.escape(channel["address"]))


def require_headers(described: dict[str, Any], headers: Any) -> None:
    schema = {**described["headers"], "components": DOCUMENT["components"]}
    jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker()).validate(dict(headers))


Forms = dict[str, list[tuple[object, ...]]]


def forms(root: Any) -> Forms:
    """Each message and enum that a message is made of, by its short name: its fields, or its values."""
    found: Forms = {}
    waiting: list[Any] = [root]
    while waiting:
        current = waiting.pop()
        if current.name in found or current.full_name.startswith("google."):
            continue
        if isinstance(current, Descriptor):
            fields = ((field.number, field.name, field.type, field.is_repeated) for field in current.fields)
            found[current.name] = sorted(fields)
            waiting += [each for field in current.fields for each in (field.message_type, field.enum_type) if each]
        else:
            found[current.name] = sorted((value.number, value.name) for value in current.values)
    return found


def compiled(directory: Path, name: str) -> Forms:
    """The same of a schema of the document, as protoc reads it."""
    output = directory / f"{name}.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={directory}", f"--descriptor_set_out={output}"]
    subprocess.run([*command, f"{name}.proto"], check=True, capture_output=True, timeout=60)
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    assert file.package == asyncapi.PACKAGE
    found: Forms = {each.name: sorted((value.number, value.name) for value in each.value) for each in file.enum_type}
    waiting = list(file.message_type)
    while waiting:
        message = waiting.pop()
        waiting += message.nested_type
        found[message.name] = sorted(
            (field.number, field.name, field.type, field.label == field.LABEL_REPEATED) for field in message.field
        )
    return found
