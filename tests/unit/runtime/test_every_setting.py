"""Every setting of every service refuses what it cannot be, by its name and without repeating it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import annotated_types
import pytest
from pydantic.fields import FieldInfo

from services.catalog.settings import CatalogSettings
from services.converter.settings import ConverterSettings
from services.importer.settings import ImporterSettings
from services.signer.settings import SignerSettings
from tintype.domain.errors import ConfigurationError
from tintype.runtime.settings import Settings, load
from tintype.runtime.settings_description import settings_of

SECRET = "hunter2"
STORES = ("stores.NAME.",)
"""Tables of several kinds, which have tests of their own."""


def wrong_values() -> Iterator[tuple[type[Settings], str, str]]:
    """Each setting with something of another type, and each number with what is below and above its range."""
    for settings_class in (CatalogSettings, ImporterSettings, ConverterSettings, SignerSettings):
        for name, setting in settings_of(settings_class):
            if not name.startswith(STORES):
                for value in wrong_for(setting):
                    yield settings_class, name.replace("NAME", "acme"), value


def wrong_for(setting: FieldInfo) -> list[str]:
    kinds = {kind for kind in (get_args(setting.annotation) or (setting.annotation,)) if kind is not NoneType}
    if not kinds & {int, float, bool} and not all(isinstance(kind, str) for kind in kinds):
        return []  # any text is one
    limits = [str(limit) for each in setting.metadata if (limit := beyond(each)) is not None]
    return [SECRET, *limits]


def beyond(limit: Any) -> float | None:
    """A number that is not within it."""
    match limit:
        case annotated_types.Ge(ge=least):
            return least - 1  # type: ignore[operator]
        case annotated_types.Gt(gt=least):
            return least  # type: ignore[return-value]
        case annotated_types.Le(le=most):
            return most * 2 + 1  # type: ignore[operator]
    return None


WRONG = list(wrong_values())


def test_there_are_many() -> None:
    assert len(WRONG) > 100


@pytest.mark.parametrize(
    ("settings_class", "name", "value"), WRONG, ids=lambda each: str(getattr(each, "__name__", each))
)
def test_a_wrong_value_is_refused_by_the_name_of_its_setting(
    settings_class: type[Settings], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TINTYPE_{name.replace('.', '__').upper()}", value)
    if settings_class is ImporterSettings or settings_class is ConverterSettings:
        monkeypatch.setenv("TINTYPE_STORES__MAIN__PATH", "/store")
    with pytest.raises(ConfigurationError) as refused:
        load(settings_class, None)
    assert str(refused.value).startswith(f"{name}: ")
    assert "\n" not in str(refused.value) and SECRET not in str(refused.value)


@pytest.mark.parametrize("kind", ["file", "s3", "swift", "cinder"])
def test_what_a_store_needs_is_named(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "tintype.toml"
    file.write_text(f'[stores.main]\ntype = "{kind}"\n')
    with pytest.raises(ConfigurationError, match=r"^stores\.main") as refused:
        load(ImporterSettings, file)
    assert "\n" not in str(refused.value)
