from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from crawler.hosts.discovery import (
    AskedAgain,
    HostRefusedError,
    add_configured,
    crawl_again,
    read_page,
    request_crawl,
)
from crawler.hosts.host_name import InvalidHostError
from crawler.hosts.page_guard import PageGuard
from crawler.settings import CrawlSettings
from network.errors import BadResponseError
from storage.hosts import host_rows
from storage.hosts.host_listing import listings_due
from storage.postgres.pool import Conn


def test_request_crawl_adds_at_most_the_daily_number_of_hosts(conn: Conn) -> None:
    settings = CrawlSettings(new_hosts_per_day=20)
    refused: list[str] = []
    for n in range(200):
        # Each host under two names, so half of the accepted ones are no news.
        name = f"pds{n // 2}.example.com" if n % 2 else f"PDS{n // 2}.Example.com."
        try:
            request_crawl(conn, name, settings)
        except HostRefusedError as error:
            refused.append(error.name)
    assert len(host_rows.load_hosts(conn)) == 20
    assert refused == ["RateLimitExceeded"] * 160


@pytest.mark.parametrize(
    "name", ["", "127.0.0.1", "localhost", "x.internal", "pds.example.com:8080"]
)
def test_invalid_host_costs_nothing(conn: Conn, name: str) -> None:
    with pytest.raises(HostRefusedError) as caught:
        request_crawl(conn, name, CrawlSettings())
    assert caught.value.name == "InvalidRequest"
    assert host_rows.load_hosts(conn) == {}


def test_a_request_wakes_a_resting_host_but_never_a_banned_one(conn: Conn) -> None:
    settings = CrawlSettings()
    host = request_crawl(conn, "pds.example.com", settings)
    for state in (host_rows.HOST_OFFLINE, host_rows.HOST_RELAYED):
        conn.execute("UPDATE host SET state = %s", (state,))
        assert request_crawl(conn, "https://pds.example.com/", settings) == host
        assert host_rows.load_hosts(conn)[host].state == host_rows.HOST_NEW
    assert host_rows.move_host(conn, host, host_rows.HOST_THROTTLED, "test", wait=60)
    request_crawl(conn, "pds.example.com", settings)
    assert host_rows.load_hosts(conn)[host].state == host_rows.HOST_THROTTLED
    host_rows.move_host(conn, host, host_rows.HOST_BANNED, "test")
    with pytest.raises(HostRefusedError):
        request_crawl(conn, "pds.example.com", settings)


def relayed(conn: Conn) -> int:
    return host_rows.put_host(
        conn,
        "pds.example.com",
        "https://pds.example.com",
        source=host_rows.SOURCE_RELAY,
        state=host_rows.HOST_RELAYED,
    )[0]


@pytest.mark.parametrize("ask", [request_crawl, crawl_again])
def test_relayed_host_is_compared_not_streamed(
    conn: Conn, ask: Callable[[Conn, str, CrawlSettings], object]
) -> None:
    settings = CrawlSettings()
    [relay] = add_configured(conn, [], ["relay.example.com"], settings)
    host = relayed(conn)
    host_rows.note_contact(conn, relay, host_rows.HOST_STREAMING)
    for due in (True, False):
        # Once in a while: asking again is no reason for a second look.
        ask(conn, "pds.example.com", settings)
        assert host_rows.load_hosts(conn)[host].state == host_rows.HOST_RELAYED
        assert bool(listings_due(conn, limit=9, older_than=1e6)) is due
        conn.execute("UPDATE host SET listed_at = now()")
    add_configured(conn, ["https://pds.example.com"], [], settings)
    assert host_rows.load_hosts(conn)[host].state == host_rows.HOST_NEW


@pytest.mark.parametrize("ask", [request_crawl, crawl_again])
def test_a_host_without_its_relay_is_streamed_when_it_asks(
    conn: Conn, ask: Callable[[Conn, str, CrawlSettings], object]
) -> None:
    settings = CrawlSettings()
    [relay] = add_configured(conn, [], ["relay.example.com"], settings)
    host = relayed(conn)
    host_rows.note_contact(conn, relay, host_rows.HOST_STREAMING)
    host_rows.note_failure(
        conn, relay, "away", wait=9_999.0, state=host_rows.HOST_OFFLINE
    )
    ask(conn, "pds.example.com", settings)
    assert host_rows.load_hosts(conn)[host].state == host_rows.HOST_NEW


def test_a_throttled_host_is_told_that_it_is_looked_at_later(conn: Conn) -> None:
    settings = CrawlSettings()
    host = request_crawl(conn, "pds.example.com", settings)
    host_rows.move_host(conn, host, host_rows.HOST_THROTTLED, "strikes", wait=9_999.0)
    found = crawl_again(conn, "pds.example.com", settings)
    assert found is AskedAgain.LATER
    assert host_rows.load_hosts(conn)[host].state == host_rows.HOST_THROTTLED


def test_configured_hosts_are_trusted(conn: Conn) -> None:
    settings = CrawlSettings(dev=True)
    request_crawl(conn, "pds.example.com", settings)
    pds, local, relay = add_configured(
        conn,
        ["https://pds.example.com", "http://127.0.0.1:2582"],
        ["relay.example.com"],
        settings,
    )
    known = host_rows.load_hosts(conn)
    assert all(known[host].trusted for host in (pds, local, relay))
    assert [known[host].relay for host in (pds, local, relay)] == [False, False, True]
    assert known[local].hostname == "localhost:2582"
    with pytest.raises(InvalidHostError):
        add_configured(conn, ["http://10.0.0.1"], [], settings)


def test_a_guard_stops_at_repetition_and_by_count() -> None:
    page = [{"did": "a"}]
    assert PageGuard(9).enter(page, None) is None
    assert PageGuard(9).enter([], "1") is None
    guard = PageGuard(9)
    assert guard.enter(page, "1") == "1"
    assert guard.enter([{"did": "b"}], "1") is None, "the same cursor"
    guard = PageGuard(9)
    assert guard.enter(page, "1") == "1"
    assert guard.enter(page, "2") is None, "the same page"
    guard = PageGuard(3)
    assert guard.enter([{"did": "a"}], "1") == "1"
    assert guard.enter([{"did": "b"}], "2") == "2"
    assert not guard.exhausted
    assert guard.enter([{"did": "c"}], "3") is None
    assert guard.exhausted


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"repos": {}}',
        b'{"repos": [], "cursor": 1}',
        b'{"repos": [], "cursor": "' + b"x" * 3_000 + b'"}',
        b'{"repos": [NaN]}',
    ],
)
def test_read_page_refuses_malformed_pages(body: bytes) -> None:
    with pytest.raises(BadResponseError):
        read_page(body, "repos")


def test_a_page_gives_its_objects_and_its_cursor() -> None:
    body = json.dumps({"repos": [{"did": "a"}, 3, None], "cursor": ""}).encode()
    assert read_page(body, "repos") == ([{"did": "a"}], None)
