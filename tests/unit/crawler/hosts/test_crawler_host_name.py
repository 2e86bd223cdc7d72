from __future__ import annotations

import pytest

from crawler.hosts.host_name import InvalidHostError, is_host, parse_host


@pytest.mark.parametrize(
    "alias",
    [
        "pds.bücher.org",
        "PDS.bücher.org",
        "pds.xn--bcher-kva.org",
        "PDS.XN--BCHER-KVA.ORG",
        "pds.xn--bcher-kva.org.",
        "pds.xn--bcher-kva.org:443",
        "pds.xn--bcher-kva.org.:443",
        "https://pds.xn--bcher-kva.org",
        "https://pds.xn--bcher-kva.org/",
        "https://Pds.xn--bcher-kva.org:443/",
        "HTTPS://PDS.xn--bcher-kva.org",
        "wss://pds.xn--bcher-kva.org",
        "wss://pds.xn--bcher-kva.org./",
        "https://pds.bücher.org",
        "https://pds.BÜCHER.org:443",
    ],
)
def test_fifteen_aliases_are_one_host(alias: str) -> None:
    address = parse_host(alias)
    assert address.name == "pds.xn--bcher-kva.org"
    assert address.url == "https://pds.xn--bcher-kva.org"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "①②⑦.0.0.1",
        "[::1]",
        "::1",
        "host",
        "host.local",
        "pds.internal",
        "pds.test",
        "pds.example.com:8443",
        "http://pds.example.com",
        "ws://pds.example.com",
        "ftp://pds.example.com",
        "https://user@pds.example.com",
        "https://user:pass@pds.example.com",
        "https://pds.example.com/xrpc",
        "https://pds.example.com?x=1",
        "https://pds.example.com#x",
        "https://good.example.com\\@127.0.0.1",
        "pds.example.com\n",
        "pds..example.com",
        "-pds.example.com",
        "pds.example.com:99999",
        "a" * 64 + ".example.com",
        "x" * 2_000 + ".com",
    ],
)
def test_parse_host_refuses_private_hosts(text: str) -> None:
    with pytest.raises(InvalidHostError):
        parse_host(text)
    assert not is_host(text)


def test_development_allows_loopback_with_ports() -> None:
    for text in ("localhost:2582", "http://localhost:2582", "http://127.0.0.1:2582/"):
        assert parse_host(text, dev=True).name == "localhost:2582"
    assert parse_host("127.0.0.1:1", dev=True).url == "http://127.0.0.1:1"
    assert not is_host("10.0.0.1:80", dev=True)
