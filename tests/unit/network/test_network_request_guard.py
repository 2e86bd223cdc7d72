from __future__ import annotations

import pytest
from starlette.requests import Request

from network.errors import XrpcError
from network.request_guard import RequestGuard


def request(peer: str | None, *forwarded: str) -> Request:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    client = (peer, 1234) if peer else None
    return Request({"type": "http", "headers": headers, "client": client})


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("1.2.3.4", (), "1.2.3.4"),
        ("1.2.3.4", ("9.9.9.9",), "1.2.3.4"),  # no proxy of ours
        ("127.0.0.1", (), None),
        ("::1", (), None),
        ("127.0.0.1", ("1.2.3.4",), "1.2.3.4"),
        ("127.0.0.1", ("6.6.6.6, 1.2.3.4",), "1.2.3.4"),  # the left part is made up
        ("127.0.0.1", ("6.6.6.6", "1.2.3.4"), "1.2.3.4"),
        ("127.0.0.1", ("1.2.3.4, 10.0.0.7",), "1.2.3.4"),  # two proxies of ours
        ("127.0.0.1", ("1.2.3.4, 11.0.0.7",), "11.0.0.7"),
        ("127.0.0.1", ("127.0.0.1",), "127.0.0.1"),  # said by a proxy, so counted
        ("127.0.0.1", ("nonsense",), "127.0.0.1"),
        ("127.0.0.1", ("1.2.3.4, nonsense",), "127.0.0.1"),
        ("127.0.0.1", ("1.2.3.4:80",), "127.0.0.1"),
        ("127.0.0.1", ("",), "127.0.0.1"),
        ("127.0.0.1", ("6.6.6.6," * 10_000 + "1.2.3.4",), "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", (), "2001:db8:1:2::/64"),
        ("::ffff:1.2.3.4", (), "1.2.3.4"),
        (None, (), None),
        ("testclient", (), None),
    ],
)
def test_who_the_client_is(
    peer: str | None, forwarded: tuple[str, ...], client: str | None
) -> None:
    guard = RequestGuard(trusted_proxies=["127.0.0.0/8", "::1/128", "10.0.0.0/8"])
    assert guard.client_of(request(peer, *forwarded)) == client


def test_each_client_has_a_bucket_of_its_own() -> None:
    now = [0.0]
    guard = RequestGuard(rate=0.5, burst=3, clock=lambda: now[0])
    for _ in range(3):
        guard(request("1.2.3.4"), "a.b.c")
    with pytest.raises(XrpcError) as caught:
        guard(request("1.2.3.4"), "a.b.c")
    assert (caught.value.name, caught.value.status) == ("RateLimitExceeded", 429)
    assert caught.value.headers == {"Retry-After": "2"}
    guard(request("1.2.3.5"), "a.b.c")
    for _ in range(100):
        guard(request("127.0.0.1"), "a.b.c")
    now[0] = 2.0
    guard(request("1.2.3.4"), "a.b.c")


def test_a_made_up_header_buys_no_second_bucket() -> None:
    guard = RequestGuard(rate=0.001, burst=5)
    for number in range(5):
        guard(request("1.2.3.4", f"9.9.9.{number}"), "a.b.c")
    with pytest.raises(XrpcError):
        guard(request("1.2.3.4", "9.9.9.99"), "a.b.c")


def test_neighbours_of_one_network_share_a_bucket() -> None:
    guard = RequestGuard(rate=0.001, burst=5)
    for number in range(5):
        guard(request(f"2001:db8::{number}"), "a.b.c")
    with pytest.raises(XrpcError):
        guard(request("2001:db8::99"), "a.b.c")
    guard(request("2001:db8:0:1::1"), "a.b.c")


def test_memory_is_bounded() -> None:
    guard = RequestGuard(max_clients=10)
    for number in range(1_000):
        guard(request(f"1.2.{number // 256}.{number % 256}"), "a.b.c")
    assert len(guard._buckets) == 10
