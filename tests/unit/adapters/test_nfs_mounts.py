"""What the mount table tells of an NFS share, and how it is judged."""

from __future__ import annotations

import pytest

from tintype.adapters.filesystem.mount_examination import back_end, monitoring, network, nfs_options
from tintype.adapters.filesystem.mount_table import Mount, MountTable
from tintype.adapters.filesystem.server_route import Reach, Routes
from tintype.ports.image_store import Grade

IPV4 = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n"
    "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
    "eth1\t0003A8C0\t00000000\t0001\t0\t0\t500\t00FFFFFF\n"
    "eth0\t0003A8C0\t0101A8C0\t0003\t0\t0\t100\t00FFFFFF\n"
    "wg0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\n"
    "*\t0005A8C0\t00000000\t0201\t0\t0\t0\t00FFFFFF\n"
    "eth0\tnonsense\n"
    "eth0\t0006A8C0\t00000000\t0001\t0\t0\t0\tFF00FF00\n"
)
NONE, ONE = "0" * 32, "fd00" + "0" * 27 + "1"
IPV6 = (
    f"fd00{'0' * 28} 40 {NONE} 00 {NONE} 00000100 00000001 00000000 00000001     eth0\n"
    f"fe80{'0' * 28} 40 {NONE} 00 {NONE} 00000100 00000002 00000000 00000001     eth0\n"
    f"2001{'0' * 28} 10 {NONE} 00 {ONE} 00000400 00000003 00000000 00000003     eth0\n"
    f"{NONE} 00 {NONE} 00 {NONE} ffffffff 00000001 00000000 00200200       lo\n"
    "nonsense\n"
)
LINKS = {"eth0": 1, "eth1": 1, "wg0": 65534, "lo": 772}
ROUTES = Routes(IPV4, IPV6, LINKS.get)


def mounted(options: str) -> Mount:
    line = f"36 35 0:50 / /srv/image\\040share rw,noatime shared:1 - nfs4 filer:/images rw,{options}"
    mount = MountTable.parse(f"nonsense\n{line}\n").by_id(36)
    assert mount is not None
    return mount


def mounted_as(file_system: str, source: str) -> Mount:
    mount = MountTable.parse(f"36 35 8:17 / /srv rw shared:1 - {file_system} {source} rw").by_id(36)
    assert mount is not None
    return mount


def grades(options: str) -> dict[str, Grade]:
    return {finding.name: finding.grade for finding in nfs_options(mounted(options))}


def test_a_mount_point_with_a_space_is_read() -> None:
    assert str(mounted("vers=4.2").mount_point) == "/srv/image share"


def test_a_hard_mount_with_locks_of_the_server_is_good() -> None:
    found = grades("vers=4.2,hard,timeo=600,local_lock=none")
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
    assert grades(f"vers=3,{option}")[name] is Grade.BAD


@pytest.mark.parametrize(
    ("server", "reach"),
    [
        ("192.168.1.7", Reach.NEAR),
        ("127.0.0.1", Reach.NEAR),
        ("::1", Reach.NEAR),
        ("fd00::7", Reach.NEAR),
        ("fe80::1%eth0", Reach.NEAR),
        ("192.168.2.7", Reach.ROUTED),
        ("192.168.3.7", Reach.ROUTED),  # two routes of one length: the lower metric counts
        ("2001::7", Reach.ROUTED),
        ("10.1.2.3", Reach.UNKNOWN),  # a tunnel
        ("192.168.5.7", Reach.UNKNOWN),  # the route refuses
        ("2002::7", Reach.UNKNOWN),
        ("filer.example.org", Reach.UNKNOWN),
        ("", Reach.UNKNOWN),
    ],
)
def test_a_server_behind_a_router_is_told_from_a_near_one(server: str, reach: Reach) -> None:
    assert ROUTES.reach(server) is reach


def test_without_routes_nothing_is_claimed_of_a_server() -> None:
    assert Routes("", "", LINKS.get).reach("192.168.1.7") is Reach.UNKNOWN


@pytest.mark.parametrize(
    ("options", "grade", "said"),
    [
        ("addr=192.168.1.7", Grade.GOOD, "without a router"),
        ("addr=192.168.2.7", Grade.DOUBTFUL, "through a router"),
        ("addr=10.1.2.3", Grade.DOUBTFUL, "cannot be told"),
        ("addr=2002::7", Grade.DOUBTFUL, "cannot be told"),
        ("hard", Grade.DOUBTFUL, "cannot be told"),
    ],
)
def test_where_a_server_is_is_told_or_said_to_be_unknown(options: str, grade: Grade, said: str) -> None:
    finding = network(mounted(options), ROUTES)
    assert (finding.name, finding.grade) == ("mount-network", grade)
    assert said in finding.found
    assert bool(finding.advice) is (grade is not Grade.GOOD)


def test_a_local_disk_has_no_server_to_be_near() -> None:
    assert network(mounted_as("ext4", "/dev/sdb1"), ROUTES).grade is Grade.GOOD


@pytest.mark.parametrize(
    ("file_system", "source", "grade"),
    [
        ("nfs4", "filer:/images", Grade.GOOD),
        ("ext4", "/dev/sdb1", Grade.GOOD),
        ("fuse.glusterfs", "filer:/images", Grade.GOOD),
        ("ext4", "/dev/loop0", Grade.DOUBTFUL),
        ("tmpfs", "tmpfs", Grade.DOUBTFUL),
        ("overlay", "overlay", Grade.DOUBTFUL),
        ("fuse", "program", Grade.DOUBTFUL),
    ],
)
def test_storage_that_is_not_made_for_production_is_doubtful(file_system: str, source: str, grade: Grade) -> None:
    assert back_end(mounted_as(file_system, source)).grade is grade


def test_a_mount_that_nobody_looks_at_any_more_is_bad() -> None:
    assert monitoring(is_watched=True).grade is Grade.GOOD
    assert monitoring(is_watched=False).grade is Grade.BAD


@pytest.mark.parametrize("line", ["", "1 2 3", "x y 0:1 / / rw - t s o", "1 2 0:1 / / rw no separator", "\0" * 100])
def test_a_malformed_line_is_passed_over(line: str) -> None:
    assert MountTable.parse(line).identities == {}
