"""What the mount table tells of an NFS share, and how it is judged."""

from __future__ import annotations

import pytest

from tintype.adapters.filesystem.mount_examination import is_next_to_us, nfs_options
from tintype.adapters.filesystem.mount_table import Mount, MountTable
from tintype.ports.image_store import Grade

ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n"
    "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
)


def mounted(options: str) -> Mount:
    line = f"36 35 0:50 / /srv/image\\040share rw,noatime shared:1 - nfs4 filer:/images rw,{options}"
    mount = MountTable.parse(f"nonsense\n{line}\n").by_id(36)
    assert mount is not None
    return mount


def grades(options: str) -> dict[str, Grade]:
    return {finding.name: finding.grade for finding in nfs_options(mounted(options))}


def test_a_mount_point_with_a_space_is_read() -> None:
    assert str(mounted("vers=4.2").mount_point) == "/srv/image share"


def test_a_hard_mount_with_locks_of_the_server_is_good() -> None:
    found = grades("vers=4.2,hard,timeo=600,local_lock=none,addr=127.0.0.1")
    assert set(found.values()) == {Grade.GOOD}


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("soft", "mount-hard"),
        ("softerr", "mount-hard"),
        ("hard,nolock", "mount-locking"),
        ("hard,local_lock=all", "mount-locking"),
        ("hard,local_lock=posix", "mount-locking"),
    ],
)
def test_an_option_that_endangers_images_is_bad(option: str, name: str) -> None:
    assert grades(f"vers=3,{option},addr=127.0.0.1")[name] is Grade.BAD


@pytest.mark.parametrize(
    ("server", "is_near"), [("192.168.1.7", True), ("192.168.2.7", False), ("127.0.0.1", True), ("fe80::1", False)]
)
def test_a_server_behind_a_router_is_told_from_a_near_one(server: str, is_near: bool) -> None:
    assert is_next_to_us(server, ROUTES) is is_near


@pytest.mark.parametrize("line", ["", "1 2 3", "x y 0:1 / / rw - t s o", "1 2 0:1 / / rw no separator", "\0" * 100])
def test_a_malformed_line_is_passed_over(line: str) -> None:
    assert MountTable.parse(line).identities == {}
