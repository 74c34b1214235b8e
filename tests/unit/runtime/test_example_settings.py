"""The example in deploy/ is one that every service accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.catalog.settings import CatalogSettings
from services.converter.settings import ConverterSettings
from services.importer.settings import ImporterSettings
from services.signer.settings import SignerSettings
from tintype.runtime.settings import Settings, load

EXAMPLE = Path(__file__).parents[3] / "deploy" / "tintype.example.toml"


@pytest.mark.parametrize("settings_class", [CatalogSettings, ImporterSettings, ConverterSettings, SignerSettings])
def test_the_example_is_accepted(settings_class: type[Settings]) -> None:
    assert load(settings_class, EXAMPLE).nats.url == "nats://127.0.0.1:4222"
