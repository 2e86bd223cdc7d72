"""States and moves of hosts, fading strikes, limits."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crawler.hosts.balance import balance_hosts, measure_totals
from crawler.hosts.discovery import take_over_plc_hosts
from crawler.settings import CrawlSettings
from storage.hosts import host_rows, host_strikes
from storage.hosts.host_activity import load_activity, load_gauges
from storage.hosts.host_budget import LIMITS, admit_accounts, set_limit
from storage.hosts.host_listing import begin_listing, polls_due, save_list_cursor
from storage.postgres.pool import Conn
from storage.repos.account_status import doubtful_accounts
from storage.repos.identities import stale_accounts


def put(conn: Conn, name: str, **kwargs: Any) -> int:
    kwargs.setdefault("source", host_rows.SOURCE_REQUEST_CRAWL)
    return host_rows.put_host(conn, name, f"https://{name}", **kwargs)[0]


def state_of(conn: Conn, host: int) -> tuple[str, str]:
    known = host_rows.load_hosts(conn, [host])[host]
    return known.state, known.mode


def test_host_moves_follow_the_table(conn: Conn) -> None:
    host = put(conn, "a.example.com")
    for before, after in itertools.product(host_rows.HOST_STATES, repeat=2):
        with conn.transaction(force_rollback=True):
            conn.execute("UPDATE host SET state = %s", (before,))
            allowed = after in host_rows.MOVES[before]
            assert host_rows.move_host(conn, host, after, "test") is allowed
            assert state_of(conn, host)[0] == (after if allowed else before)
            rows = conn.execute("SELECT before, after, why FROM host_move").fetchall()
            assert rows == ([(before, after, "test")] if allowed else [])


def test_moves_table_is_complete() -> None:
    assert set(host_rows.MOVES) == set(host_rows.HOST_STATES)
    assert all(
        after <= set(host_rows.HOST_STATES) for after in host_rows.MOVES.values()
    )
    for state in host_rows.HOST_STATES:
        assert state not in host_rows.MOVES[state]
        # The operator can ban any host, and no host can undo it.
        if state != host_rows.HOST_BANNED:
            assert host_rows.HOST_BANNED in host_rows.MOVES[state]


def test_mode_survives_offline_state(conn: Conn) -> None:
    host = put(conn, "a.example.com")
    host_rows.move_host(conn, host, host_rows.HOST_POLLING, "quiet")
    assert state_of(conn, host) == ("polling", "poll")
    host_rows.note_failure(conn, host, "x", wait=-1, state=host_rows.HOST_OFFLINE)
    assert state_of(conn, host) == ("offline", "poll")
    assert host_rows.streamed_hosts(conn) == []
    host_rows.move_host(conn, host, host_rows.HOST_POLLING, "it answers")
    # A closing stream does not bring it back.
    for state in (host_rows.HOST_STREAMING, host_rows.HOST_RECHECK):
        host_rows.note_contact(conn, host, state)
        assert state_of(conn, host) == ("polling", "poll")
    host_rows.move_host(conn, host, host_rows.HOST_STREAMING, "busy")
    host_rows.note_failure(conn, host, "x", wait=-1, state=host_rows.HOST_OFFLINE)
    assert state_of(conn, host) == ("offline", "stream")
    assert len(host_rows.streamed_hosts(conn)) == 1


def test_only_the_last_moves_are_kept(conn: Conn) -> None:
    host, other = put(conn, "a.example.com"), put(conn, "b.example.com")
    host_rows.move_host(conn, other, host_rows.HOST_POLLING, "quiet")
    for n in range(60):
        to = host_rows.HOST_POLLING if n % 2 else host_rows.HOST_STREAMING
        assert host_rows.move_host(conn, host, to, str(n))
    rows = conn.execute(
        "SELECT host, count(*), max(why::int) FILTER (WHERE host = %s)"
        " FROM host_move GROUP BY host ORDER BY host",
        (host,),
    ).fetchall()
    assert rows == [(host, 20, 59), (other, 1, None)]


def test_strikes_fade_by_half_a_day(conn: Conn) -> None:
    host = put(conn, "a.example.com")
    assert host_strikes.add_strikes(conn, host, 80, limit=100, wait=60) == 80
    conn.execute("UPDATE host SET strikes_at = strikes_at - interval '1 day'")
    assert host_strikes.add_strikes(conn, host, 0, limit=100, wait=60) == 40
    conn.execute("UPDATE host SET strikes_at = strikes_at - interval '3000 days'")
    assert host_strikes.add_strikes(conn, host, 1, limit=100, wait=60) == 1
    # One a minute for a day never throttles; one a second does.
    for _ in range(100):
        conn.execute("UPDATE host SET strikes_at = strikes_at - interval '1 hour'")
        host_strikes.add_strikes(conn, host, 2, limit=100, wait=60)
    assert state_of(conn, host)[0] == host_rows.HOST_NEW


def test_repeated_strikes_throttle_sooner(conn: Conn) -> None:
    host = put(conn, "a.example.com")
    host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    host_strikes.add_strikes(conn, host, 100, limit=100, wait=-1)
    assert state_of(conn, host) == ("throttled", "stream")
    host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    host_strikes.add_strikes(conn, host, 51, limit=100, wait=60)
    assert state_of(conn, host)[0] == "throttled"
    host_rows.move_host(conn, host, host_rows.HOST_NEW, "our operator")
    host_strikes.forgive(conn, host)
    assert host_rows.load_hosts(conn)[host].strikes == 0


def rests(conn: Conn, host: int) -> float:
    """Return the seconds until the host is tried again."""
    row = conn.execute(
        "SELECT extract(epoch FROM next_try - now())::float8 FROM host WHERE id = %s",
        (host,),
    ).fetchone()
    assert row is not None
    return float(row[0] or 0.0)


def test_closing_stream_does_not_end_throttling(conn: Conn) -> None:
    host = put(conn, "a.example.com")
    host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    host_strikes.add_strikes(conn, host, 100, limit=100, wait=3_600)
    # Its reader is closed a moment later; until then it fails, and connects again.
    host_rows.note_failure(conn, host, "bad_frame", wait=0.0)
    assert rests(conn, host) > 3_500
    host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    assert state_of(conn, host) == ("throttled", "stream")
    assert rests(conn, host) > 3_500
    assert host_rows.streamed_hosts(conn) == []
    # Once its time has come it may.
    conn.execute("UPDATE host SET next_try = now()")
    host_rows.note_failure(conn, host, "refused", wait=5.0)
    assert [known.id for known in host_rows.streamed_hosts(conn)] == [host]
    host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    assert state_of(conn, host) == ("streaming", "stream")


def test_retries_of_offline_host_keep_next_try(conn: Conn) -> None:
    host = put(conn, "a.example.com")
    host_rows.note_failure(conn, host, "x", wait=86_400.0, state=host_rows.HOST_OFFLINE)
    # A listing of it that was under way failed too.
    host_rows.note_failure(conn, host, "no answer", wait=300.0)
    assert rests(conn, host) > 86_000
    conn.execute("UPDATE host SET next_try = now()")
    for _ in range(14):
        # Its reader waits and tries again by itself, and is not closed meanwhile:
        # the next one would count from nothing, and never give up.
        host_rows.note_failure(conn, host, "refused", wait=60.0)
        assert [known.id for known in host_rows.streamed_hosts(conn)] == [host]
    host_rows.note_failure(conn, host, "x", wait=86_400.0, state=host_rows.HOST_OFFLINE)
    assert host_rows.streamed_hosts(conn) == []
    assert rests(conn, host) > 86_000


def test_own_limits_of_host_win(conn: Conn) -> None:
    host = put(conn, "a.example.com", source=host_rows.SOURCE_CONFIGURED)
    stranger = put(conn, "b.example.com")
    limits: dict[str, Any] = {"first_day": 100, "per_day": 10_000, "room": 10**6}
    assert admit_accounts(conn, host, 50_000, **limits) == 50_000
    assert admit_accounts(conn, stranger, 500, **limits) == 100
    conn.execute("UPDATE host SET first_seen = now() - interval '3 days'")
    assert admit_accounts(conn, stranger, 5_000, **limits) == 700
    set_limit(conn, host, "accounts_per_day", 50_003)
    assert admit_accounts(conn, host, 10, **limits) == 3
    set_limit(conn, stranger, "max_accounts", 801)
    assert admit_accounts(conn, stranger, 10, **limits) == 1
    for name in LIMITS:
        set_limit(conn, stranger, name, None)
    assert admit_accounts(conn, stranger, 10, **limits) == 0
    with pytest.raises(ValueError, match="unknown limit"):
        set_limit(conn, stranger, "state", 1)


def test_hosts_are_measured_and_balanced(conn: Conn) -> None:
    settings = CrawlSettings(streams_at_once=1, stream_dwell=0.0)
    busy, quiet = put(conn, "a.example.com"), put(conn, "b.example.com")
    for host in (busy, quiet):
        host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    conn.execute(
        "UPDATE host SET first_seen = now() - interval '1 hour',"
        " moved_at = now() - interval '1 hour'"
    )
    host_rows.note_events(conn, {busy: (7_200, None)})
    measure_totals(conn, settings)
    assert balance_hosts(conn, settings) == {"streamed": 0, "rested": 1}
    assert state_of(conn, quiet) == ("polling", "poll")
    [known] = [one for one in load_activity(conn) if one.id == busy]
    assert known.rate == pytest.approx(2.0, rel=0.05)
    assert known.fresh == 0
    [why] = conn.execute(
        "SELECT why FROM host_move WHERE host = %s AND after = 'polling'", (quiet,)
    ).fetchall()
    assert why == ("0.0 events an hour",)
    conn.execute("UPDATE gauge SET at = at - interval '100 s', total = total - 500")
    measure_totals(conn, settings)
    assert load_gauges(conn)["events"].rate == pytest.approx(0.526, rel=0.05)


def test_streams_are_capped_and_the_busiest_come_first(conn: Conn) -> None:
    names = [f"h{n}.example.com" for n in range(5)]
    ids = [put(conn, name) for name in names]
    own = put(conn, "own.example.com", source=host_rows.SOURCE_CONFIGURED)
    relay = put(conn, "r.example.com", source=host_rows.SOURCE_CONFIGURED, relay=True)
    for n, host in enumerate(ids):
        conn.execute("UPDATE host SET rate = %s WHERE id = %s", (n, host))
    streamed = [host.id for host in host_rows.streamed_hosts(conn, most=4)]
    assert streamed == [relay, own, ids[4], ids[3]]


@pytest.mark.parametrize("state", [host_rows.HOST_OFFLINE, host_rows.HOST_THROTTLED])
def test_offline_host_returns_without_free_stream(conn: Conn, state: str) -> None:
    settings = CrawlSettings(streams_at_once=2, stream_dwell=0.0)
    busy = [put(conn, f"h{n}.example.com") for n in range(2)]
    away = put(conn, "away.example.com")
    for host in (*busy, away):
        host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    host_rows.move_host(conn, away, state, "x", wait=3_600.0)
    conn.execute("UPDATE host SET rate = 1 WHERE id = ANY(%s)", (busy,))
    balance_hosts(conn, settings)
    assert state_of(conn, away) == (state, "stream"), "not before its time"
    conn.execute("UPDATE host SET next_try = now() WHERE id = %s", (away,))
    balance_hosts(conn, settings)
    tried = [host.id for host in host_rows.streamed_hosts(conn, most=2)]
    tried += [host.id for host, _ in polls_due(conn, limit=400, every=900)]
    assert sorted(tried) == sorted([*busy, away])


def test_endless_listings_do_not_block_others(conn: Conn) -> None:
    def poll(host: host_rows.Host, done: bool) -> None:
        began = begin_listing(conn, host.id)
        save_list_cursor(conn, host.id, began, "on", done=done)

    endless = {put(conn, f"e{n}.example.com", state="polling") for n in range(3)}
    honest = {put(conn, f"h{n}.example.com", state="polling") for n in range(2)}
    conn.execute(
        "UPDATE host SET listed_at = now() - interval '1 hour', polled_at ="
        " now() - interval '1 hour' WHERE id = ANY(%s)",
        (list(honest),),
    )
    polled: set[int] = set()
    for _ in range(4):
        for host, _cursor in polls_due(conn, limit=2, every=900):
            polled.add(host.id)
            poll(host, done=host.id in honest)
    assert polled == endless | honest


def test_wrong_clock_of_host_recovers(conn: Conn) -> None:
    host = put(conn, "a.example.com")
    now = datetime.now(UTC)
    host_rows.note_events(conn, {host: (1, now + timedelta(days=3_650))})
    host_rows.note_events(conn, {host: (1, now)})
    host_rows.note_events(conn, {host: (1, None)})
    assert conn.execute("SELECT last_event_at FROM host").fetchone() == (now,)


def test_unreachable_hosts_do_not_block_doubtful_accounts(conn: Conn) -> None:
    here, gone = put(conn, "a.example.com"), put(conn, "b.example.com")
    host_rows.note_contact(conn, here, host_rows.HOST_STREAMING)
    host_rows.note_failure(conn, gone, "x", wait=99.0, state=host_rows.HOST_OFFLINE)

    def add(count: int, host: int, status: str, days: str | None, unknown: int) -> None:
        conn.execute(
            """
            WITH made AS (
                INSERT INTO actor (did, upstream_status)
                SELECT 'did:plc:' || gen_random_uuid(), %s FROM generate_series(1, %s)
                RETURNING id
            )
            INSERT INTO repo (actor, host, status_at, unknown)
            SELECT id, %s, now() - %s::interval, %s FROM made
            """,
            (status, count, host, days, unknown),
        )

    for days, unknown in ((None, 0), ("30 days", 0), ("2 days", 1)):
        add(30, here, "deleted", days, unknown)
        add(30, gone, "active", days, unknown)
        add(2, here, "active", days, unknown)
    found = doubtful_accounts(
        conn, older_than=7 * 86_400.0, confirm_after=60.0, limit=1, per_host=9
    )
    assert len(found) == 1
    found = doubtful_accounts(
        conn, older_than=7 * 86_400.0, confirm_after=60.0, limit=6, per_host=9
    )
    assert [(one.host, one.status) for one in found] == [(here, "active")] * 6


def test_deleted_accounts_do_not_block_handle_checks(conn: Conn) -> None:
    # The reply of a tombstone checks no handle: they would be the oldest for ever.
    conn.execute(
        """
        WITH made AS (
            INSERT INTO actor (did, upstream_status) VALUES ('did:plc:a', 'deleted'),
                ('did:plc:b', 'deleted'), ('did:plc:c', 'active') RETURNING id
        )
        INSERT INTO repo (actor, identity_at) SELECT id, 'epoch' FROM made
        """
    )
    found: list[str] = []
    for _ in range(2):
        found += stale_accounts(conn, older_than=60.0, limit=2, job="identity")
    assert found == ["did:plc:c"]


def test_hosts_of_plc_mirror_are_read_once(conn: Conn) -> None:
    settings = CrawlSettings()
    urls = [f"https://p{n}.example.com" for n in range(5)] + ["http://127.0.0.1:80"]
    for url in urls:
        conn.execute("INSERT INTO plc_host (url) VALUES (%s)", (url,))
    assert take_over_plc_hosts(conn, settings, limit=4) == (4, 4)
    assert take_over_plc_hosts(conn, settings, limit=4) == (2, 1)
    assert take_over_plc_hosts(conn, settings, limit=4) == (0, 0)
    known = host_rows.load_hosts(conn).values()
    assert {(host.state, host.mode, host.source) for host in known} == {
        ("polling", "poll", "plc")
    }
    assert len(known) == 5
