"""What a web download may be pointed at: every trick with hosts and addresses that is known to get past a filter."""

from __future__ import annotations

import ipaddress

import pytest

from services.importer.sources.addresses import AddressRules, is_public, redirected, target_of
from tintype.domain.errors import ConfigurationError, InvalidUriError, SourceForbiddenError

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "192.167.1.1",
    "2001:4860:4860::8888",
    "2a00:1450:4001:82a::200e",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]

NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.1.2.3",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:0.0.0.0",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::a00:1",
    "64:ff9b:1::7f00:1",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:c0a8:1::1",
    "2a00:1450:4001:82a:0:5efe:7f00:1",
    "2a00:1450:4001:82a:200:5efe:7f00:1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd12:3456:789a::1",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_fetched_from(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_any_other_address_is_not(address: str) -> None:
    found = ipaddress.ip_address(address)
    assert not is_public(found)
    host = f"[{address}]" if found.version == 6 else address
    target = target_of(f"http://{host}/")
    with pytest.raises(SourceForbiddenError):
        AddressRules((), ()).permitted(target, [found])


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7F.1",
        "0x7f.0x0.0x0.0x1",
        "0177.0.0.1",
        "0177.0.0.01",
        "127.1",
        "127.0.1",
        "0",
        "1",
        "127.0.0.1.1",
        "127.000.000.001",
        "00.0.0.0",
        "256.256.256.256",
        "10.0.0.1e",
        "foo.0x1",
        "foo.1",
    ],
)
def test_a_number_in_disguise_is_no_host(host: str) -> None:
    if host == "10.0.0.1e":  # a name, as odd as it looks
        assert target_of(f"http://{host}/").literal is None
        return
    with pytest.raises(SourceForbiddenError):
        target_of(f"http://{host}/")


@pytest.mark.parametrize(
    ("host", "meant"), [("①②⑦.⓪.⓪.①", "127.0.0.1"), ("127。0。0。1", "127.0.0.1"), ("LOCALHOST.", "localhost")]
)
def test_a_host_is_judged_as_what_it_turns_into(host: str, meant: str) -> None:
    assert target_of(f"http://{host}/").host == meant


def test_a_dotted_address_with_a_final_dot_is_that_address() -> None:
    with pytest.raises(SourceForbiddenError):
        target_of("http://127.0.0.1./")


@pytest.mark.parametrize(
    "url",
    [
        "file:///dev/zero",
        "file:///etc/passwd",
        "ftp://example.org/x",
        "gopher://example.org/",
        "data:text/plain,x",
        "javascript:alert(1)",
        "unix:/run/docker.sock",
        "http+unix://x/",
    ],
)
def test_only_http_and_https_are_fetched(url: str) -> None:
    with pytest.raises(SourceForbiddenError):
        target_of(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "//example.org/",
        "http://",
        "http:///x",
        "http://user@example.org/",
        "http://user:password@example.org/",
        "http://example.org:0/",
        "http://example.org:65536/",
        "http://example.org:x/",
        "http://example.org\\@127.0.0.1/",
        "http://exa mple.org/",
        "http://example.org/\r\nHost: x",
        "http://example.org/\x00",
        "http://[::1/",
        "http://[::zz]/",
        "http://[v1.x]/",
        "http://-example.org/",
        "http://exa$mple.org/",
        "http://" + "a" * 64 + ".org/",
        "http://" + "a." * 200 + "org/",
        "http://example.org/" + "a" * 9000,
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidUriError):
        target_of(url)


@pytest.mark.parametrize("url", ["http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://%31%32%37.0.0.1/"])
def test_a_host_with_a_percent_sign_is_refused(url: str) -> None:
    with pytest.raises((SourceForbiddenError, InvalidUriError)):
        target_of(url)


def test_only_the_usual_ports_of_public_hosts_are_reached() -> None:
    address = ipaddress.ip_address("93.184.216.34")
    rules = AddressRules((), (8080,))
    for port in ("", ":80", ":443", ":8080"):
        assert rules.permitted(target_of(f"http://example.org{port}/"), [address]) == (address,)
    for port in (":22", ":25", ":6379", ":8081"):
        with pytest.raises(SourceForbiddenError):
            rules.permitted(target_of(f"http://example.org{port}/"), [address])


@pytest.mark.parametrize(
    ("allowed", "url", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/", "127.0.0.1"),
        ("127.0.0.1", "http://localhost:8000/", "127.0.0.1"),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]:8000/", "::ffff:7f00:1"),
        ("10.0.0.0/8", "https://mirror.internal/", "10.1.2.3"),
        ("10.1.2.3/8", "https://mirror.internal/", "10.1.2.4"),
        ("mirror.internal", "https://mirror.internal:8443/", "10.1.2.3"),
        ("Mirror.Internal.", "https://MIRROR.internal:8443/", "10.1.2.3"),
        ("::1", "http://[::1]:1/", "::1"),
        ("[::1]", "http://[::1]:1/", "::1"),
        ("fd00::/8", "http://[fd00::5]/", "fd00::5"),
    ],
)
def test_what_the_operator_allows_is_fetched_from(allowed: str, url: str, address: str) -> None:
    found = ipaddress.ip_address(address)
    assert AddressRules((allowed,), ()).permitted(target_of(url), [found]) == (found,)


def test_an_allowed_name_allows_no_other_and_no_address() -> None:
    rules = AddressRules(("mirror.internal",), ())
    address = ipaddress.ip_address("10.1.2.3")
    for url in ("http://10.1.2.3/", "http://x.mirror.internal/", "http://mirror.internal.evil.org/"):
        with pytest.raises(SourceForbiddenError):
            rules.permitted(target_of(url), [address])


def test_of_several_addresses_only_the_public_ones_are_connected_to() -> None:
    public, private = ipaddress.ip_address("93.184.216.34"), ipaddress.ip_address("10.0.0.1")
    assert AddressRules((), ()).permitted(target_of("http://example.org/"), [private, public]) == (public,)


def test_a_refusal_does_not_tell_what_the_name_resolves_to() -> None:
    with pytest.raises(SourceForbiddenError) as caught:
        AddressRules((), ()).permitted(target_of("http://secret.internal/"), [ipaddress.ip_address("10.9.8.7")])
    assert "10.9.8.7" not in caught.value.message


@pytest.mark.parametrize("entry", ["", "a b", "127.0.0.1:80", "2130706433", "http://x/", "10.0.0.0/33"])
def test_a_wrong_entry_of_the_allow_list_is_named(entry: str) -> None:
    with pytest.raises(ConfigurationError):
        AddressRules((entry,), ())


def test_a_redirect_is_read_as_a_browser_would() -> None:
    base = target_of("https://example.org/a/b?c")
    assert redirected(base, "d").url == "https://example.org/a/d"
    assert redirected(base, "//other.org/x").host == "other.org"
    assert redirected(base, "http://[::1]/").host == "::1"
    with pytest.raises(SourceForbiddenError):
        redirected(base, "file:///etc/passwd")
    with pytest.raises(InvalidUriError):
        redirected(base, "http://[")
