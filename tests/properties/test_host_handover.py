"""No commit is lost between stream and poll: random schedules on a real database.

The host is a model: repos with revs, and a stream that forgets old frames. The
follower interleaves the steps of reader and listing. In the end every repo must be
at the rev of its host.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime

import pytest

from protocol.syntax.did import Did
from protocol.syntax.tid import tid_from_int
from storage import cursors
from storage.hosts import host_rows
from storage.hosts.host_listing import (
    begin_listing,
    listings_due,
    note_poll,
    polls_due,
    save_list_cursor,
)
from storage.postgres.pool import Conn
from storage.repos import repo_rows

Step = Callable[[], None]

REPOS = 4
LONG = 10 * 86_400.0
FIRST_REV = 2**50


def did_of(n: int) -> Did:
    return Did(f"did:plc:{'abcd'[n] * 24}")


class Host:
    """The repos and the stream of the host."""

    def __init__(self) -> None:
        self.revs = [FIRST_REV] * REPOS
        self.frames: list[tuple[int, int, int]] = []
        self.seq = 0

    def commit(self, repo: int) -> None:
        self.seq += 1
        self.revs[repo] += 1
        self.frames.append((self.seq, repo, self.revs[repo]))

    def forget(self, keep: int) -> None:
        self.frames = self.frames[-keep:] if keep else []

    def oldest(self) -> int:
        return self.frames[0][0] if self.frames else self.seq + 1


class Follower:
    """The steps of our reader and listing, driven by the host's row."""

    def __init__(self, conn: Conn, host: Host) -> None:
        self.conn = conn
        self.host = host
        self.id, _ = host_rows.put_host(
            conn, "h.example.com", "https://h.example.com", source="request_crawl"
        )
        dids = [did_of(n) for n in range(REPOS)]
        repo_rows.add_repos(conn, self.id, dids)
        conn.execute(
            "UPDATE repo SET state = 'synchronized', rev = %s",
            (tid_from_int(FIRST_REV),),
        )
        self.position: int | None = None
        self.listing: tuple[datetime, int, bool, list[Did]] | None = None

    def stream(self, most: int) -> None:
        if not any(host.id == self.id for host in host_rows.streamed_hosts(self.conn)):
            # Closed: frames in flight are lost.
            self.position = None
            return
        if self.position is None:
            self._connect()
        assert self.position is not None
        waiting = [f for f in self.host.frames if f[0] > self.position]
        for seq, repo, rev in waiting[:most]:
            self._take(repo, rev)
            self.position = seq
            cursors.save_cursors(self.conn, {self.id: seq})

    def _connect(self) -> None:
        cursor = cursors.load_cursor(self.conn, self.id)
        host_rows.note_contact(self.conn, self.id, host_rows.HOST_STREAMING)
        if cursor is None:
            self.position = self.host.seq
            host_rows.request_listing(self.conn, self.id)
        else:
            self.position = cursor
            if cursor + 1 < self.host.oldest():
                host_rows.request_listing(self.conn, self.id, gap=True)

    def _take(self, repo: int, rev: int) -> None:
        known = repo_rows.find_repos(self.conn, [did_of(repo)])[did_of(repo)]
        if known.state != "synchronized":
            return
        assert known.rev is not None
        if known.rev == tid_from_int(rev - 1):
            self.conn.execute(
                "UPDATE repo SET rev = %s WHERE actor = %s",
                (tid_from_int(rev), known.actor),
            )
        elif known.rev < tid_from_int(rev):
            repo_rows.mark_desynchronized(self.conn, [did_of(repo)], "a gap")

    # Two repos a page.
    def list_page(self) -> None:
        if self.listing is None:
            due = listings_due(self.conn, limit=9, older_than=LONG)
            due += polls_due(self.conn, limit=9, every=900)
            if not due:
                return
            polled = due[0][0].mode == host_rows.MODE_POLL
            self.listing = (begin_listing(self.conn, self.id), 0, polled, [])
        began, page, polled, behind = self.listing
        listed = [
            repo_rows.ListedRepo(did_of(n), tid_from_int(self.host.revs[n]), True, None)
            for n in range(page * 2, page * 2 + 2)
        ]
        behind = behind + repo_rows.note_upstream(self.conn, self.id, listed)
        done = page * 2 + 2 >= REPOS
        save_list_cursor(self.conn, self.id, began, str(page), done=done)
        self.listing = (began, page + 1, polled, behind)
        if done:
            self.listing = None
            repo_rows.mark_behind(self.conn, behind)
            if polled:
                note_poll(self.conn, self.id, rate=0.0, poll_every=900.0)

    def fetch(self) -> None:
        for n in range(REPOS):
            self.conn.execute(
                "UPDATE repo SET state = 'synchronized', rev = %s FROM actor"
                " WHERE actor.id = repo.actor AND did = %s"
                " AND state <> 'synchronized'",
                (tid_from_int(self.host.revs[n]), did_of(n)),
            )

    def move(self) -> None:
        [known] = host_rows.load_hosts(self.conn, [self.id]).values()
        onto = (
            host_rows.HOST_STREAMING
            if known.state == host_rows.HOST_POLLING
            else host_rows.HOST_POLLING
        )
        host_rows.move_host(self.conn, self.id, onto, "the schedule says so")

    def time_passes(self) -> None:
        self.conn.execute("UPDATE host SET listed_at = listed_at - interval '1 hour'")

    def settle(self) -> None:
        """Do all work that is due, without new commits."""
        self.time_passes()
        for _ in range(4):
            self.stream(10**6)
            for _ in range(REPOS):
                self.list_page()
            self.fetch()

    def revs(self) -> list[str]:
        known = repo_rows.find_repos(self.conn, [did_of(n) for n in range(REPOS)])
        return [str(known[did_of(n)].rev) for n in range(REPOS)]


def lost(conn: Conn, seed: int, *, steps: int = 70) -> int:
    """Run one schedule; return the number of repos that are behind."""
    draw = random.Random(seed)
    host = Host()
    follower = Follower(conn, host)
    acts: list[tuple[int, Step]] = [
        (6, lambda: host.commit(draw.randrange(REPOS))),
        (4, lambda: follower.stream(draw.randrange(4))),
        (3, follower.list_page),
        (2, follower.move),
        (1, follower.fetch),
        (1, follower.time_passes),
        (1, lambda: host.forget(draw.randrange(3))),
    ]
    for _ in range(steps):
        [act] = draw.choices([a for _, a in acts], [weight for weight, _ in acts])
        act()
    follower.settle()
    wanted = [str(tid_from_int(rev)) for rev in host.revs]
    found = sum(a != b for a, b in zip(wanted, follower.revs(), strict=True))
    conn.rollback()
    return found


def test_schedule_of_moves_loses_no_commit(conn: Conn, long: bool) -> None:
    for seed in range(200 if long else 12):
        assert lost(conn, seed) == 0, f"seed {seed}"


def test_listing_begun_before_a_gap_does_not_close_it(
    conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(conn: Conn, host: int, *, gap: bool = False) -> None:
        conn.execute(
            "UPDATE host SET listed_at = NULL, list_cursor = NULL WHERE id = %s",
            (host,),
        )

    monkeypatch.setattr(host_rows, "request_listing", forgetful)
    assert any(lost(conn, seed) for seed in range(40))


def test_stream_from_the_tip_without_a_listing_is_detected(
    conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_rows, "request_listing", lambda *_, **__: None)
    assert any(lost(conn, seed) for seed in range(40))


def test_poll_is_due_at_once_after_a_long_stream(conn: Conn) -> None:
    follower = Follower(conn, Host())
    host_rows.note_contact(conn, follower.id, host_rows.HOST_STREAMING)
    conn.execute("UPDATE host SET listed_at = now()")
    assert polls_due(conn, limit=9, every=900) == []
    follower.move()
    # now() stands still within a transaction.
    conn.execute("UPDATE host SET listed_at = now() - interval '1 second'")
    assert len(polls_due(conn, limit=9, every=900)) == 1
