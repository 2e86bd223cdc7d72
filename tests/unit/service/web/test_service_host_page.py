"""The page of a host and its button “Crawl again”."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from appview.app import AppView
from crawler.settings import CrawlSettings
from network.server.listener import serving_in_thread
from network.server.request_guard import RequestGuard
from search.engines.postgres import PostgresEngine
from service.web.host_page import ANSWERS, STATES, next_look
from service.web.routes import page_routes
from storage.hosts import host_rows
from storage.hosts.host_listing import polls_due
from storage.hosts.host_report import HostFacts, host_report
from storage.postgres.pool import Pool

NAME = "pds.example.com"


@pytest.fixture
def site(pool: Pool) -> Iterator[str]:
    unused: Any = None
    app = AppView(
        pool=pool,
        private=unused,
        vault=unused,
        engine=PostgresEngine(pool),
        cursor_secret=b"s",
        service_did="did:web:example.com",
        resolve_handle=unused,
        fetch_skeleton=unused,
        request_crawl=unused,
        export_repo=unused,
    )
    pages = RequestGuard().middleware(Starlette(routes=[*page_routes(app)]))
    with serving_in_thread(pages) as served:
        yield served


@pytest.fixture
def host(pool: Pool) -> int:
    with pool.connection() as conn:
        host, _ = host_rows.put_host(
            conn, NAME, f"https://{NAME}", source="request_crawl"
        )
        host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    return host


def ask(
    url: str, *, post: bool = False, **headers: str
) -> tuple[int, str, httpx.Headers]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = httpx.request("POST" if post else "GET", url, headers=named, timeout=30)
    return reply.status_code, reply.text, reply.headers


def test_host_page_shows_the_host(site: str, host: int, pool: Pool) -> None:
    with pool.connection() as conn:
        conn.execute(
            "UPDATE host SET gaps = 2, gap_at = now(), accounts = 1234, strikes = 7,"
            " rate = 2.5, usual_rate = 3, events = 99, last_event_at = now()"
            " - interval '42 seconds', error = '<b>boom</b>', error_at = now(),"
            " rate_limited_until = now() + interval '10 minutes'"
        )
        conn.execute("INSERT INTO host_cursor (host, seq) VALUES (%s, 8765)", (host,))
        conn.execute(
            "INSERT INTO drop_count (reason, host, n) VALUES ('bad_signature', %s, 17)",
            (host,),
        )
        actor = conn.execute(
            "INSERT INTO actor (did) VALUES ('did:plc:a') RETURNING id"
        ).fetchone()
        assert actor is not None
        conn.execute(
            "INSERT INTO repo (actor, host, error) VALUES (%s, %s, 'getRepo: 502')",
            (actor[0], host),
        )
    status, body, headers = ask(f"{site}/host/{NAME}")
    assert status == 200
    for text in (
        "8765",
        "42 s",
        "1,234",
        "bad signature",
        "getRepo: 502",
        "2.5/s",
        "7.0 of 200",
        "for 10 minutes more",
        "0 today, 100 at most",
        "streaming",
        "it answers",
        "&lt;b&gt;boom",
    ):
        assert text in body, text
    assert "<b>boom" not in body
    assert headers["referrer-policy"] == "same-origin"
    assert "form-action 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize("name", ["none.example.com", "x" * 400, "%00", "%0a"])
def test_unknown_host_is_a_404(site: str, name: str) -> None:
    assert ask(f"{site}/host/{name}")[0] == 404
    assert ask(f"{site}/host/{name}/crawl", post=True)[0] == 404


def test_second_crawl_request_is_ignored(site: str, host: int, pool: Pool) -> None:
    def due() -> bool:
        with pool.connection() as conn:
            row = conn.execute("SELECT listed_at IS NULL FROM host").fetchone()
            assert row is not None
            return bool(row[0])

    with pool.connection() as conn:
        conn.execute("UPDATE host SET listed_at = now()")
    assert not due()
    status, _, headers = ask(f"{site}/host/{NAME}/crawl", post=True)
    assert (status, headers["location"]) == (303, f"/host/{NAME}?asked=queued")
    assert due()
    with pool.connection() as conn:
        conn.execute("UPDATE host SET listed_at = now()")
    status, _, headers = ask(f"{site}/host/{NAME}/crawl", post=True)
    assert (status, headers["location"]) == (303, f"/host/{NAME}?asked=already")
    assert not due()
    for word, text in ANSWERS.items():
        assert text[:20] in ask(f"{site}/host/{NAME}?asked={word}")[1]
    assert ask(f"{site}/host/{NAME}?asked=<script>")[0] == 200


def test_host_page_requests_no_crawl(site: str, host: int) -> None:
    assert ask(f"{site}/host/{NAME}/crawl")[0] == 405


def test_crawl_request_makes_a_host_due(site: str, host: int, pool: Pool) -> None:
    with pool.connection() as conn:
        host_rows.move_host(conn, host, host_rows.HOST_POLLING, "quiet")
        conn.execute("UPDATE host SET listed_at = now(), poll_every = 3600")
        assert polls_due(conn, limit=9, every=900) == []
    ask(f"{site}/host/{NAME}/crawl", post=True)
    with pool.connection() as conn:
        assert len(polls_due(conn, limit=9, every=900)) == 1
        host_rows.note_failure(
            conn, host, "x", wait=9_999, state=host_rows.HOST_OFFLINE
        )
        conn.execute("UPDATE host SET asked_at = NULL")
        assert polls_due(conn, limit=9, every=900) == []
    ask(f"{site}/host/{NAME}/crawl", post=True)
    with pool.connection() as conn:
        [(due, _)] = polls_due(conn, limit=9, every=900)
    assert due.state == host_rows.HOST_OFFLINE


def test_crawl_request_leaves_a_banned_host(site: str, host: int, pool: Pool) -> None:
    with pool.connection() as conn:
        host_rows.move_host(conn, host, host_rows.HOST_BANNED, "by us")
    status, _, headers = ask(f"{site}/host/{NAME}/crawl", post=True)
    assert (status, headers["location"]) == (303, f"/host/{NAME}?asked=banned")
    assert "Crawl again" not in ask(f"{site}/host/{NAME}")[1]
    with pool.connection() as conn:
        assert host_rows.load_hosts(conn)[host].state == host_rows.HOST_BANNED


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_crawl_request_of_another_site_is_refused(
    site: str, host: int, headers: dict[str, str]
) -> None:
    assert ask(f"{site}/host/{NAME}/crawl", post=True, **headers)[0] == 403
    own = {"Origin": site, "Sec_Fetch_Site": "same-origin"}
    assert ask(f"{site}/host/{NAME}/crawl", post=True, **own)[0] == 303


def test_crawl_requests_are_rate_limited(site: str, host: int) -> None:
    client = {"X_Forwarded_For": "203.0.113.9"}
    answers = [
        ask(f"{site}/host/{NAME}/crawl", post=True, **client)[0] for _ in range(14)
    ]
    assert answers.count(429) >= 3
    other = {"X_Forwarded_For": "203.0.113.10"}
    assert ask(f"{site}/host/{NAME}/crawl", post=True, **other)[0] == 303


def test_every_host_state_has_a_text() -> None:
    assert set(STATES) == {*host_rows.HOST_STATES, host_rows.RECONNECTING}


def test_next_look(host: int, pool: Pool) -> None:
    settings = CrawlSettings()

    def facts(**changes: Any) -> HostFacts:
        with pool.connection() as conn:
            for name, value in changes.items():
                conn.execute(f"UPDATE host SET {name} = %s", (value,))
            report = host_report(conn, NAME)
        assert report is not None
        return report.facts

    hour = datetime.now(UTC) + timedelta(hours=1)
    assert next_look(facts(), settings) is None
    listed = datetime.now(UTC) - timedelta(seconds=100)
    polled = facts(state="polling", listed_at=listed, poll_every=600.0)
    assert next_look(polled, settings) == listed + timedelta(seconds=600)
    assert next_look(facts(rate_limited_until=hour), settings) == hour
    late = facts(rate_limited_until=None, poll_every=0.0)
    assert next_look(late, settings) == late.now
    assert next_look(facts(state="offline", next_try=hour), settings) == hour


def test_status_page_links_the_host(site: str, host: int, pool: Pool) -> None:
    with pool.connection() as conn:
        conn.execute(
            "INSERT INTO quarantined_frame (host, frame, error) VALUES (1, '', 'x')"
        )
    body = ask(f"{site}/status")[1]
    assert f'href="/host/{NAME}"' in body
    assert "Quarantine" in body
    assert "Advice:" in body
