"""Engines outside Postgres: drain, failures, wipes, rebuilds that are killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from engines_under_test import meilisearch_at
from fake_meilisearch import FakeMeilisearch
from indexer_steps import Apply, leave
from indexer_world import POST, PROFILE, Author, author, post, profile
from loopback_fakes import serving

from indexer.collections.texts import TEXTS
from indexer.search_drain import search_drain
from search.drain import drain_outbox, outbox_lock
from search.engines.contract import EngineUnavailableError
from search.engines.external_state import load_failures, load_state
from search.engines.meilisearch.engine import MeilisearchEngine
from search.engines.meilisearch.index_client import TaskFailedError
from search.query.parser import parse_query
from search.rebuild import adopt_engine, begin_rebuild, work_beside
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.outbox import outbox_backlog
from storage.postgres.pool import Conn, Pool

_POST = COLLECTION_IDS[FEED_POST]


@pytest.fixture
def fake() -> Iterator[FakeMeilisearch]:
    fake = FakeMeilisearch()
    with serving(fake) as fake.url:
        yield fake


@pytest.fixture
def engine(fake: FakeMeilisearch, pool: Pool) -> Iterator[MeilisearchEngine]:
    engine = meilisearch_at(pool, fake.url, "", hot_records=8)
    yield engine
    engine.close()


def drain(conn: Conn, engine: Any) -> None:
    while drain_outbox(conn, engine, TEXTS, 5) or work_beside(conn, engine, TEXTS):
        pass


def found(engine: MeilisearchEngine, text: str) -> int:
    query = parse_query(text, resolve_handle=lambda _: None)
    engine.state(fresh=True)
    return len(engine.search_records(query, collections=[_POST], limit=100).hits)


def contents(fake: FakeMeilisearch) -> dict[str, Any]:
    """Return all documents of all indexes by ID; each is in one index only."""
    documents = [d for index in fake.indexes.values() for d in index.documents.values()]
    by_id = {document["id"]: document for document in documents}
    assert len(by_id) == len(documents)
    return by_id


def write_some(apply: Apply, writer: Author, texts: list[str]) -> list[str]:
    paths = []
    for text in texts:
        path, event = writer.write(POST, post(text))
        apply(event)
        paths.append(path)
    return paths


def test_drain_holds_no_transaction_while_the_engine_is_written(
    conn: Conn, apply: Apply, engine: MeilisearchEngine, fake: FakeMeilisearch
) -> None:
    write_some(apply, author(0), ["one"])
    answer, states = fake.answer, []

    def watch(*args: Any) -> Any:
        states.append(conn.info.transaction_status)
        return answer(*args)

    fake.answer = watch  # type: ignore[method-assign]
    drain(conn, engine)
    assert set(states) == {psycopg.pq.TransactionStatus.IDLE}
    assert found(engine, "one") == 1


def test_a_failed_task_keeps_entries_and_raises_an_alarm(
    conn: Conn,
    pool: Pool,
    apply: Apply,
    engine: MeilisearchEngine,
    fake: FakeMeilisearch,
) -> None:
    drain(conn, engine)
    write_some(apply, author(0), ["kept"])
    fake.fail_tasks = 1
    with pytest.raises(TaskFailedError, match="no space left"):
        drain_outbox(conn, engine, TEXTS, 10)
    assert outbox_backlog(conn) > 0
    fake.fail_tasks = 1
    thread = search_drain(pool, engine)
    step = thread._work
    assert step() is False
    assert "no space left" in load_failures(conn)["meilisearch"]
    conn.commit()
    assert "no space left" in engine.stats().failure
    # It does not ask again before its time.
    calls = len(fake.calls)
    assert step() is False
    assert len(fake.calls) == calls
    drain(conn, engine)
    engine.note_failure("")
    assert load_failures(conn) == {}
    conn.commit()
    assert found(engine, "kept") == 1


def test_entries_written_before_a_crash_are_written_again(
    conn: Conn, apply: Apply, engine: MeilisearchEngine, monkeypatch: Any
) -> None:
    writer = author(0)
    [path] = write_some(apply, writer, ["first"])
    with monkeypatch.context() as patched:
        patched.setattr("search.drain.delete_outbox", _crash)
        with pytest.raises(KeyboardInterrupt):
            drain_outbox(conn, engine, TEXTS, 10)
    apply(writer.commit({path: post("second")}))
    drain(conn, engine)
    assert (found(engine, "first"), found(engine, "second")) == (0, 1)
    assert outbox_backlog(conn) == 0


def _crash(*_: Any) -> None:
    raise KeyboardInterrupt


def test_updates_and_deletes_keep_their_order(
    conn: Conn, apply: Apply, engine: MeilisearchEngine, fake: FakeMeilisearch
) -> None:
    writer = author(0)
    one, two = write_some(apply, writer, ["aaa", "bbb"])
    apply(writer.commit({one: None}), writer.commit({two: post("ccc")}))
    apply(writer.commit({one: post("ddd")}), writer.commit({two: None}))
    drain(conn, engine)
    assert [found(engine, t) for t in ("aaa", "bbb", "ccc", "ddd")] == [0, 0, 0, 1]


def test_hidden_accounts_leave_the_engine(
    conn: Conn, apply: Apply, engine: MeilisearchEngine, fake: FakeMeilisearch
) -> None:
    a, b = author(0), author(1)
    write_some(apply, a, ["mine"] * 12)
    write_some(apply, b, ["theirs"])
    apply(a.commit({f"{PROFILE}/self": profile("A")}))
    drain(conn, engine)
    assert found(engine, "mine") == 12
    leave(conn, apply, a, "deactivated")
    drain(conn, engine)
    assert (found(engine, "mine"), found(engine, "theirs")) == (0, 1)


def test_an_index_wiped_three_times_during_ingest_is_rebuilt_equal(
    conn: Conn,
    pool: Pool,
    apply: Apply,
    engine: MeilisearchEngine,
    fake: FakeMeilisearch,
) -> None:
    a, b = author(0), author(1)
    paths: list[str] = []
    for turn in range(3):
        paths += write_some(apply, a, [f"turn{turn} post{n}" for n in range(9)])
        write_some(apply, b, [f"turn{turn} other{n}" for n in range(4)])
        drain_outbox(conn, engine, TEXTS, 5)
        fake.wipe()
        apply(a.commit({paths[0]: None, paths[1]: post(f"edited {turn}")}))
        paths = paths[1:]
        drain_outbox(conn, engine, TEXTS, 5)
    drain(conn, engine)
    rebuilt = contents(fake)
    assert found(engine, "post8") == 3
    with serving(never_wiped := FakeMeilisearch()) as url:
        engine.clear(None)
        with conn.transaction():
            conn.execute("DELETE FROM search_engine")
        other = meilisearch_at(pool, url, "", hot_records=8)
        drain(conn, other)
        assert contents(never_wiped) == rebuilt
        other.close()


@pytest.mark.parametrize("allowed", [3, 40, 110])
def test_a_killed_rebuild_loses_nothing_and_serves_on(
    conn: Conn,
    pool: Pool,
    apply: Apply,
    engine: MeilisearchEngine,
    fake: FakeMeilisearch,
    monkeypatch: Any,
    allowed: int,
) -> None:
    monkeypatch.setattr("search.rebuild.STEP_RECORDS", 4)
    a, b = author(0), author(1)
    paths = write_some(apply, a, [f"word post{n}" for n in range(15)])
    write_some(apply, b, ["word theirs"] * 6)
    drain(conn, engine)
    before = contents(fake)
    assert begin_rebuild(conn, engine)
    left = [allowed]
    answer = fake.answer

    def dies(*args: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise ConnectionResetError
        return answer(*args)

    fake.answer = dies  # type: ignore[method-assign]
    with suppress(EngineUnavailableError):
        while work_beside(conn, engine, TEXTS):
            assert found(engine, "word") == 21
    fake.answer = answer  # type: ignore[method-assign]
    # A new process, and a post that is written and one that is deleted meanwhile.
    apply(a.commit({paths[0]: None}), a.write(POST, post("word new"))[1])
    other = meilisearch_at(pool, fake.url, "", hot_records=8)
    begin_rebuild(conn, other)
    while work_beside(conn, other, TEXTS):
        assert 20 <= found(other, "word") <= 21
        drain_outbox(conn, other, TEXTS, 1)
    drain(conn, other)
    assert found(other, "word") == 21
    assert len(contents(fake)) == len(before)
    state, _ = load_state(conn, "meilisearch")
    conn.commit()
    assert state is not None
    assert state.rebuild is None
    other.close()


def test_a_rebuild_keeps_serving_from_the_old_index(
    conn: Conn, apply: Apply, engine: MeilisearchEngine, fake: FakeMeilisearch
) -> None:
    write_some(apply, author(0), ["word"] * 30)
    drain(conn, engine)
    old = set(fake.indexes)
    begin_rebuild(conn, engine)
    state = engine.state_for_writes()
    assert (state.rebuild is not None, found(engine, "word")) == (True, 30)
    assert "rebuild: 0 of 1 accounts" in engine.stats().detail
    while work_beside(conn, engine, TEXTS):
        assert found(engine, "word") == 30
    assert not old & set(fake.indexes)


def test_steps_beside_the_drain_need_its_lock(
    conn: Conn, index_db: str, apply: Apply, engine: MeilisearchEngine
) -> None:
    write_some(apply, author(0), ["word"])
    with psycopg.connect(index_db) as other, outbox_lock(other) as held:
        assert held
        assert drain_outbox(conn, engine, TEXTS, 5) == 0
        assert not work_beside(conn, engine, TEXTS)
        assert not begin_rebuild(conn, engine)
    drain(conn, engine)
    assert found(engine, "word") == 1


def test_an_engine_that_returns_is_rebuilt(
    conn: Conn, apply: Apply, engine: MeilisearchEngine
) -> None:
    writer = author(0)
    write_some(apply, writer, ["word"])
    adopt_engine(conn, engine)
    drain(conn, engine)
    with conn.transaction():
        conn.execute(
            "UPDATE search_engine SET state = '\"postgres\"' WHERE name = 'current'"
        )
    write_some(apply, writer, ["missed"])
    conn.execute("DELETE FROM search_outbox")
    conn.commit()
    adopt_engine(conn, engine)
    drain(conn, engine)
    assert (found(engine, "word"), found(engine, "missed")) == (1, 1)


def test_search_without_an_index_says_so(engine: MeilisearchEngine) -> None:
    with pytest.raises(EngineUnavailableError, match="does not exist yet"):
        found(engine, "word")
    assert engine.stats().detail == "not built yet"
