"""The search outbox: documents follow rows, hidden accounts leave, failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from indexer_steps import Apply, actor_id, all_kinds, leave
from indexer_world import NOW, POST, PROFILE, author, post, profile

from indexer.account import set_takedown
from indexer.apply import apply_batch
from indexer.collections.texts import TEXTS
from indexer.identity import save_handles
from protocol.events.event import AccountEvent
from search.documents import ActorDocument, Document, RecordDocument
from search.drain import drain_outbox, queue_everything
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.interning import Interner
from storage.records.stats import LIKES, StatsChange, apply_stats


class FakeEngine:
    """A search engine of two dictionaries."""

    name = "fake"
    external = False

    def __init__(self) -> None:
        self.records: dict[Address, RecordDocument] = {}
        self.actors: dict[int, ActorDocument] = {}
        self.broken = False

    def put(self, conn: Any, documents: Sequence[Document]) -> None:
        if self.broken:
            raise ConnectionError
        for document in documents:
            if isinstance(document, RecordDocument):
                self.records[document.address] = document
            else:
                self.actors[document.actor] = document

    def delete(
        self, conn: Any, addresses: Sequence[Address], actors: Sequence[int]
    ) -> None:
        for address in addresses:
            self.records.pop(address, None)
        for actor in actors:
            self.actors.pop(actor, None)
            for address in [a for a in self.records if a.actor == actor]:
                del self.records[address]

    def clear(self, conn: Any) -> None:
        self.records.clear()
        self.actors.clear()

    @property
    def texts(self) -> set[str]:
        return {document.text for document in self.records.values()}


def drain(conn: Conn, engine: FakeEngine) -> None:
    while drain_outbox(conn, engine, TEXTS, 50):
        pass


def test_search_follows_the_rows(conn: Conn, apply: Apply) -> None:
    engine = FakeEngine()
    a, b = author(0), author(1)
    path, event = b.write(POST, post("theirs"))
    apply(event, a.commit(all_kinds(a, b, b.uri(path))))
    drain(conn, engine)
    assert engine.texts == {
        "theirs",
        "plain words",
        "answered words",
        "quoting words",
        "",
        "noted words",
    }
    titles = {d.title for d in engine.records.values() if d.title}
    assert titles == {"friends", "begin here", "cats", "A note"}
    found = next(d for d in engine.records.values() if d.text == "theirs")
    assert (found.likes, found.reposts, found.replies, found.quote_count) == (
        1,
        1,
        1,
        1,
    )
    assert found.uri == b.uri(path)
    quoting = next(d for d in engine.records.values() if d.text == "quoting words")
    assert quoting.quoted == "theirs"
    assert quoting.detected == "en"
    answer = next(d for d in engine.records.values() if d.text == "answered words")
    assert (answer.reply_parent, answer.features) == (b.uri(path), ("reply",))
    assert {d.display_name for d in engine.actors.values()} == {"Somebody"}
    apply(a.commit({f"{POST}/3laaaaaaaaa22": None, f"{PROFILE}/self": profile("New")}))
    apply(b.commit({path: post("theirs, edited")}))
    drain(conn, engine)
    assert "plain words" not in engine.texts
    assert "theirs" not in engine.texts
    assert "theirs, edited" in engine.texts
    assert {d.display_name for d in engine.actors.values()} == {"New"}


def test_hidden_accounts_return(conn: Conn, interner: Interner, apply: Apply) -> None:
    engine = FakeEngine()
    a, b = author(0), author(1)
    apply(b.write(POST, post("theirs"))[1])
    apply(a.write(POST, post("mine"))[1], a.commit({f"{PROFILE}/self": profile("A")}))
    drain(conn, engine)
    actor = leave(conn, apply, a, "deactivated")
    drain(conn, engine)
    assert (engine.texts, engine.actors) == ({"theirs"}, {})
    apply(AccountEvent(a.did, True, None, 100, 1))  # type: ignore[arg-type]
    drain(conn, engine)
    assert engine.texts == {"theirs", "mine"}
    assert [d.display_name for d in engine.actors.values()] == ["A"]
    set_takedown(conn, actor, "spam")
    drain(conn, engine)
    assert engine.texts == {"theirs"}
    set_takedown(conn, actor, None)
    drain(conn, engine)
    assert engine.texts == {"theirs", "mine"}


def test_failing_engine_loses_nothing(conn: Conn, apply: Apply) -> None:
    engine = FakeEngine()
    a = author(0)
    apply(a.write(POST, post("kept"))[1])
    engine.broken = True
    with pytest.raises(ConnectionError):
        drain_outbox(conn, engine, TEXTS, 10)
    engine.broken = False
    drain(conn, engine)
    assert engine.texts == {"kept"}
    assert drain_outbox(conn, engine, TEXTS, 10) == 0


def test_wiped_engine_is_filled_again(conn: Conn, apply: Apply) -> None:
    engine = FakeEngine()
    a, b = author(0), author(1)
    path, event = b.write(POST, post("theirs"))
    apply(event, a.commit(all_kinds(a, b, b.uri(path))))
    apply(b.commit({f"{PROFILE}/self": profile("B")}))
    drain(conn, engine)
    before = dict(engine.records), dict(engine.actors)
    queue_everything(conn, engine)
    assert engine.records == {}
    drain(conn, engine)
    assert (engine.records, engine.actors) == before


def test_one_drain_at_a_time(
    conn: Conn, index_db: str, interner: Interner, apply: Apply
) -> None:
    """The drain that read the older row could write last otherwise."""
    a = author(0)
    path, event = a.write(POST, post("old"))
    apply(event)
    with psycopg.connect(index_db) as other:

        class Slow(FakeEngine):
            def put(self, conn: Any, documents: Sequence[Document]) -> None:
                edit = a.commit({path: post("new")})
                apply_batch(other, interner, [edit], {}, NOW)
                assert drain_outbox(other, FakeEngine(), TEXTS, 10) == 0
                super().put(conn, documents)

        engine = Slow()
        assert drain_outbox(conn, engine, TEXTS, 10) == 1
        assert engine.texts == {"old"}
    later = FakeEngine()
    drain(conn, later)
    assert later.texts == {"new"}


def test_handles(conn: Conn, apply: Apply) -> None:
    a, b = author(0), author(1)
    apply(a.write(POST, post("one"))[1], b.write(POST, post("two"))[1])
    first, second = actor_id(conn, a.did), actor_id(conn, b.did)
    engine = FakeEngine()
    drain(conn, engine)
    with conn.transaction():
        save_handles(conn, {first: "one.test"}, NOW)
    drain(conn, engine)
    assert engine.actors[first].handle == "one.test"
    with conn.transaction():
        save_handles(conn, {second: "one.test"}, NOW)
    drain(conn, engine)
    rows = conn.execute("SELECT id, handle FROM actor ORDER BY id").fetchall()
    assert {row for row in rows if row[0] in (first, second)} == {
        (first, None),
        (second, "one.test"),
    }
    assert engine.actors[second].handle == "one.test"
    assert engine.actors[first].handle is None
    # Its previous owner is checked again: either result may be older.
    soon = conn.execute("SELECT actor FROM repo WHERE identity_at = 'epoch'")
    assert soon.fetchall() == [(first,)]


def test_post_is_indexed_anew_at_each_tier_of_reactions(
    conn: Conn, apply: Apply
) -> None:
    engine = FakeEngine()
    a = author(0)
    apply(a.write(POST, post("liked"))[1])
    drain(conn, engine)
    address = next(iter(engine.records))

    def like(count: int) -> int:
        change = StatsChange()
        change.add_post(address.rkey, address.actor, LIKES, count)
        with conn.transaction():
            apply_stats(conn, change)
        with conn.transaction():
            waiting = conn.execute("SELECT count(*) FROM search_outbox").fetchone()
        drain(conn, engine)
        assert waiting is not None
        return int(waiting[0])

    # 3, 4, 15, 17 and 3 likes: the second, fourth and fifth are in another tier.
    assert [like(n) for n in (3, 1, 11, 2, -14)] == [0, 1, 0, 1, 1]
    assert engine.records[address].likes == 3
