"""An upload's name says what it says, and nothing else is one."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.importer.upload_tokens import MAX_SIZE, MAX_TOKEN_LENGTH, UploadToken
from tintype.codec.framing import MAX_MESSAGE_SIZE, MESSAGE_SIZE, WriteFrame, encode_write
from tintype.domain.errors import UploadNotFoundError
from tintype.domain.events import StagePurpose
from tintype.domain.values import DIGEST_ALGORITHMS, Digest, Placement
from tintype.runtime.grpc_server import MAX_MESSAGE_BYTES
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
    assert len(str(token)) < 1024


@given(
    st.lists(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True), min_size=1, max_size=32),
    st.booleans(),
    st.sampled_from(("", "sha224", "sha512")),
)
def test_a_token_with_stores_comes_back_as_it_was(
    names: list[str], all_must_succeed: bool, hash_algorithm: str
) -> None:
    placement = Placement(tuple(names), all_must_succeed=all_must_succeed)
    token = UploadToken(IMAGE, NONCE, StagePurpose.UPLOAD, 5, None, hash_algorithm, placement)
    assert UploadToken.parse(str(token)) == token


def test_a_token_without_stores_of_its_own_has_the_form_that_older_replicas_read() -> None:
    token = UploadToken(IMAGE, NONCE, StagePurpose.UPLOAD, 5, None)
    assert str(token) == encoded([1, IMAGE, NONCE, "upload", 5, ""])
    assert str(replace(token, hash_algorithm="sha512")) == encoded([2, IMAGE, NONCE, "upload", 5, "", "sha512"])


def test_a_message_with_the_longest_name_has_room_for_four_mebibytes() -> None:
    names = tuple(f"{index:02}{'x' * 61}" for index in range(32))
    digest = Digest("sha512", "ab" * 64)
    token = UploadToken(
        IMAGE,
        NONCE,
        StagePurpose.UPLOAD,
        MAX_SIZE,
        digest,
        max(DIGEST_ALGORITHMS, key=len),
        Placement(names, all_must_succeed=True),
    )
    assert UploadToken.parse(str(token)) == token
    longest = "x" * MAX_TOKEN_LENGTH  # whatever a later version says
    frame = encode_write(WriteFrame(longest, MAX_SIZE, True, b"x" * 4 * MESSAGE_SIZE))
    assert len(str(token)) <= MAX_TOKEN_LENGTH
    assert len(frame) <= MAX_MESSAGE_SIZE <= MAX_MESSAGE_BYTES


def test_the_stores_of_an_upload_are_none_of_its_identity() -> None:
    token = UploadToken(IMAGE, NONCE, StagePurpose.UPLOAD, 5, None)
    assert replace(token, placement=Placement(("main", "far"))).operation_id == token.operation_id


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
        *(
            encoded([3, IMAGE, NONCE, "upload", None, "", *rest])
            for rest in (
                ["", ["main"]],
                ["", ["main"], 1],
                ["", ["main"], "true"],
                ["", ["main"], None],
                ["", ["main"], False, "more"],
                ["", [], False],
                ["", [], True],
                ["", "main", False],
                ["", {"main": 1}, False],
                ["", ["main", 1], False],
                ["", ["main", None], False],
                ["", ["main", ["far"]], False],
                ["", ["x" * 64], False],
                ["", ["x"] * 33, False],
                ["blake2b", ["main"], False],
                [None, ["main"], False],
                [["sha512"], ["main"], False],
            )
        ),
        encoded([4, IMAGE, NONCE, "upload", None, "", "", ["main"], False]),
        encoded([1, IMAGE, NONCE, "upload", None, "", "", ["main"], False]),
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
