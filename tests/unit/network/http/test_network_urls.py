from __future__ import annotations

import pytest

from network.errors import ForbiddenAddressError
from network.http.urls import follow_redirect, is_hostname, is_loopback_name, parse_url

ODD = [
    "",
    "host.net",
    "//host.net/",
    "ftp://host.net/",
    "file:///etc/passwd",
    "http://host.net/",
    "ws://host.net/",
    "https://host.net:80/",
    "https://host.net:8443/",
    "https://host.net:/",
    "https://localhost/",
    "https://localhost:443/",
    "https://sub.localhost/",
    "https://127.0.0.1/",
    "http://127.0.0.1/",
    "https://127.1/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://1.0x7f/",
    "https://127.0.0.1.1/",
    "https://①②⑦.0.0.1/",
    "https://１２７.0.0.1/",
    "https://host。net/",
    "https://bücher.net/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[fe80::1%25eth0]/",
    "https://host.net./",
    "https://.host.net/",
    "https://host..net/",
    "https://-host.net/",
    "https://host-.net/",
    "https://ho_st.net/",
    "https://host/",
    "https://user@host.net/",
    "https://user:pass@host.net/",
    "https://host.net@127.0.0.1/",
    "https://host.net\\@127.0.0.1/",
    "https://127.0.0.1\\@host.net/",
    "https://host.net#@127.0.0.1/",
    "https://host.net/#fragment",
    "https://host.net/a b",
    "https://host.net/\r\nX-Injected: 1",
    "https://host.net/%",
    "https://host.net/%zz",
    "https://host.net/ü",
    "https://host.net\n",
    "https://host.net/\n",
    " https://host.net/",
    "https://host.net/\x00",
    "https:/host.net/",
    "https:host.net",
    "https://host.internal/",
    "https://host.local/",
    "https://host.onion/",
    "https://host.test/",
    "https://1.0.0.127.in-addr.arpa/",
    "https://" + "a" * 64 + ".net/",
    "https://" + "a." * 127 + "net/",
    "https://host.net/" + "a" * 20_000,
]


@pytest.mark.parametrize("url", ODD)
def test_refuses(url: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        parse_url(url, allow_loopback=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://host.net/",
        "https://host.net:8443/",
        "https://10.0.0.1/",
        "https://169.254.169.254/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://2130706433/",
        "http://localhost.:80/",
        "http://localhost:0/",
        "http://localhost:65536/",
        "http://[::2]/",
        "http://user@localhost/",
    ],
)
def test_development_allows_only_loopback(url: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        parse_url(url, allow_loopback=True)


def test_good_url_is_split_into_parts() -> None:
    target = parse_url("https://Host.Net/xrpc/a.b.c?x=1&y=%2F?", allow_loopback=False)
    assert (target.scheme, target.host, target.port) == ("https", "host.net", 443)
    assert (target.path, target.query) == ("/xrpc/a.b.c", "x=1&y=%2F?")
    assert target.origin == "https://host.net"
    assert target.authority == "host.net:443"
    assert str(target) == "https://host.net/xrpc/a.b.c?x=1&y=%2F?"
    assert str(target.to_yarl()) == str(target)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://localhost:2582/x", "localhost", 2582),
        ("http://127.0.0.1:2582", "127.0.0.1", 2582),
        ("ws://pds.localhost:1/", "pds.localhost", 1),
        ("http://[::1]:99/", "::1", 99),
        ("https://localhost/", "localhost", 443),
    ],
)
def test_development_hosts_are_parsed(url: str, host: str, port: int) -> None:
    target = parse_url(url, allow_loopback=True)
    assert (target.host, target.port) == (host, port)
    assert target.to_yarl().host == host
    assert target.to_yarl().port == port


def test_is_hostname_checks_names() -> None:
    assert is_hostname("bsky.network")
    assert is_hostname("xn--bcher-kva.net")
    assert not is_hostname("BSKY.network")
    assert not is_hostname("network")
    assert not is_hostname("pds.test")
    assert is_loopback_name("127.0.0.7")
    assert not is_loopback_name("127.0.0.07")
    assert not is_loopback_name("localhost.net")


def test_redirects_follow_the_same_grammar() -> None:
    base = parse_url("https://host.net/a/b?q=1", allow_loopback=True)

    def follow(location: str) -> str:
        return str(follow_redirect(base, location, allow_loopback=True))

    assert follow("c#x") == "https://host.net/a/c"
    assert follow("/c") == "https://host.net/c"
    assert follow("//other.net/c") == "https://other.net/c"
    assert follow("https://other.net/") == "https://other.net/"
    for location in (
        "http://localhost/",  # not from https, even in development
        "https://127.0.0.1\\@host.net/",
        "https://10.0.0.1/",
        "file:///etc/passwd",
        "https://[broken/",
        "https://ho\u017ft.net/",
    ):
        with pytest.raises(ForbiddenAddressError):
            follow(location)
