"""Import plugins: what is on, what is added to whose images, and how that is told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.importer.plugins import ImportPlugins
from services.importer.settings import ImporterSection
from tintype.domain.attributes import MAX_PROPERTIES, ImageAttributes
from tintype.domain.errors import InvalidPropertyError
from tintype.domain.events import ImageCreated, ImportPlugin
from tintype.domain.evolve import fold
from tintype.domain.image import Image
from tintype.domain.values import Fact, PropertyValue
from tintype.testing.events import EventBuilder

INJECTED: dict[str, PropertyValue] = {"os_admin_user": "cloud", "hw_cpu_cores": 2}


def image_of(properties: dict[str, PropertyValue]) -> Image:
    image = fold(EventBuilder().recorded([ImageCreated(ImageAttributes(properties=properties))]))
    assert image is not None
    return image


def test_by_default_all_is_done_and_nothing_is_added() -> None:
    plugins = ImporterSection().plugins
    assert plugins == ImportPlugins()
    assert plugins.switched_off(is_admin=False) == (ImportPlugin.INJECTION,)


@pytest.mark.parametrize("name", ["decompression", "conversion", "introspection"])
def test_each_is_switched_off_by_its_setting(name: str) -> None:
    plugins = ImporterSection.model_validate({name: False, "injected_properties": INJECTED}).plugins
    assert plugins.switched_off(is_admin=False) == (ImportPlugin(name),)
    assert {state.plugin: state.is_enabled for state in plugins.states()} == {
        plugin: plugin != name for plugin in ImportPlugin
    }


@pytest.mark.parametrize(
    ("exempts_admins", "is_admin", "is_done"),
    [(True, True, False), (True, False, True), (False, True, True), (False, False, True)],
)
def test_administrators_images_are_exempt_from_injection(exempts_admins: bool, is_admin: bool, is_done: bool) -> None:
    plugins = ImportPlugins(injected=INJECTED, exempts_admins=exempts_admins)
    image = image_of({"os_admin_user": "ann"})
    assert plugins.injected_into(image, is_admin=is_admin) == (INJECTED if is_done else {})
    assert (ImportPlugin.INJECTION in plugins.switched_off(is_admin=is_admin)) is not is_done


def test_injection_does_not_exceed_what_an_image_may_have() -> None:
    image = image_of({f"key{number}": "value" for number in range(MAX_PROPERTIES)})
    with pytest.raises(InvalidPropertyError):
        ImportPlugins(injected=INJECTED).injected_into(image, is_admin=False)
    assert ImportPlugins(injected={"key1": "other"}).injected_into(image, is_admin=False) == {"key1": "other"}


@pytest.mark.parametrize(
    "written",
    [
        {"hw_cpu_cores": "4", "hw_pmu": True, "a": "1"},
        "hw_cpu_cores=4, hw_pmu=yes,a=1",
        "a=1,hw_pmu=on,hw_cpu_cores=4,",
    ],
)
def test_injected_properties_take_the_type_of_their_key(written: object) -> None:
    section = ImporterSection.model_validate({"injected_properties": written})
    assert section.plugins.injected == {"hw_cpu_cores": 4, "hw_pmu": True, "a": "1"}


@pytest.mark.parametrize(
    "properties",
    [
        {"hw_cpu_cores": "many"},
        "hw_cpu_cores",
        "hw_cpu_cores=many",
        {"hw_pmu": 3},
        {"os_distro": True},
        {"img_signature": "c3BhbQ=="},
        {"": "empty"},
        {"key\n": "value"},
        {"key": "x" * 20_000},
        {f"key{number}": "value" for number in range(MAX_PROPERTIES + 1)},
    ],
)
def test_properties_that_cannot_be_injected_are_told_at_start(properties: object) -> None:
    with pytest.raises(ValidationError, match="injected_properties"):
        ImporterSection.model_validate({"injected_properties": properties})


def test_without_introspection_only_what_a_conversion_goes_by_stays_a_fact() -> None:
    needed = {"encryption": Fact("luks"), "ova_disk_offset": Fact(1536)}
    facts = {**needed, "min_disk": Fact(3)}
    assert ImportPlugins().kept(facts) == facts
    assert ImportPlugins(introspection=False).kept(facts) == needed
    assert ImportPlugins(introspection=False).kept({"min_disk": Fact(3)}) == {}


def test_every_plugin_is_described_in_one_sentence() -> None:
    states = [*ImportPlugins().states(), *ImportPlugins(injected=INJECTED).states()]
    assert [state.plugin for state in states] == 2 * list(ImportPlugin)
    assert all(state.description.endswith(".") and state.description.count(".") == 1 for state in states)
    assert "hw_cpu_cores, os_admin_user" in states[-1].description


def test_facts_that_a_disk_is_found_by_are_kept_where_nothing_is_read_of_images() -> None:
    names = ["encryption", "ova_disk_format", "ova_disk_offset", "ova_disk_size_bytes"]
    facts = {name: Fact("value", "where") for name in [*names, "os_distro", "ovf_name"]}
    assert sorted(ImportPlugins(introspection=False).kept(facts)) == names
    assert ImportPlugins().kept(facts) == facts
