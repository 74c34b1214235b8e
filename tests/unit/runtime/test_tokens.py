"""What a token is good for, and what the file of tokens may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tintype.codec.tokens import digest_of, new_token
from tintype.domain.access import Caller
from tintype.domain.errors import (
    ConfigurationError,
    InvalidIdentifierError,
    NotPermittedError,
    ProjectNotPermittedError,
    UnauthenticatedError,
)
from tintype.domain.values import ProjectId
from tintype.runtime import reloading
from tintype.runtime.auth import authentication, proven_caller
from tintype.runtime.settings import AuthSettings
from tintype.runtime.tokens import Tokens

TOKEN = f"tintype_{'a' * 43}"
ADMIN = f"tintype_{'b' * 43}"


def entry(token: str, rest: str = 'actor = "ann"') -> str:
    return f'[[tokens]]\nsha256 = "{digest_of(token)}"\n{rest}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(
        entry(TOKEN, 'actor = "ann"\nprojects = ["acme", "lab"]')
        + entry(ADMIN, 'actor = "root"\nprojects = ["*"]\nadmin = true')
    )
    return path


def shown(token: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"), *more)


def test_caller_is_who_its_token_says(file: Path) -> None:
    tokens = Tokens(file)
    named = shown(TOKEN, ("tintype-actor", "somebody else"), ("tintype-project", "lab"))
    assert proven_caller(tokens, named) == Caller(ProjectId("lab"), "ann")
    assert proven_caller(tokens, shown(TOKEN)) == Caller(ProjectId("acme"), "ann")
    assert proven_caller(tokens, shown(ADMIN)) == Caller(ProjectId("default"), "root")
    as_admin = shown(ADMIN, ("tintype-admin", "true"), ("tintype-project", "any"))
    assert proven_caller(tokens, as_admin) == Caller(ProjectId("any"), "root", is_admin=True)


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ((), UnauthenticatedError),
        (shown(""), UnauthenticatedError),
        (shown("tintype_wrong"), UnauthenticatedError),
        (shown(digest_of(TOKEN)), UnauthenticatedError),
        ((("authorization", TOKEN),), UnauthenticatedError),
        ((("authorization", f"Basic {TOKEN}"),), UnauthenticatedError),
        ((("authorization", "Bearer " + "x" * 600),), UnauthenticatedError),
        (shown(TOKEN, ("tintype-project", "theirs")), ProjectNotPermittedError),
        (shown(TOKEN, ("tintype-project", "../x")), InvalidIdentifierError),
        (shown(TOKEN, ("tintype-admin", "true")), NotPermittedError),
    ],
)
def test_more_than_the_token_is_good_for_is_refused(
    file: Path, metadata: tuple[tuple[str, str], ...], error: type[Exception]
) -> None:
    with pytest.raises(error) as refused:
        proven_caller(Tokens(file), metadata)
    assert TOKEN not in str(refused.value)


def test_tokens_change_while_the_service_runs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_INTERVAL_S", 0.0)
    known = authentication(AuthSettings(tokens_file=file))
    newer = new_token()
    file.write_text(entry(newer, 'actor = "bob"'))
    assert known(shown(newer)).actor == "bob"
    with pytest.raises(UnauthenticatedError):
        known(shown(TOKEN))
    file.write_text("broken [")
    assert known(shown(newer)).actor == "bob"


def test_without_a_file_callers_are_who_they_say() -> None:
    assert authentication(AuthSettings())((("tintype-actor", "ann"),)).actor == "ann"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[tokens", "is not TOML"),
        ("\x00", "is not TOML"),
        ("tokens = 3", "tokens: "),
        ("users = []", "users: "),
        (entry(TOKEN, ""), r"tokens\.0\.actor: Field required"),
        (entry(TOKEN, 'actor = "a b\\nc"'), r"tokens\.0\.actor"),
        (entry(TOKEN, 'actor = "a"\nprojects = []'), r"tokens\.0\.projects"),
        (entry(TOKEN, 'actor = "a"\nprojects = ["../x"]'), r"tokens\.0\.projects"),
        ('[[tokens]]\nactor = "a"\nsha256 = "abc"', r"tokens\.0\.sha256"),
        (entry(TOKEN) + entry(TOKEN), "one token twice"),
        ("#" * (4 * 1024 * 1024 + 1), "is larger than"),
    ],
)
def test_wrong_file_is_named_without_its_secrets(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"^auth\.tokens_file: .*{message}") as refused:
        Tokens(path)
    assert digest_of(TOKEN) not in str(refused.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^auth\.tokens_file: .*none\.toml cannot be read"):
        Tokens(tmp_path / "none.toml")


def test_tokens_are_not_guessed() -> None:
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) > 40
