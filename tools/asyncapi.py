"""The AsyncAPI 3.0 document of what Tintype tells over NATS, made of the protos, the codec and docs/events.md.

Owns the form of docs/asyncapi.yaml, which ``make docs`` draws. Channels, types and payloads come from the code,
sentences from the protos and from the tables of docs/events.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tintype.api.events.v1 import events_pb2
from tintype.codec import subjects
from tintype.codec.cloudevents import CONTENT_TYPE, EVENT_VERSION, SOURCE
from tintype.codec.events import MESSAGES
from tintype.codec.store_states import TYPE as STORE_STATE_TYPE
from tintype.domain.values import STORE_NAME
from tintype.trust.checkpoints import CHECKPOINT

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ("tintype/api/events/v1/events.proto", "tintype/api/types/v1/types.proto")
PROTOBUF = "application/vnd.google.protobuf;version=3"
PACKAGE = events_pb2.DESCRIPTOR.package
_TYPES_PACKAGE = "tintype.api.types.v1."
# A top-level message or enum with the comment before it; none of these files has one within another.
_DEFINITION = re.compile(r"((?:^//[^\n]*\n)*)^(?:message|enum) (\w+) \{(?:\}|.*?^\})", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `([a-z_-]+)` \| (.+) \|$", re.MULTILINE)

UUID = {"type": "string", "format": "uuid"}
TIME = {"type": "string", "format": "date-time"}
SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
TEXT = {"type": "string", "minLength": 1}

_EVERY_HEADER: Mapping[str, Mapping[str, object]] = {
    "ce-specversion": {"const": "1.0"},
    "ce-id": UUID,
    "ce-source": {"const": SOURCE},
    "ce-type": TEXT,
    "ce-subject": TEXT,
    "ce-time": TIME,
    "ce-datacontenttype": {"const": CONTENT_TYPE},
}
_EVENT_HEADERS: Mapping[str, Mapping[str, object]] = {
    **_EVERY_HEADER,
    "ce-subject": UUID,
    "ce-project": TEXT,
    "ce-actor": TEXT,
    "ce-commandid": TEXT,
    "ce-imageversion": {"type": "string", "pattern": "^[1-9][0-9]*$"},
    "ce-correlationid": TEXT,
    "ce-causationid": TEXT,
    "ce-traceparent": TEXT,
    "ce-actoradmin": {"const": "true"},
    "ce-prevhash": SHA256,
}
_OPTIONAL = {"ce-correlationid", "ce-causationid", "ce-traceparent", "ce-actoradmin", "ce-prevhash"}

_CHANNEL_REF = "#/channels/"
_MESSAGE_REF = "#/components/messages/"
_SCHEMA_REF = "#/components/schemas/"


def text() -> str:
    """The document in YAML."""
    head = "# Drawn by `make docs` from protos/, the codec and docs/events.md. Do not edit.\n"
    return head + yaml.dump(document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=160)


def document() -> dict[str, Any]:
    """The document, as AsyncAPI 3.0 has it."""
    channels = {"imageEvents": _events(), "progress": _progress(), "storeStates": _store_states()}
    channels["checkpoints"] = _checkpoints()
    return {
        "asyncapi": "3.0.0",
        "id": "urn:tintype:events",
        "info": _info(),
        "defaultContentType": CONTENT_TYPE,
        "servers": {"nats": {"host": "nats.example.org:4222", "protocol": "nats", "description": "With JetStream."}},
        "channels": {name: _of_servers(channel) for name, channel in channels.items()},
        "operations": {f"tell{name[0].upper()}{name[1:]}": _told(name, channel) for name, channel in channels.items()},
        "components": {"messages": dict(_messages()), "schemas": _schemas()},
    }


def _info() -> dict[str, object]:
    return {
        "title": "Tintype's events",
        "version": f"{EVENT_VERSION}.0.0",
        "description": "Every fact about an image, the progress of what is being done, what stores can be used for, "
        "and the signed checkpoints of the log. Events are CloudEvents 1.0 in binary mode, their header values "
        "percent-encoded. events.md says how to follow them.",
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    }


def _of_servers(channel: Mapping[str, Any]) -> dict[str, Any]:
    return {**channel, "servers": [{"$ref": "#/servers/nats"}]}


def _told(name: str, channel: Mapping[str, Any]) -> dict[str, object]:
    """Tintype sends; whoever reads the document receives."""
    messages = [{"$ref": f"{_CHANNEL_REF}{name}/messages/{message}"} for message in channel["messages"]]
    return {"action": "send", "channel": {"$ref": f"{_CHANNEL_REF}{name}"}, "messages": messages}


def _events() -> dict[str, Any]:
    return {
        "address": f"{subjects.PREFIX}.{{project}}.image.{{imageId}}.{{event}}",
        "title": "The events of images",
        "description": f"The JetStream stream `{subjects.STREAM}` keeps them for ever.",
        "parameters": {
            "project": {"description": "The project that owns the image."},
            "imageId": {"description": "The image, a UUID."},
            "event": {"description": "What has happened: the last part of the type.", "enum": list(MESSAGES)},
        },
        "messages": _refs(kind.DESCRIPTOR.name for kind in MESSAGES.values()),
    }


def _progress() -> dict[str, Any]:
    return {
        "address": f"{subjects.PREFIX}.{{project}}.progress.{{imageId}}",
        "title": "Progress",
        "description": "Told at most twice a second, and kept nowhere. No CloudEvents: the message has no headers.",
        "parameters": {
            "project": {"description": "The project that owns the image."},
            "imageId": {"description": "The image, a UUID."},
        },
        "messages": _refs(["Progress"]),
    }


def _store_states() -> dict[str, Any]:
    store = {"description": f"The name of the store, of the form `{STORE_NAME.pattern}`."}
    return {
        "address": f"{subjects.PREFIX}.store.{{store}}",
        "title": "Changes of stores",
        "description": f"The JetStream stream `{subjects.STORE_STREAM}` keeps the newest of each store.",
        "parameters": {"store": store},
        "messages": _refs(["StoreStateChanged"]),
    }


def _checkpoints() -> dict[str, Any]:
    return {
        "address": subjects.CHECKPOINT_SUBJECT,
        "title": "Checkpoints",
        "description": f"The JetStream stream `{subjects.CHECKPOINT_STREAM}` keeps them for ever. log-integrity.md "
        "says how they are verified.",
        "messages": _refs(["SignedCheckpoint"]),
    }


def _refs(names: Iterable[str]) -> dict[str, dict[str, str]]:
    return {name: {"$ref": f"{_MESSAGE_REF}{name}"} for name in names}


def _messages() -> Iterable[tuple[str, dict[str, Any]]]:
    told = _told_in_events_md()
    definitions = _definitions()
    for token, kind in MESSAGES.items():
        name = kind.DESCRIPTOR.name
        kind_of_event = f"io.tintype.image.{token}.v{EVENT_VERSION}"
        headers = _headers("EventHeaders", kind_of_event)
        yield name, _message(name, kind_of_event, told[token], definitions, headers)
    yield "Progress", _message("Progress", "Progress", _comment(definitions["Progress"]), definitions)
    changed = _comment(definitions["StoreStateChanged"])
    headers = _headers("StoreStateHeaders", STORE_STATE_TYPE)
    yield "StoreStateChanged", _message("StoreStateChanged", STORE_STATE_TYPE, changed, definitions, headers)
    yield "SignedCheckpoint", {"title": "A signed checkpoint", "contentType": "application/json", "payload": _sealed()}


def _message(
    name: str, title: str, summary: str, definitions: Mapping[str, str], headers: Mapping[str, object] | None = None
) -> dict[str, Any]:
    payload = {"schemaFormat": PROTOBUF, "schema": _proto(name, definitions)}
    message = {"name": title, "title": name, "summary": summary, "contentType": CONTENT_TYPE}
    return {**message, **({"headers": headers} if headers else {}), "payload": payload}


def _headers(schema: str, kind: str) -> dict[str, object]:
    return {"allOf": [{"$ref": f"{_SCHEMA_REF}{schema}"}], "properties": {"ce-type": {"const": kind}}}


def _schemas() -> dict[str, object]:
    told = _told_in_events_md()
    return {
        "EventHeaders": _attributes(_EVENT_HEADERS, told),
        "StoreStateHeaders": _attributes(_EVERY_HEADER, {**told, "ce-subject": "the store's name"}),
        "Checkpoint": _checkpoint(),
    }


def _attributes(headers: Mapping[str, Mapping[str, object]], told: Mapping[str, str]) -> dict[str, object]:
    properties = {name: {**schema, "description": told[name]} for name, schema in headers.items()}
    return {"type": "object", "required": [name for name in headers if name not in _OPTIONAL], "properties": properties}


def _told_in_events_md() -> dict[str, str]:
    """What the tables of docs/events.md say of each header and each event."""
    return {name: re.sub(r"^`\w+` \| ", "", row) for name, row in _ROW.findall((ROOT / "docs/events.md").read_text())}


def _definitions() -> dict[str, str]:
    """Each message and enum of the protos as it stands there, with its comment."""
    return {
        found[2]: found[0].replace(_TYPES_PACKAGE, "")
        for proto in PROTOS
        for found in _DEFINITION.finditer((ROOT / "protos" / proto).read_text())
    }


def _comment(definition: str) -> str:
    lines = [line.removeprefix("// ") for line in definition.splitlines() if line.startswith("//")]
    return re.sub(r"\s*Type \S+\.$", "", " ".join(lines))


def _proto(name: str, definitions: Mapping[str, str]) -> str:
    """A file that defines one message, and all that it is made of: AsyncAPI wants a schema in one piece."""
    needed, waiting = {}, [name]
    while waiting:
        current = waiting.pop(0)
        if current not in needed:
            needed[current] = definitions[current]
            words = re.findall(r"\b[A-Z]\w+\b", re.sub(r"//.*", "", definitions[current]))
            waiting += [word for word in words if word in definitions]
    body = "\n\n".join(needed.values())
    imports = 'import "google/protobuf/timestamp.proto";\n\n' if "google.protobuf.Timestamp" in body else ""
    return f'syntax = "proto3";\n\npackage {PACKAGE};\n\n{imports}{body}\n'


def _sealed() -> dict[str, object]:
    """A DSSE envelope in JSON."""
    signature = {"type": "object", "required": ["keyid", "sig"], "properties": {"keyid": TEXT, "sig": _base64()}}
    payload = {**_base64(), "contentMediaType": CHECKPOINT, "description": "A Checkpoint, in JSON."}
    return {
        "type": "object",
        "description": "A DSSE envelope, https://github.com/secure-systems-lab/dsse.",
        "required": ["payload", "payloadType", "signatures"],
        "properties": {
            "payload": payload,
            "payloadType": {"const": CHECKPOINT},
            "signatures": {"type": "array", "minItems": 1, "maxItems": 1, "items": signature},
        },
    }


def _base64() -> dict[str, object]:
    return {"type": "string", "contentEncoding": "base64"}


def _checkpoint() -> dict[str, object]:
    count = {"type": "integer", "minimum": 0}
    digest = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
    previous = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
    fields = {"version": {"const": 1}, "position": count, "events": count, "images": count, "root": digest}
    properties = {**fields, "time": TIME, "previous": previous}
    return {"type": "object", "required": list(properties), "additionalProperties": False, "properties": properties}


class _Dumper(yaml.SafeDumper):
    """YAML for people: texts of several lines as they are, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write what stands in several places in each of them."""
        return True


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_text)
