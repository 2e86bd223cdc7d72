"""Random histories, compared with a plain model.

In any batches the index ends at what the authors wrote, every count is exact, and every
root can be rebuilt.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from indexer_steps import import_repo
from indexer_world import (
    FOLLOW,
    LIKE,
    NOW,
    POST,
    PROFILE,
    REPOST,
    Author,
    author,
    expected_actor_counts,
    expected_post_counts,
    follow,
    held_actor_counts,
    held_post_counts,
    held_records,
    like,
    post,
    profile,
    quote,
    reply,
    repost,
    written_records,
)

from audit.repo_audit import audit_repo, recount_stats
from indexer.apply import apply_batch
from protocol.data.cid import cid_for
from protocol.events.event import CommitEvent
from protocol.syntax import tid_to_int
from storage.postgres.pool import Conn, Pool
from storage.records.interning import Interner
from storage.schema import metadata

_KEYS = ["3laaaaaaaaa22", "3lbbbbbbbbb22", "3lccccccccc22", "self", "any-key"]
_KINDS = [POST, LIKE, REPOST, FOLLOW, PROFILE, "org.example.thing"]

writes = st.tuples(
    st.sampled_from(_KINDS),
    st.sampled_from(_KEYS),
    st.sampled_from(["put", "put", "put", "delete", "drop"]),
    st.integers(0, 2),
    st.sampled_from(_KEYS),
    st.integers(0, 3),
)
steps = st.one_of(
    st.tuples(
        st.just("commit"), st.integers(0, 2), st.lists(writes, min_size=0, max_size=4)
    ),
    st.tuples(st.just("flush"), st.just(0), st.just([])),
    st.tuples(st.just("lose"), st.integers(0, 2), st.just([])),
    st.tuples(st.just("replay"), st.integers(0, 2), st.just([])),
    st.tuples(st.just("fetch"), st.integers(0, 2), st.just([])),
)


def make_value(kind: str, target: Author, key: str, variant: int) -> dict[str, Any]:
    uri = target.uri(f"{POST}/{key}")
    if kind == POST:
        choices = [post("plain"), reply(uri, uri), quote(uri), post("other")]
        return choices[variant]
    if kind in (LIKE, REPOST):
        make = like if kind == LIKE else repost
        subject = uri if variant else target.uri(f"app.bsky.feed.generator/{key}")
        return make(subject)
    if kind == FOLLOW:
        return follow(target.did)
    if kind == PROFILE:
        return profile(f"name {variant}")
    return {"$type": kind, "ref": uri, "list": [target.did] * variant}


class Index:
    """The system under test, driven by steps."""

    def __init__(self, conn: Conn, interner: Interner) -> None:
        self.conn = conn
        self.interner = interner
        self.authors = [author(n) for n in range(3)]
        self.pending: list[CommitEvent] = []
        self.sent: list[CommitEvent] = []

    def commit(self, number: int, changes: list[Any]) -> CommitEvent:
        someone = self.authors[number]
        values: dict[str, dict[str, Any] | bytes | None] = {}
        drops: dict[str, bytes | None] = {}
        for kind, key, action, target, target_key, variant in changes:
            path = f"{kind}/{key}"
            exists = path in someone.records or path in someone.dropped
            if path in values or path in drops:
                continue
            if action == "delete":
                if exists:
                    values[path] = None
            elif action == "drop":
                drops[path] = cid_for(f"{variant}{target_key}".encode())
            else:
                values[path] = make_value(
                    kind, self.authors[target], target_key, variant
                )
        return someone.commit(values, drops)

    def step(self, name: str, number: int, changes: list[Any]) -> None:
        if name == "commit":
            self.pending.append(self.commit(number, changes))
        elif name == "flush":
            self.flush()
        elif name == "lose":
            self.commit(number, [(POST, _KEYS[0], "put", 0, _KEYS[1], number)])
        elif name == "replay":
            self.pending += [e for e in self.sent if e.did == self.authors[number].did]
        else:
            self.flush()
            self.fetch(self.authors[number])

    def flush(self) -> None:
        events, self.pending = self.pending, []
        self.sent += events
        apply_batch(self.conn, self.interner, events, {1: len(self.sent)}, NOW)

    def fetch(self, someone: Author) -> None:
        if someone.rev is None:
            return
        import_repo(self.conn, self.interner, someone)

    def settle(self) -> None:
        """Fetch every repo that is not synchronized, as a worker does."""
        self.flush()
        rows = self.conn.execute(
            "SELECT did FROM repo JOIN actor ON actor.id = actor "
            "WHERE state <> 'synchronized'"
        ).fetchall()
        self.conn.rollback()
        for someone in self.authors:
            if (someone.did,) in rows:
                self.fetch(someone)

    def check(self) -> None:
        conn = self.conn
        known = {
            did
            for (did,) in conn.execute(
                "SELECT did FROM repo JOIN actor ON actor.id = actor"
            )
        }
        authors = [a for a in self.authors if a.did in known]
        # A repo whose last commits were lost is behind and cannot know.
        revs = dict(
            conn.execute(
                "SELECT did, rev FROM repo JOIN actor ON actor.id = actor"
            ).fetchall()
        )
        conn.rollback()
        for someone in authors:
            if revs[someone.did] != someone.rev:
                self.fetch(someone)
        assert held_records(conn) == written_records(authors)
        assert held_post_counts(conn) == expected_post_counts(authors)
        assert held_actor_counts(conn) == expected_actor_counts(authors)
        dropped = conn.execute("SELECT count(*) FROM dropped_record").fetchone()
        assert dropped == (sum(len(a.dropped) for a in authors),)
        conn.rollback()
        assert recount_stats(conn).ok
        for someone in authors:
            assert audit_repo(conn, someone.did).ok


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(steps, min_size=1, max_size=25))
def test_any_history_ends_at_what_was_written(
    index_db: str, conn: Conn, pool: Pool, history: list[Any]
) -> None:
    conn.rollback()
    for name in metadata.tables:
        if name not in ("collection", "path", "rkey", "dictionary"):
            conn.execute(f"DELETE FROM {name}")
    # The triggers have counted that.
    conn.execute("DELETE FROM activity_change")
    conn.commit()
    index = Index(conn, Interner(pool, cache_size=16))
    for step in history:
        index.step(*step)
    index.settle()
    index.check()


def test_model_detects_wrong_count(conn: Conn, pool: Pool) -> None:
    index = Index(conn, Interner(pool))
    index.step("commit", 0, [(POST, _KEYS[0], "put", 0, _KEYS[0], 0)])
    index.step("commit", 1, [(LIKE, _KEYS[0], "put", 0, _KEYS[0], 1)])
    index.settle()
    index.check()
    conn.execute(
        "UPDATE post_stats SET likes = likes + 1 WHERE rkey = %s",
        (tid_to_int(_KEYS[0]),),
    )  # type: ignore[arg-type]
    conn.commit()
    with pytest.raises(AssertionError):
        index.check()
