"""What goes from the log into a backup."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import cast

import pytest

from tintype.client.backup import take_backup
from tintype.client.backup_chain import whole_backup
from tintype.client.log_message import LogMessage
from tintype.client.log_reader import LogReader
from tintype.codec.subjects import STREAM


class OneMessageLog:
    """A log with one event, which has these headers, and no checkpoint."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._message = LogMessage(1, "tintype.v1.p.image.i.created", headers, b"payload", 7)

    async def last_position(self, stream: str, subject: str) -> int:
        return 0

    async def state(self, stream: str) -> SimpleNamespace:
        return SimpleNamespace(
            state=SimpleNamespace(last_seq=1, messages=1),
            config=SimpleNamespace(num_replicas=1, duplicate_window=120.0),
        )

    async def read(self, stream: str, subject: str, head: int, *, after: int = 0) -> AsyncGenerator[LogMessage, None]:
        if stream == STREAM:
            yield self._message


@pytest.mark.parametrize(("name", "value"), [("two words", "x"), ("folded", "one\r\n two"), ("", "x")])
async def test_header_that_cannot_be_sent_keeps_no_log_from_being_backed_up(name: str, value: str) -> None:
    file = io.BytesIO()
    log = OneMessageLog({"ce-id": "1", name: value})
    await take_backup(cast(LogReader, log), "nats://127.0.0.1:4222", file, None, None)
    found = await whole_backup(file)
    assert found.newest[STREAM].headers == {"ce-id": "1"}
