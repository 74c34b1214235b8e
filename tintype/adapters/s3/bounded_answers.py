"""An end to what the client library reads whole: listings, and refusals of whatever call, are a server's to make up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.awsrequest import AWSResponse
from urllib3.exceptions import HTTPError

ANSWER_MAX = 16 * 1024 * 1024
"""A page of a listing has at most 1000 names of at most 1 KiB."""


class AnswerTooLargeError(HTTPError):
    """A server answers more than any of its calls has to say."""


class BoundedAnswers:
    """The library's HTTP ``session``, which reads no more than :data:`ANSWER_MAX` of what is not an object's bytes."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> Any:
        """Send, and read the answer unless its bytes are for the caller to read.

        Raises:
            AnswerTooLargeError: it does not end in time.
        """
        is_streamed = request.stream_output
        request.stream_output = True
        answer = self._session.send(request)
        if is_streamed and answer.status_code < 300:
            return answer
        found = bytearray()
        for piece in answer.raw.stream():
            found += piece
            if len(found) > ANSWER_MAX:
                answer.raw.close()
                raise AnswerTooLargeError("the answer is too large")
        return AWSResponse(answer.url, answer.status_code, answer.headers, _Read(bytes(found)))

    def close(self) -> None:
        """End its connections."""
        self._session.close()


class _Read:
    """What was read already, where the library expects a connection."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        """All of it."""
        yield self._content
