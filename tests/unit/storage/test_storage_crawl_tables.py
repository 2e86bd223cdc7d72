"""Hosts, repos, cursors, leases and the resync buffer in PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent, DroppedOp, RecordOp
from protocol.syntax.did import Did
from protocol.syntax.nsid import Nsid
from protocol.syntax.record_key import RecordKey
from protocol.syntax.tid import Tid
from storage import cursors, drops, jobs
from storage.hosts import (
    host_budget,
    host_listing,
    host_rows,
    host_status,
    host_strikes,
)
from storage.postgres import leases
from storage.postgres.pool import Conn
from storage.repos import repo_rows, resync_buffer


def _did(n: int) -> Did:
    return Did(f"did:plc:{n:a>24}")


def _host(conn: Conn, name: str = "pds.example.com", **kwargs: Any) -> int:
    kwargs.setdefault("source", host_rows.SOURCE_CONFIGURED)
    return host_rows.put_host(conn, name, f"https://{name}", **kwargs)[0]


def test_a_cursor_never_moves_back(conn: Conn) -> None:
    cursors.save_cursors(conn, {1: 10, 2: 5})
    cursors.save_cursors(conn, {1: 9, 2: 6})
    assert [cursors.load_cursor(conn, host) for host in (1, 2)] == [10, 6]
    assert cursors.load_cursor(conn, 3) is None
    cursors.save_cursors(conn, {1: 4}, shard=1)
    assert cursors.load_cursor(conn, 1) == 4, "a stream resumes from its last shard"
    cursors.forget_cursor(conn, 1)
    assert cursors.load_cursor(conn, 1) is None


def test_a_lease_has_one_holder_until_it_runs_out(conn: Conn) -> None:
    assert leases.take_lease(conn, "list", "a", 60)
    conn.commit()
    assert leases.take_lease(conn, "list", "a", 60)
    assert not leases.take_lease(conn, "list", "b", 60)
    leases.drop_lease(conn, "list", "b")
    assert not leases.take_lease(conn, "list", "b", 60)
    leases.drop_lease(conn, "list", "a")
    assert leases.take_lease(conn, "list", "b", -1)
    assert leases.take_lease(conn, "list", "a", 60)


def test_configured_source_of_host_wins(conn: Conn) -> None:
    first, new = host_rows.put_host(
        conn, "a.example.com", "https://a.example.com", source="request_crawl"
    )
    assert new
    assert not host_rows.load_hosts(conn, [first])[first].trusted
    again, new = host_rows.put_host(
        conn, "a.example.com", "https://a.example.com", source="configured", relay=True
    )
    assert (again, new) == (first, False)
    host = host_rows.find_hosts(conn, ["a.example.com"])["a.example.com"]
    assert host.trusted
    assert host.relay
    host_rows.put_host(
        conn, "a.example.com", "https://evil.example.com", source="request_crawl"
    )
    assert host_rows.load_hosts(conn)[first] == host
    host_rows.move_host(conn, first, host_rows.HOST_BANNED, "by us")
    host_rows.note_contact(conn, first, host_rows.HOST_STREAMING)
    host_rows.note_failure(conn, first, "x", wait=0.0, state=host_rows.HOST_OFFLINE)
    host_rows.put_host(
        conn, "a.example.com", "https://a.example.com", source="configured"
    )
    assert host_rows.load_hosts(conn)[first].state == host_rows.HOST_BANNED
    assert host_rows.streamed_hosts(conn) == []


def test_an_offline_host_is_tried_again_when_its_time_comes(conn: Conn) -> None:
    host = _host(conn)
    host_rows.note_failure(conn, host, "boom\0", wait=60, state=host_rows.HOST_OFFLINE)
    assert host_rows.streamed_hosts(conn) == []
    host_rows.note_failure(conn, host, "boom", wait=-1, state=host_rows.HOST_OFFLINE)
    assert [h.tries for h in host_rows.streamed_hosts(conn)] == [2]
    host_rows.note_contact(conn, host, host_rows.HOST_STREAMING)
    [known] = host_rows.streamed_hosts(conn)
    assert (known.tries, known.error, known.state) == (0, None, "streaming")


def test_strikes_throttle_untrusted_hosts_only(conn: Conn) -> None:
    stranger = _host(conn, "s.example.com", source=host_rows.SOURCE_REQUEST_CRAWL)
    ours = _host(conn, "o.example.com")
    for host in (stranger, ours):
        assert host_strikes.add_strikes(conn, host, 9, limit=10, wait=60) == 9
        assert host_strikes.add_strikes(conn, host, 1, limit=10, wait=60) == 10
    states = {h.hostname: h.state for h in host_rows.load_hosts(conn).values()}
    assert states == {"s.example.com": "throttled", "o.example.com": "new"}


def test_untrusted_host_has_daily_account_limit(conn: Conn) -> None:
    stranger = _host(conn, "s.example.com", source=host_rows.SOURCE_REQUEST_CRAWL)
    ours = _host(conn, "o.example.com")
    limits = {"per_day": 100, "room": 10_000}
    granted = [
        host_budget.admit_accounts(conn, stranger, 30, **limits) for _ in range(5)
    ]
    assert granted == [30, 30, 30, 10, 0]
    assert host_budget.admit_accounts(conn, ours, 500, **limits) == 500
    assert host_budget.admit_accounts(conn, ours, 5, per_day=100, room=3) == 3
    assert host_budget.count_accounts(conn) == 603
    conn.execute("UPDATE host SET admitted_on = admitted_on - 1")
    assert host_budget.admit_accounts(conn, stranger, 1_000, **limits) == 100
    host_rows.move_host(conn, stranger, host_rows.HOST_BANNED, "by us")
    conn.execute("UPDATE host SET admitted_on = admitted_on - 1")
    assert host_budget.admit_accounts(conn, stranger, 1, **limits) == 0


def test_listing_continues_from_cursor(conn: Conn) -> None:
    host = _host(conn)
    _host(conn, "relay.example.com", relay=True)
    [(due, cursor)] = host_listing.listings_due(conn, limit=10, older_than=3_600)
    assert (due.id, cursor) == (host, None)
    began = host_listing.begin_listing(conn, host)
    host_listing.save_list_cursor(conn, host, began, "page 2", done=False)
    assert host_listing.listings_due(conn, limit=10, older_than=3_600)[0][1] == "page 2"
    host_listing.save_list_cursor(conn, host, began, None, done=True)
    conn.commit()
    assert host_listing.listings_due(conn, limit=10, older_than=3_600) == []
    host_rows.request_listing(conn, host)
    assert len(host_listing.listings_due(conn, limit=10, older_than=3_600)) == 1
    # One that began before the request does not answer it.
    host_listing.save_list_cursor(conn, host, began, None, done=True)
    assert len(host_listing.listings_due(conn, limit=10, older_than=3_600)) == 1
    host_rows.hold_back(conn, host, 60)
    assert host_listing.listings_due(conn, limit=10, older_than=3_600) == []


def test_status_of_hosts(conn: Conn) -> None:
    host = _host(conn)
    [status] = host_status.host_statuses(conn)
    assert (status.last_seq, status.lag_s, status.drops) == (None, None, {})
    host_rows.note_events(conn, {host: (3, datetime(2026, 1, 1, tzinfo=UTC))})
    host_rows.note_events(conn, {host: (2, None)})
    drops.count_drops(conn, {("bad_signature", host): 2, ("bad_frame", 0): 1})
    drops.count_drops(conn, {("bad_signature", host): 1})
    cursors.save_cursors(conn, {host: 77})
    repo_rows.add_repos(conn, host, [_did(1)])
    [status] = host_status.host_statuses(conn)
    assert (status.last_seq, status.events, status.waiting_repos) == (77, 5, 1)
    assert status.lag_s is not None
    assert status.lag_s > 86_400
    assert status.drops == {"bad_signature": 3}
    assert host_status.drop_totals(conn) == {"bad_signature": 3, "bad_frame": 1}


def test_claims_are_fair_and_exclusive(conn: Conn, index_db: str) -> None:
    big, small = _host(conn, "big.example.com"), _host(conn, "small.example.com")
    assert repo_rows.add_repos(conn, big, [_did(n) for n in range(50)]) == 50
    assert repo_rows.add_repos(conn, small, [_did(99), _did(99), _did(0)]) == 1
    conn.commit()
    first = repo_rows.claim_repos(conn, limit=10, lease_s=60, per_host=2)
    assert sorted(r.host for r in first) == [big, big, small]
    conn.commit()
    with psycopg.connect(index_db) as other:
        assert not {r.actor for r in first} & {
            r.actor
            for r in repo_rows.claim_repos(other, limit=100, lease_s=60, per_host=99)
        }
    assert repo_rows.count_states(conn)["resyncing"] == 51
    repo_rows.give_back(conn, first[0].actor, "later\0", wait=-1)
    repo_rows.give_back(conn, first[1].actor, "asked to wait", wait=60, failed=False)
    again = repo_rows.claim_repos(conn, limit=10, lease_s=-1, per_host=9)
    assert [(r.actor, r.tries) for r in again] == [(first[0].actor, 1)]
    # Its lease has run out already, as after a crash.
    again = repo_rows.claim_repos(conn, limit=10, lease_s=60, per_host=9)
    assert [r.actor for r in again] == [first[0].actor]
    repo_rows.renew_lease(conn, again[0].actor, 600)
    assert repo_rows.claim_repos(conn, limit=9, lease_s=60, per_host=9) == []


def test_concurrent_claims_both_get_repos(conn: Conn, index_db: str) -> None:
    host = _host(conn, "one.example.com")
    assert repo_rows.add_repos(conn, host, [_did(n) for n in range(4)]) == 4
    conn.commit()
    first = repo_rows.claim_repos(conn, limit=2, lease_s=60, per_host=2)
    with psycopg.connect(index_db) as other, ThreadPoolExecutor(1) as thread:
        second = thread.submit(
            repo_rows.claim_repos, other, limit=2, lease_s=60, per_host=2
        )
        while not _is_waiting(index_db, other.info.backend_pid):
            assert not second.done()
        conn.commit()
        claimed = {r.actor for r in second.result(60)}
    assert len(claimed) == 2
    assert not claimed & {r.actor for r in first}


def _is_waiting(url: str, pid: int) -> bool:
    with psycopg.connect(url) as conn:
        row = conn.execute(
            "SELECT FROM pg_locks WHERE pid = %s AND NOT granted", (pid,)
        ).fetchone()
    return row is not None


def test_claim_skips_inactive_accounts_and_hosts(conn: Conn) -> None:
    host, busy = _host(conn), _host(conn, "busy.example.com")
    repo_rows.add_repos(conn, host, [_did(1), _did(2)])
    repo_rows.add_repos(conn, busy, [_did(3)])
    host_rows.hold_back(conn, busy, 60)
    conn.execute(
        "UPDATE actor SET upstream_status = 'takendown' WHERE did = %s", (_did(1),)
    )
    claimed = repo_rows.claim_repos(conn, limit=9, lease_s=60, per_host=9)
    assert [repo.did for repo in claimed] == [_did(2)]
    assert (
        repo_rows.claim_repos(conn, limit=9, lease_s=60, per_host=9, skip_hosts=[host])
        == []
    )


def test_unavailable_repos_do_not_block_claims(conn: Conn) -> None:
    gone, throttled, good = (_host(conn, f"h{n}.example.com") for n in range(3))
    repo_rows.add_repos(conn, gone, [_did(n) for n in range(2_500)])
    repo_rows.add_repos(conn, throttled, [_did(n) for n in range(2_500, 5_000)])
    conn.execute(
        "UPDATE actor SET upstream_status = 'deactivated' FROM repo"
        " WHERE repo.actor = actor.id AND host = %s",
        (gone,),
    )
    host_rows.move_host(conn, throttled, host_rows.HOST_THROTTLED, "test", wait=60)
    conn.execute("UPDATE repo SET next_try = now() - interval '1 hour'")
    repo_rows.add_repos(conn, good, [_did(5_000)])
    rested = 0
    while not (claimed := repo_rows.claim_repos(conn, limit=5, lease_s=60, per_host=2)):
        rested += repo_rows.rest_gone(conn, wait=3_600)
        assert rested <= 2_500
    assert [repo.did for repo in claimed] == [_did(5_000)]
    # An account that is back is fetched at once.
    conn.execute(
        "UPDATE actor SET upstream_status = 'active' WHERE did = %s", (_did(7),)
    )
    repo_rows.rest_gone(conn, wait=3_600)
    repo_rows.rest_gone(conn, wait=3_600)
    repo_rows.rest_gone(conn, wait=3_600)
    conn.execute(
        "UPDATE repo SET next_try = now() + interval '1 hour'"
        " FROM actor WHERE actor.id = actor AND did = %s",
        (_did(7),),
    )
    assert repo_rows.wake_repos(conn, [_did(7), _did(5_000)]) == 1
    claimed = repo_rows.claim_repos(conn, limit=5, lease_s=60, per_host=2)
    assert [repo.did for repo in claimed] == [_did(7)]


def test_inactive_accounts_take_no_claims(conn: Conn) -> None:
    small, big = _host(conn), _host(conn, "big.example.com")
    repo_rows.add_repos(conn, big, [_did(n) for n in range(50)])
    repo_rows.add_repos(conn, small, [_did(n) for n in range(50, 60)])
    conn.execute(
        "UPDATE actor SET upstream_status = 'deleted' FROM repo WHERE actor = id"
        " AND host = %s AND did <> %s",
        (small, _did(59)),
    )
    conn.execute(
        "UPDATE repo SET next_try = now() - interval '1 hour' FROM actor"
        " WHERE actor = id AND host = %s AND did <> %s",
        (small, _did(59)),
    )
    claimed = repo_rows.claim_repos(conn, limit=9, lease_s=60, per_host=2)
    assert sorted(repo.host for repo in claimed) == [small, big, big]


def test_only_own_host_marks_repo_behind(conn: Conn) -> None:
    host, liar = _host(conn), _host(conn, "liar.example.com")
    repo_rows.add_repos(conn, host, [_did(1), _did(2), _did(3)])
    conn.execute("UPDATE repo SET state = 'synchronized', rev = '3kaaaaaaaaa22'")
    newer, older = Tid("3kbbbbbbbbb22"), Tid("3kaaaaaaaaa22")
    listed = [
        repo_rows.ListedRepo(_did(1), newer, True, None),
        repo_rows.ListedRepo(_did(2), older, True, None),
        repo_rows.ListedRepo(_did(9), newer, True, None),
    ]
    assert repo_rows.note_upstream(conn, liar, listed) == []
    behind = repo_rows.note_upstream(conn, host, listed)
    assert behind == [_did(1)]
    # The stream brought the commit meanwhile: nothing to do.
    conn.execute("UPDATE repo SET rev = upstream_rev WHERE upstream_rev IS NOT NULL")
    assert repo_rows.mark_behind(conn, behind) == 0
    conn.execute("UPDATE repo SET rev = '3kaaaaaaaaa22'")
    assert repo_rows.mark_behind(conn, behind) == 1
    assert repo_rows.mark_desynchronized(conn, [_did(1), _did(3)], "gap") == 1
    found = repo_rows.find_repos(conn, [_did(n) for n in range(9)])
    assert {did: repo.state for did, repo in found.items()} == {
        _did(1): "desynchronized",
        _did(2): "synchronized",
        _did(3): "desynchronized",
    }
    assert repo_rows.move_repos(conn, [(_did(1), liar), (_did(2), host)]) == 1
    assert repo_rows.find_repos(conn, [_did(1)])[_did(1)].host == liar


def test_desynchronized_repo_may_wait(conn: Conn) -> None:
    host = _host(conn)
    repo_rows.add_repos(conn, host, [_did(1), _did(2)])
    conn.execute("UPDATE repo SET state = 'synchronized', rev = '3kaaaaaaaaa22'")
    repo_rows.mark_desynchronized(conn, [_did(1)], "too much", wait=60.0)
    repo_rows.mark_desynchronized(conn, [_did(2)], "a gap")
    claim = {"limit": 9, "lease_s": 60.0, "per_host": 9}
    claimed = repo_rows.claim_repos(conn, **claim)  # type: ignore[arg-type]
    assert [repo.did for repo in claimed] == [_did(2)]
    conn.execute("UPDATE repo SET next_try = next_try - interval '60 s'")
    claimed = repo_rows.claim_repos(conn, **claim)  # type: ignore[arg-type]
    assert [repo.did for repo in claimed] == [_did(1)]


def test_move_forgets_revs_of_old_host(conn: Conn) -> None:
    """A false rev of the old host must not make the repo look behind forever."""
    host, liar = _host(conn), _host(conn, "liar.example.com")
    repo_rows.add_repos(conn, liar, [_did(1)])
    never = [repo_rows.ListedRepo(_did(1), Tid("3zzzzzzzzzz22"), True, None)]
    repo_rows.note_upstream(conn, liar, never)

    def told() -> Any:
        [row] = conn.execute("SELECT upstream_rev FROM repo").fetchall()
        return row[0]

    assert repo_rows.move_repos(conn, [(_did(1), liar)]) == 0
    assert told() == "3zzzzzzzzzz22"
    assert repo_rows.move_repos(conn, [(_did(1), host)]) == 1
    assert told() is None


@pytest.mark.parametrize("since", [None, Tid("3kaaaaaaaaa22")])
def test_buffered_commits_are_unchanged(conn: Conn, since: Tid | None) -> None:
    event = CommitEvent(
        did=_did(1),
        rev=Tid("3kbbbbbbbbb22"),
        since=since,
        data=b"\x01" * 36,
        prev_data=None if since is None else b"\x02" * 36,
        commit=b"\xa0" * 90,
        ops=(
            RecordOp(
                "create",
                Nsid("com.example.thing"),
                RecordKey("self"),
                b"\x03" * 36,
                b"\xa0",
            ),
            RecordOp("delete", Nsid("com.example.thing"), RecordKey("x")),
        ),
        drops=(DroppedOp("a/b/c", None, DropReason.BAD_PATH),),
        seq=9,
        host=4,
    )
    later = CommitEvent(_did(1), Tid("3kccccccccc22"), None, b"", None, b"", ())
    resync_buffer.put_commits(conn, [(1, event), (2, later), (1, later)])
    assert resync_buffer.load_commits(conn, 1) == [event, later]
    assert resync_buffer.clear_commits(conn, 1) == 2
    assert resync_buffer.load_commits(conn, 1) == []
    assert len(resync_buffer.load_commits(conn, 2)) == 1


def test_job_is_done_once(conn: Conn) -> None:
    jobs.put_jobs(conn, "identity", ["b", "a", "a"])
    jobs.put_jobs(conn, "identity", ["c"], wait=60)
    jobs.put_jobs(conn, "other", ["a"])
    claimed = jobs.claim_jobs(conn, "identity", limit=9, lease_s=60)
    assert sorted(job.key for job in claimed) == ["a", "b"]
    assert jobs.claim_jobs(conn, "identity", limit=9, lease_s=60) == []
    a, b = sorted(claimed, key=lambda job: job.key)
    jobs.put_jobs(conn, "identity", ["a"])
    jobs.finish_jobs(conn, [a.id])
    jobs.retry_job(conn, b.id, "boom\0", wait=-1)
    again = jobs.claim_jobs(conn, "identity", limit=9, lease_s=-1)
    assert sorted((job.key, job.tries) for job in again) == [("a", 0), ("b", 1)]
    jobs.finish_jobs(conn, [job.id for job in again])
    jobs.put_jobs(conn, "identity", ["c"])
    [c] = jobs.claim_jobs(conn, "identity", limit=9, lease_s=-1)
    jobs.finish_jobs(conn, [c.id])
    assert jobs.count_jobs(conn) == {"other": 1}
