"""os-release and what older systems have in its place: read as specified, and whatever the bytes, without harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.disks.os_release import (
    OperatingSystem,
    of_debian_version,
    of_os_release,
    of_redhat_release,
    parse_os_release,
)

DEBIAN = b"""PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
ID=debian
"""


def test_debian_is_told() -> None:
    assert of_os_release(DEBIAN) == OperatingSystem("linux", "debian", "12", "Debian GNU/Linux 12 (bookworm)")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=plain", "plain"),
        ("K=", ""),
        ('K=""', ""),
        ("K='a b'", "a b"),
        (r'K="a \"quoted\" \$5 \\ \` \n"', r'a "quoted" $5 \ ` \n'),
        (r"K='a \" b'", r"a \" b"),
        ("  K=spaces around \t", None),
        ("\tK=tab", "tab"),
        ("K=carriage\r", "carriage"),
        ("K=$(reboot)", None),
        ("K=`reboot`", None),
        ('K="unfinished', None),
        ("K='", None),
        ('K="', None),
        ("K = spaces", None),
        ("#K=comment", None),
        ("export K=1", None),
        ("1K=digit first", None),
        ("K=a;b", None),
        ("K=h\u00e4rd", "h\u00e4rd"),
    ],
)
def test_one_assignment(line: str, value: str | None) -> None:
    assert parse_os_release(line.encode()).get("K") == value


def test_last_of_several_assignments_counts() -> None:
    assert parse_os_release(b"K=1\nK=2\nK='broken\n") == {"K": "2"}


@pytest.mark.parametrize(
    ("identifier", "kind", "distro"),
    [
        ("ubuntu", "linux", "ubuntu"),
        ("rhel", "linux", "rhel"),
        ("almalinux", "linux", "almalinux"),
        ("opensuse-leap", "linux", "opensuse"),
        ("opensuse-tumbleweed", "linux", "opensuse"),
        ("sled", "linux", "sled"),
        ("alpine", "linux", "alpine"),
        ("freebsd", None, "freebsd"),
        ("never-heard-of", "linux", "never-heard-of"),
        ("DEBIAN", "linux", "debian"),
    ],
)
def test_names_are_those_of_compute_services(identifier: str, kind: str | None, distro: str) -> None:
    assert of_os_release(f"ID={identifier}\n".encode()) == OperatingSystem(kind, distro)


def test_file_without_an_id_is_of_some_linux() -> None:
    assert of_os_release(b"NAME=Mine\n") == OperatingSystem("linux", "linux")


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"ID='; rm -rf /'", b"ID=" + b"x" * 65, b"ID=../etc", b"ID="])
def test_what_is_no_id_tells_nothing(content: bytes) -> None:
    assert of_os_release(content) is None


@pytest.mark.parametrize(
    ("content", "version"),
    [(b"7.11\n", "7.11"), (b"12", "12"), (b"trixie/sid\n", None), (b"", None), (b"\xff\xfe", None)],
)
def test_debian_version_is_told_where_it_is_a_number(content: bytes, version: str | None) -> None:
    assert of_debian_version(content) == OperatingSystem("linux", "debian", version)


@pytest.mark.parametrize(
    ("content", "distro", "version"),
    [
        (b"CentOS release 6.10 (Final)\n", "centos", "6.10"),
        (b"CentOS Linux release 7.9.2009 (Core)\n", "centos", "7.9.2009"),
        (b"Red Hat Enterprise Linux Server release 6.5 (Santiago)\n", "rhel", "6.5"),
        (b"Red Hat Enterprise Linux release 8.1 (Ootpa)\n", "rhel", "8.1"),
        (b"Rocky Linux release 9.3 (Blue Onyx)\n", "rocky", "9.3"),
        (b"Fedora release 12 (Constantine)\n", "fedora", "12"),
    ],
)
def test_release_file_of_the_red_hat_family_is_told(content: bytes, distro: str, version: str) -> None:
    found = of_redhat_release(content)
    assert found is not None
    assert (found.type, found.distro, found.version) == ("linux", distro, version)


def test_other_release_files_tell_nothing() -> None:
    assert of_redhat_release(b"My own release 1\n") is None
    assert of_redhat_release(b"") is None


def test_endless_file_is_read_up_to_its_bound() -> None:
    assert len(parse_os_release(b"".join(b"K%d=1\n" % number for number in range(100_000)))) <= 1024


@given(st.binary(max_size=2000))
def test_any_bytes_do_no_harm(content: bytes) -> None:
    system = of_os_release(content)
    assert system is None or system.distro
    of_debian_version(content)
    of_redhat_release(content)


@given(st.text(alphabet="ID=\"'\\$` \n#deb_", max_size=200))
def test_any_quoting_does_no_harm(content: str) -> None:
    parse_os_release(content.encode())
