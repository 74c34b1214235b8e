"""What a program of a stack says when it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tintype.embedded.child import ServiceProgram


@pytest.mark.parametrize(
    ("log", "complaint"),
    [
        (
            '{"event": "service started"}\n{"reason": "KEY_MANAGER_UNAVAILABLE", "error": "no token", "event": "x"}\n',
            "no token [KEY_MANAGER_UNAVAILABLE]",
        ),
        ('{"event": "service stopped"}\n', ""),
        ("no JSON\n", ""),
        ("", ""),
        ("[1]\n", ""),
    ],
)
def test_a_service_that_ends_says_why_where_its_log_does(tmp_path: Path, log: str, complaint: str) -> None:
    path = tmp_path / "signer.log"
    path.write_text(log)
    assert ServiceProgram("signer", "", tmp_path / "settings.toml", path, {}).complaint() == complaint
