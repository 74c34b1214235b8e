"""Overrides: who may, of which types, and what counts where several say something."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.domain.test_image import (
    ATTESTED,
    CREATE,
    FIRST,
    IMPORT,
    PUBLISHED,
    SKIPPED,
    SOURCE,
    STAGED,
    VERIFIED,
    Life,
)
from tintype.domain import errors
from tintype.domain.attributes import ImageAttributes, checked
from tintype.domain.commands import CreateImage, RecordStaged, UpdateImage
from tintype.domain.events import ImageUpdated, StagePurpose
from tintype.domain.values import Fact, PropertyValue

FACTS = {
    "os_type": Fact("linux", "the guest's /etc/os-release"),
    "min_disk": Fact(8, "the virtual size"),
    "qcow2_version": Fact(3, "qcow2 header, bytes 4-7"),
    "qcow2_lazy_refcounts": Fact(True, "qcow2 header, bytes 80-87"),
}
READ = RecordStaged(FIRST, StagePurpose.IMPORT, replace(SOURCE, facts=FACTS))


def overriding(*, may_override: bool = True, **overrides: PropertyValue) -> UpdateImage:
    mask = tuple(f"overrides.{key}" for key in overrides)
    return UpdateImage(ImageAttributes(overrides=overrides), mask, may_override=may_override)


def owners(**properties: PropertyValue) -> UpdateImage:
    return UpdateImage(ImageAttributes(properties=properties), tuple(f"properties.{key}" for key in properties))


def active() -> Life:
    """An image with facts that were read."""
    return Life().does(CREATE, IMPORT, READ, VERIFIED, SKIPPED, ATTESTED, PUBLISHED)


def test_nothing_is_read_before_there_are_bytes() -> None:
    life = Life().does(CREATE, IMPORT, READ)
    assert life.now.facts == {}
    assert life.now.effective_properties() == {}


def test_an_owners_property_counts_before_a_fact_and_an_override_before_both() -> None:
    life = active()
    assert life.now.effective_properties()["os_type"] == "linux"
    life.does(owners(os_type="bsd"))
    assert life.now.effective_properties()["os_type"] == "bsd"
    life.does(overriding(os_type="windows"), owners(os_type="plan9"))
    assert life.now.effective_properties()["os_type"] == "windows"
    assert life.now.attributes.properties["os_type"] == "plan9"
    assert life.now.facts["os_type"] == FACTS["os_type"]


def test_what_was_overridden_counts_again_once_the_override_is_cleared() -> None:
    life = active().does(overriding(os_type="windows"))
    life.does(UpdateImage(ImageAttributes(), ("overrides.os_type",), may_override=True))
    assert life.now.attributes.overrides == {}
    assert life.now.effective_properties()["os_type"] == "linux"
    assert isinstance(life.events[-1], ImageUpdated)
    assert life.events[-1].changed == ("overrides",)


@pytest.mark.parametrize("size", ["min_disk", "min_ram"])
def test_a_size_counts_as_its_attribute_and_not_among_the_properties(size: str) -> None:
    life = active().does(UpdateImage(ImageAttributes(overrides={size: 20}), ("overrides",), may_override=True))
    now = life.now
    assert {"min_disk": now.effective_min_disk(), "min_ram": now.effective_min_ram()}[size] == 20
    assert size not in now.effective_properties()


def test_min_disk_is_the_override_else_the_owners_else_as_read() -> None:
    life = active()
    assert life.now.effective_min_disk() == 8
    life.does(UpdateImage(ImageAttributes(min_disk=10), ("min_disk",)))
    assert life.now.effective_min_disk() == 10
    life.does(overriding(min_disk=0))
    assert life.now.effective_min_disk() == 0
    assert life.now.attributes.min_disk == 10


def test_who_may_not_override_neither_sets_nor_clears_nor_creates() -> None:
    life = active().does(overriding(os_type="windows"))
    for refused in (
        overriding(os_type="linux", may_override=False),
        overriding(os_distro="debian", may_override=False),
        UpdateImage(ImageAttributes(), ("overrides",)),
        UpdateImage(ImageAttributes(), ("overrides.os_type",)),
    ):
        with pytest.raises(errors.NotPermittedError, match="only an administrator"):
            life.does(refused)
    with pytest.raises(errors.NotPermittedError, match="'os_type'"):
        Life().does(CreateImage(ImageAttributes(overrides={"os_type": "linux"})))
    Life().does(CreateImage(ImageAttributes(overrides={"os_type": "linux"}), may_override=True))


def test_who_may_not_override_changes_no_overrides_type() -> None:
    life = active().does(overriding(note=1))
    with pytest.raises(errors.NotPermittedError):
        life.does(overriding(note=True, may_override=False))


def test_an_owner_may_send_back_the_overrides_that_were_read() -> None:
    life = active().does(overriding(os_type="windows"))
    life.does(UpdateImage(replace(life.now.attributes, name="new"), ("name", "overrides")))
    assert life.now.attributes.name == "new"
    assert life.now.attributes.overrides == {"os_type": "windows"}


def test_an_owners_update_keeps_the_overrides() -> None:
    life = active().does(overriding(os_type="windows"), owners(note="x"))
    life.does(UpdateImage(ImageAttributes(name="n"), ("name", "properties", "tags")))
    assert life.now.attributes.overrides == {"os_type": "windows"}


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("hw_cpu_cores", "4", 4),
        ("hw_boot_menu", "yes", True),
        ("os_type", "linux", "linux"),
        ("min_disk", "20", 20),
        ("min_ram", 0, 0),
        ("anything", 7, 7),
        ("anything", False, False),
        ("anything", "7", "7"),
    ],
)
def test_an_override_has_the_type_of_its_key(key: str, value: PropertyValue, kept: PropertyValue) -> None:
    found = checked(ImageAttributes(overrides={key: value})).overrides[key]
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("overrides", "refusal"),
    [
        ({"hw_cpu_cores": "many"}, errors.PropertyTypeError),
        ({"hw_boot_menu": 1}, errors.PropertyTypeError),
        ({"os_type": 1}, errors.PropertyTypeError),
        ({"min_disk": "much"}, errors.PropertyTypeError),
        ({"min_disk": True}, errors.PropertyTypeError),
        ({"min_disk": -1}, errors.InvalidSizeError),
        ({"min_disk": 2**40}, errors.InvalidSizeError),
        ({"min_ram": "-1"}, errors.InvalidSizeError),
        ({"min_ram": 2**63}, errors.PropertyTypeError),
        ({"anything": 2**63}, errors.PropertyTypeError),
        ({"": "x"}, errors.InvalidPropertyError),
        ({"k": "x" * 16385}, errors.InvalidPropertyError),
        ({str(n): "x" for n in range(129)}, errors.InvalidPropertyError),
        ({"img_signature": "x"}, errors.InvalidPropertyError),
    ],
)
def test_an_override_out_of_bounds_is_refused(
    overrides: dict[str, PropertyValue], refusal: type[errors.TintypeError]
) -> None:
    with pytest.raises(refusal):
        checked(ImageAttributes(overrides=overrides))


def test_an_override_of_a_fact_takes_the_facts_type() -> None:
    life = active().does(overriding(qcow2_version="2", qcow2_lazy_refcounts="no"))
    assert life.now.attributes.overrides == {"qcow2_version": 2, "qcow2_lazy_refcounts": False}
    with pytest.raises(errors.PropertyTypeError, match="qcow2_version"):
        life.does(overriding(qcow2_version="second"))


def test_an_override_from_before_the_facts_stays_and_hinders_no_update() -> None:
    life = Life().does(CREATE, overriding(qcow2_version="second"), IMPORT, READ, VERIFIED, SKIPPED, ATTESTED, PUBLISHED)
    life.does(owners(note="x"))
    assert life.now.effective_properties()["qcow2_version"] == "second"


def test_what_the_site_injects_becomes_the_owners_property() -> None:
    injected = RecordStaged(FIRST, StagePurpose.IMPORT, SOURCE, injected={"note": "site", "hw_cpu_cores": 2})
    life = Life().does(CREATE, owners(note="owner", other="x"), overriding(note="admin"), IMPORT, injected)
    assert life.now.attributes.properties == {"note": "site", "other": "x", "hw_cpu_cores": 2}
    assert life.now.effective_properties()["note"] == "admin"
    life.does(owners(note="owner again"))
    assert life.now.attributes.properties["note"] == "owner again"
    assert STAGED.injected == {}


def test_sizes_that_are_sent_back_as_they_were_shown_do_not_become_the_owners_word() -> None:
    life = active()
    shown = ImageAttributes(name="new", min_disk=life.now.effective_min_disk())
    life.does(UpdateImage(shown, ("name", "min_disk")))
    assert (life.now.attributes.name, life.now.attributes.min_disk) == ("new", 0)
    life.does(UpdateImage(ImageAttributes(min_disk=9), ("min_disk",)))
    assert life.now.attributes.min_disk == 9
