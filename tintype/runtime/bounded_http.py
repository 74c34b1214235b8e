"""HTTP for libraries that would read whatever comes, for as long as it comes: bounded in size and time.

Keystone's library takes a session of `requests`; this is one in which no answer is larger than it may be, or slower.
"""

from __future__ import annotations

import io
import time
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

MAX_ANSWER_BYTES = 1024 * 1024
"""Keystone's catalog is the largest; a secret of Barbican's has 20,000 bytes unless it is told otherwise."""

_PIECE = 64 * 1024


def bounded_session(timeout_s: float) -> requests.Session:
    """A session that follows no variable of the environment: no proxy, no password of a .netrc."""
    session = requests.Session()
    session.trust_env = False
    adapter = _BoundedAdapter(timeout_s)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _BoundedAdapter(HTTPAdapter):
    """Reads each answer itself, before anybody else does."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        """The whole answer.

        Raises:
            requests.ConnectionError: it is too large, took too long, or broke off.
        """
        deadline = time.monotonic() + self._timeout_s
        # `timeout` is for each piece of the answer; a slow one may have many.
        response = super().send(request, **{**options, "stream": True, "timeout": self._timeout_s})
        try:
            content = self._read(response, deadline)
        except (urllib3.exceptions.HTTPError, requests.ConnectionError) as exc:
            response.close()
            raise requests.ConnectionError(str(exc), request=request) from exc
        response.raw.release_conn()
        response.raw = io.BytesIO(content)
        response.headers.pop("Content-Encoding", None)
        return response

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        content = bytearray()
        # read1 and not read, which would wait until a piece is full.
        while piece := response.raw.read1(_PIECE, decode_content=True):
            content += piece
            if len(content) > MAX_ANSWER_BYTES:
                raise requests.ConnectionError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > deadline:
                raise requests.ConnectionError(f"the answer took longer than {self._timeout_s} s")
        return bytes(content)
