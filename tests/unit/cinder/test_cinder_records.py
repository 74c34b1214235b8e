"""What a volume's metadata says, whoever wrote it."""

from __future__ import annotations

import pytest

from tintype.adapters.cinder.records import BlobState, Lease, Volume, current, orphans, parse_volume, superseded
from tintype.domain.errors import StoreUnavailableError

KEY = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0a01/9b2d1a44-8a3e-4cf4-9d0c-0d3c1f9f0b01/source"
MINE, OTHER = "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0c01", "6f1c1a44-8a3e-4cf4-9d0c-0d3c1f9f0c02"


def described(number: int = 1, /, **metadata: str) -> dict[str, object]:
    return {
        "id": f"6f1c1a44-8a3e-4cf4-9d0c-00000000000{number}",
        "status": "available",
        "size": 1,
        "created_at": "2026-01-01T00:00:00.000000",
        "metadata": {"tintype_store": "main", "tintype_key": KEY, "tintype_state": "writing", **metadata},
    }


def parsed(number: int = 1, /, **metadata: str) -> Volume:
    volume = parse_volume(described(number, **metadata), "main")
    assert volume is not None
    return volume


@pytest.mark.parametrize(
    "metadata",
    [
        {"tintype_store": "other"},
        {"tintype_key": "../../etc/passwd"},
        {"tintype_key": ""},
        {"tintype_state": "published"},
    ],
)
def test_a_volume_whose_metadata_are_strange_is_none_of_the_stores(metadata: dict[str, str]) -> None:
    assert parse_volume(described(**metadata), "main") is None


@pytest.mark.parametrize("identifier", ["../snapshots/1", "", None, 7, "6f1c1a44?all_tenants=1"])
def test_an_id_that_would_lead_to_another_url_is_refused(identifier: object) -> None:
    with pytest.raises(StoreUnavailableError):
        parse_volume({**described(), "id": identifier}, "main")


@pytest.mark.parametrize("size", ["-1", "1e9", "٣", "9" * 30, ""])
def test_a_size_that_is_none_is_zero(size: str) -> None:
    assert parsed(tintype_size=size).size == 0


def test_leases_that_do_not_parse_are_nobodys() -> None:
    volume = parsed(tintype_lease_a="w 100", tintype_lease_b="x 100", tintype_lease_c="w soon", tintype_lease_d="w")
    assert volume.leases == (Lease("a", True, 100),)


def test_a_lease_is_read_as_it_was_written() -> None:
    for lease in (Lease("a", True, 100, MINE), Lease("b", False, 5)):
        assert parsed(**lease.item).leases == (lease,)


def test_the_greatest_generation_counts_and_supersedes_the_others() -> None:
    old = parsed(1, tintype_state="committed", tintype_generation="1")
    new = parsed(2, tintype_state="committed", tintype_generation="2")
    later = parsed(3, tintype_state="writing", tintype_generation="3")
    assert current([old, new, later]) == new
    assert superseded([old, new, later]) == [old]
    assert superseded([later]) == []


def test_an_attachment_that_no_living_lease_names_is_an_orphan() -> None:
    leases = [Lease("dead", True, 99, MINE), Lease("alive", False, 101, OTHER)]
    assert orphans([MINE, OTHER], leases, 100) == [MINE]


def test_nothing_is_an_orphan_while_somebody_alive_may_just_have_attached_it() -> None:
    attaching = [Lease("attaching", False, 101)]
    assert orphans([MINE], attaching, 100) == []
    assert orphans([MINE], attaching, 100, but="attaching") == [MINE]
    assert orphans([MINE], attaching, 102) == [MINE]


def test_only_living_writers_keep_others_out() -> None:
    volume = parsed(**Lease("w", True, 100).item, **Lease("r", False, 900).item)
    assert volume.has_live_writer(99)
    assert not volume.has_live_writer(99, but="w")
    assert not volume.has_live_writer(100)
    assert volume.state is BlobState.WRITING
