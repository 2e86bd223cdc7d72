"""States of repos under live commits, gaps, fetches, failures and restarts.

Rules run in any order. A synchronized repo always holds exactly what its author had at
that revision; in the end it holds the author's current records.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from indexer_steps import blocks_of, diff_of, fetched_repo
from indexer_world import (
    CLOCK,
    LIKE,
    NOW,
    POST,
    Author,
    author,
    expected_post_counts,
    held_post_counts,
    held_records,
    like,
    post,
    written_records,
)

from audit.repo_audit import rebuild_root, recount_stats
from indexer.apply import apply_batch
from indexer.repos import staged_repo
from indexer.repos.checkout import Checkout, CheckoutBusyError, StaleCheckoutError
from indexer.repos.repo_batch import BatchChangedError, import_fresh
from indexer.repos.repo_diff import DiffMismatchError, apply_diff
from protocol.events.event import AccountEvent, CommitEvent
from storage.postgres.pool import Conn
from storage.records.interning import Interner
from storage.repos import repo_rows, resync_buffer
from storage.schema import metadata

# Names stay: the interner remembers them.
_KEPT = {"actor", "collection", "path", "rkey", "dictionary"}
_WIPE = "".join(f"DELETE FROM {name};" for name in metadata.tables if name not in _KEPT)
# The triggers count deletions too.
_WIPE += "DELETE FROM activity_change;"


@dataclass
class Fetch:
    """A running fetch: claimed, then read from its host at some moment.

    `doubt` is the author's state at a known loss.
    """

    claimed: repo_rows.ClaimedRepo
    doubt: str = ""
    seen: Author | None = None
    before: Author | None = None


@dataclass
class World:
    conn: Conn
    interner: Interner
    url: str
    authors: list[Author] = field(default_factory=list)
    history: dict[str, dict[str, Author]] = field(default_factory=dict)

    def begin(self) -> None:
        self.conn.rollback()
        self.conn.execute(_WIPE)
        self.conn.execute("UPDATE actor SET upstream_status = 'active'")
        self.conn.commit()
        self.authors = [author(number) for number in range(2)]
        self.history = {one.did: {} for one in self.authors}
        for one in self.authors:
            self.commit(one, {f"{POST}/{CLOCK.next()}": post("first")})
        repo_rows.add_repos(self.conn, 1, [one.did for one in self.authors])
        self.conn.commit()

    def commit(self, one: Author, writes: dict[str, Any]) -> CommitEvent:
        event = one.commit(writes)
        assert one.rev is not None
        self.history[one.did][one.rev] = copy.deepcopy(one)
        return event


class RepoMachine(RuleBasedStateMachine):
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.begin()
        self.fetches: list[Fetch] = []
        self.late: list[CommitEvent] = []

    @property
    def conn(self) -> Conn:
        return self.world.conn

    def apply(self, *events: Any) -> None:
        apply_batch(self.conn, self.world.interner, events, {}, NOW)

    def writes(self, one: Author, kind: str, number: int) -> dict[str, Any]:
        paths = sorted(one.records)
        if kind == "delete" and paths:
            return {path: None for path in paths[: 1 + number % 3]}
        if kind == "update" and paths:
            path = paths[number % len(paths)]
            return {path: post(f"again {number}") if POST in path else None}
        if kind == "like":
            target = one.uri(f"{POST}/{CLOCK.next()}")
            return {f"{LIKE}/{CLOCK.next()}": like(target)}
        return {f"{POST}/{CLOCK.next()}": post(f"new {number}")}

    @rule(
        number=st.integers(0, 1),
        kinds=st.lists(
            st.sampled_from(("create", "update", "delete", "like")),
            min_size=1,
            max_size=5,
        ),
        lost=st.sampled_from(("no", "no", "all", "first")),
        value=st.integers(0, 50),
    )
    def live(self, number: int, kinds: list[str], lost: str, value: int) -> None:
        """Apply commits, lose them, or lose the first."""
        one = self.world.authors[number]
        events = [
            self.world.commit(one, self.writes(one, kind, value)) for kind in kinds
        ]
        self.late += events[:1]
        if lost == "no":
            self.apply(*events)
        elif lost == "first" and len(events) > 1:
            self.apply(*events[1:])

    @precondition(lambda self: self.late)
    @rule(number=st.integers(0, 100))
    def again(self, number: int) -> None:
        """Apply an old commit once more."""
        self.apply(self.late[number % len(self.late)])

    @rule(number=st.integers(0, 1))
    def sync(self, number: int) -> None:
        self.apply(self.world.authors[number].sync())

    @rule(number=st.integers(0, 1), active=st.booleans())
    def account(self, number: int, active: bool) -> None:
        one = self.world.authors[number]
        status = None if active else "deactivated"
        before = self.conn.execute(
            "SELECT upstream_status FROM actor WHERE did = %s", (one.did,)
        ).fetchone()
        self.conn.rollback()
        if active and before != ("active",):
            # Its commits meanwhile were ignored.
            self.come_into_doubt(one)
        self.apply(AccountEvent(one.did, active, status, host=1))  # type: ignore[arg-type]

    @rule(number=st.integers(0, 1), value=st.integers(0, 50))
    def lost_and_known(self, number: int, value: int) -> None:
        """Lose a commit knowingly: it was unproven, or our code failed."""
        one = self.world.authors[number]
        self.world.commit(one, self.writes(one, "create", value))
        self.come_into_doubt(one)
        repo_rows.mark_desynchronized(self.conn, [one.did], "could not be proven")
        self.conn.commit()

    def come_into_doubt(self, one: Author) -> None:
        assert one.rev is not None
        for fetch in self.fetches:
            if fetch.claimed.did == one.did:
                fetch.doubt = one.rev

    @rule()
    def claim(self) -> None:
        self.conn.execute("UPDATE repo SET next_try = now() WHERE next_try > now()")
        claimed = repo_rows.claim_repos(self.conn, limit=2, lease_s=600.0, per_host=2)
        self.conn.commit()
        self.fetches += [Fetch(repo) for repo in claimed]

    @precondition(lambda self: self.fetches)
    @rule(number=st.integers(0, 100), old=st.sampled_from((0, 0, 0, 1, 3)))
    def look(self, number: int, old: int) -> None:
        """Fetch what the host has, or a stale copy."""
        fetch = self.fetches[number % len(self.fetches)]
        snapshots = list(self.world.history[fetch.claimed.did].values())
        fetch.seen = snapshots[max(0, len(snapshots) - 1 - old)]

    @precondition(lambda self: any(f.seen for f in self.fetches))
    @rule(way=st.sampled_from(("checkout", "batch", "diff", "half", "give back")))
    def finish(self, way: str) -> None:
        fetch = next(f for f in self.fetches if f.seen)
        self.fetches.remove(fetch)
        assert fetch.seen is not None
        try:
            getattr(self, "_" + way.replace(" ", "_"))(fetch, fetch.seen)
        except (
            StaleCheckoutError,
            CheckoutBusyError,
            BatchChangedError,
            DiffMismatchError,
        ) as error:
            self._give_back(fetch, fetch.seen, str(error))
            return
        row = self.conn.execute(
            "SELECT state, rev FROM repo WHERE actor = %s", (fetch.claimed.actor,)
        ).fetchone()
        self.conn.rollback()
        assert row is not None
        assert row[0] != "synchronized" or row[1] >= fetch.doubt

    @rule()
    def restart(self) -> None:
        """Restart all workers; their leases run out."""
        self.fetches.clear()
        self.conn.execute("UPDATE repo SET lease_until = now() - interval '1 second'")
        self.conn.commit()

    def _checkout(self, fetch: Fetch, seen: Author) -> None:
        with Checkout(self.conn, self.world.interner, seen.did, 1, now=NOW) as checkout:
            checkout.add(seen.repo_records())
            checkout.finish(seen.head())

    def _half(self, fetch: Fetch, seen: Author) -> None:
        records = seen.repo_records()
        with Checkout(self.conn, self.world.interner, seen.did, 1, now=NOW) as checkout:
            # Left without finish: everything is rolled back.
            checkout.add(records[: len(records) // 2])
        self._give_back(fetch, seen)

    def _batch(self, fetch: Fetch, seen: Author) -> None:
        repo = fetched_repo(seen)
        if import_fresh(self.conn, self.world.interner, [repo], NOW):
            self._checkout(fetch, seen)

    def _diff(self, fetch: Fetch, seen: Author) -> None:
        since = fetch.claimed.rev
        if since is None:
            self._checkout(fetch, seen)
            return
        before = blocks_of(self.world.history[seen.did][since])
        new = {c: raw for c, raw in blocks_of(seen).items() if c not in before}
        diff = diff_of(seen, new)
        apply_diff(self.conn, self.world.interner, seen.did, 1, since, diff, NOW)

    def _give_back(self, fetch: Fetch, seen: Author, why: str = "given up") -> None:
        self.conn.rollback()
        repo_rows.give_back(self.conn, fetch.claimed.actor, why, wait=0.0)
        self.conn.commit()

    @invariant()
    def synchronized_is_exact(self) -> None:
        expected: list[Author] = []
        rows = self.conn.execute(
            "SELECT did, state, rev, data FROM repo JOIN actor ON id = actor"
        ).fetchall()
        for did, state, rev, data in rows:
            if rev is not None:
                # In any state, rows are those of the named rev.
                expected.append(self.world.history[did][rev])
                assert expected[-1].data == data
            else:
                assert state != "synchronized"
        assert held_records(self.conn) == written_records(expected)
        assert held_post_counts(self.conn) == expected_post_counts(expected)
        self.conn.rollback()

    def teardown(self) -> None:
        """Let workers and hosts behave: everything becomes equal."""
        self.restart()
        for one in self.world.authors:
            self.apply(AccountEvent(one.did, True, None, host=1))  # type: ignore[arg-type]
            # As from a listing.
            assert one.rev is not None
            listed = repo_rows.ListedRepo(one.did, one.rev, True, None)  # type: ignore[arg-type]
            repo_rows.mark_behind(
                self.conn, repo_rows.note_upstream(self.conn, 1, [listed])
            )
            self.conn.commit()
        for _ in range(3):
            self.claim()
            for fetch in self.fetches:
                fetch.seen = self.world.authors[0]
                if fetch.claimed.did != fetch.seen.did:
                    fetch.seen = self.world.authors[1]
            while self.fetches:
                self.finish("diff")
        self.synchronized_is_exact()
        rows = self.conn.execute(
            "SELECT did, state, rev FROM repo JOIN actor ON id = actor"
        )
        assert {did: (state, rev) for did, state, rev in rows} == {
            one.did: ("synchronized", one.rev) for one in self.world.authors
        }
        self.conn.rollback()
        for one in self.world.authors:
            assert rebuild_root(self.conn, one.did) == one.data
        self.conn.rollback()
        assert recount_stats(self.conn).ok
        self.conn.rollback()
        assert self.conn.execute("SELECT count(*) FROM resync_buffer").fetchone() == (
            0,
        )
        self.conn.rollback()


@pytest.fixture
def machine(
    conn: Conn, interner: Interner, index_db: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[RepoMachine]]:
    # Overflow is met within a few rules.
    monkeypatch.setattr(resync_buffer, "MAX_COMMITS", 6)
    world_now = World(conn, interner, index_db)

    class Machine(RepoMachine):
        world = world_now

    yield Machine
    conn.rollback()


def test_every_order_ends_as_written(machine: type[RepoMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8,
            phases=(Phase.generate,),
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def miss_a_delete(machine: RepoMachine) -> None:
    machine.live(0, ["create", "create", "create"], "no", 0)
    machine.claim()
    while machine.fetches:
        machine.look(0, 0)
        machine.finish("checkout")
    machine.live(0, ["delete"], "all", 0)
    machine.teardown()


def test_fetch_repairs_missed_delete(machine: type[RepoMachine]) -> None:
    miss_a_delete(machine())


def test_machine_detects_forgotten_deletes(
    machine: type[RepoMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plant a fault: a fetch adds and changes, and deletes nothing."""
    forgetful = staged_repo._DIFFERENCE.replace("FULL JOIN", "RIGHT JOIN")
    monkeypatch.setattr(staged_repo, "_DIFFERENCE", forgetful)
    monkeypatch.setattr(RepoMachine, "_diff", RepoMachine._checkout)
    with pytest.raises(AssertionError):
        miss_a_delete(machine())
