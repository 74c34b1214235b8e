"""An upload's name says what it says, and nothing else is one."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.importer.upload_tokens import UploadToken
from tintype.domain.errors import UploadNotFoundError
from tintype.domain.events import StagePurpose
from tintype.domain.values import Digest
from tintype.testing.events import an_id, an_image_id

IMAGE = an_image_id()
NONCE = an_id("nonce")


@given(
    st.sampled_from((StagePurpose.UPLOAD, StagePurpose.STAGE)),
    st.none() | st.integers(0, 2**62),
    st.none() | st.just(Digest("sha256", "ab" * 32)),
    st.sampled_from(("", "sha224", "sha512")),
)
def test_a_token_comes_back_as_it_was(
    purpose: StagePurpose, size: int | None, digest: Digest | None, hash_algorithm: str
) -> None:
    token = UploadToken(IMAGE, NONCE, purpose, size, digest, hash_algorithm)
    assert UploadToken.parse(str(token)) == token


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


def test_a_token_is_what_the_form_of_these_tests_is() -> None:
    text = encoded([1, IMAGE, NONCE, "upload", 5, ""])
    assert UploadToken.parse(text) == UploadToken(IMAGE, NONCE, StagePurpose.UPLOAD, 5, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ä",
        "=" * 10,
        "A" * 5000,
        "[" * 900,
        base64.urlsafe_b64encode(b"[" * 600).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        encoded(None),
        encoded({}),
        encoded([]),
        encoded([2, IMAGE, NONCE, "upload", 5, ""]),
        encoded([1, IMAGE, NONCE, "import", 5, ""]),
        encoded([1, IMAGE, NONCE, "upload", -1, ""]),
        encoded([1, IMAGE, NONCE, "upload", True, ""]),
        encoded([1, IMAGE, NONCE, "upload", 2**63, ""]),
        encoded([1, IMAGE, NONCE, "upload", 1.5, ""]),
        encoded([1, IMAGE, NONCE, "upload", None, "sha256:zz"]),
        encoded([1, IMAGE, NONCE, "upload", None, None]),
        encoded([1, IMAGE, "../../etc", "upload", None, ""]),
        encoded([1, IMAGE.upper(), NONCE, "upload", None, ""]),
        encoded([True, IMAGE, NONCE, "upload", None, ""]),
        encoded([1, IMAGE, NONCE, "upload", None, "", "more"]),
        encoded([1, IMAGE, NONCE, "upload", None, "", "sha512"]),
        encoded([2, IMAGE, NONCE, "upload", None, "", "blake2b"]),
        encoded([2, IMAGE, NONCE, "upload", None, "", ""]),
        encoded([2, IMAGE, NONCE, "upload", None, "", ["sha512"]]),
        encoded([2, IMAGE, NONCE, "upload", None, "", {"sha512": 1}]),
        encoded([2, IMAGE, NONCE, "upload", None, "", "sha512", "more"]),
        encoded([3, IMAGE, NONCE, "upload", None, "", "sha512"]),
        encoded([1, IMAGE, NONCE, "upload", 5, ""]) + "=",
        " " + encoded([1, IMAGE, NONCE, "upload", 5, ""]),
    ],
)
def test_anything_else_is_no_upload(text: str) -> None:
    with pytest.raises(UploadNotFoundError):
        UploadToken.parse(text)


def test_an_operation_belongs_to_one_image() -> None:
    token = UploadToken(IMAGE, NONCE, StagePurpose.UPLOAD, 5, None)
    assert replace(token, image_id=an_image_id("another")).operation_id != token.operation_id
    assert replace(token, nonce=an_id("another")).operation_id != token.operation_id
    assert replace(token, size=6).operation_id == token.operation_id


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(UploadNotFoundError):
        UploadToken.parse(text)
