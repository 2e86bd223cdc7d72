"""SQL over the views: what it reads, and its bounds."""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg
import pytest
from indexer_world import POST, author, follow, like, post

from analytics.questions import Bounds, QuestionError, ask, open_reader
from analytics.record_json import keep_json
from analytics.view_catalog import VIEWS
from indexer.collections.texts import TEXTS
from search.drain import drain_outbox
from search.engines.postgres.engine import PostgresEngine
from storage.postgres.pool import Conn, Pool


def test_views_read_records_of_shown_accounts(conn: Conn, apply: Any) -> None:
    a, b = author(1), author(2)
    path, event = a.write(POST, post("hello"))
    liking = like(a.uri(path))
    apply(
        event,
        b.write(liking["$type"], liking)[1],
        b.write("app.bsky.graph.follow", follow(a.did))[1],
    )
    assert ask(conn, "SELECT uri, did, likes FROM posts").rows == [
        (a.uri(path), a.did, 1)
    ]
    assert ask(conn, "SELECT did, subject_uri FROM likes").rows == [
        (b.did, a.uri(path))
    ]
    assert ask(conn, "SELECT did, subject_did FROM follows").rows == [(b.did, a.did)]
    links = ask(conn, "SELECT target FROM links WHERE collection LIKE '%.like'")
    assert links.rows == [(a.uri(path),)]
    conn.execute("UPDATE actor SET takedown = 'x' WHERE did = %s", (a.did,))
    conn.commit()
    assert ask(conn, "SELECT uri FROM posts").rows == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; SELECT 2",
        "DELETE FROM posts",
        "SELECT * FROM public.identity",
        "SELECT pg_read_file('/etc/passwd')",
        "CREATE TABLE analytics.x (a int)",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT 'a\0b'",
        " ",
        "nonsense",
    ],
)
def test_other_statements_are_refused(conn: Conn, statement: str) -> None:
    with pytest.raises(QuestionError):
        ask(conn, statement)
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert ask(conn, "SELECT '100%s'").rows == [("100%s",)]


def test_rows_and_time_are_bounded(conn: Conn) -> None:
    result = ask(conn, "SELECT * FROM generate_series(1, 100) AS n", Bounds(rows=3))
    assert (result.columns, result.rows, result.cut) == (
        ("n",),
        [(1,), (2,), (3,)],
        True,
    )
    whole = ask(conn, "SELECT * FROM generate_series(1, 3) AS n", Bounds(rows=3))
    assert not whole.cut
    with pytest.raises(QuestionError, match="stopped after"):
        ask(conn, "SELECT pg_sleep(60)", Bounds(seconds=0.05))
    # The connection keeps no limit and no role.
    row = conn.execute("SELECT current_user, session_user").fetchone()
    assert row is not None
    assert row[0] == row[1]
    assert conn.execute("SHOW statement_timeout").fetchone() == ("0",)
    conn.rollback()


def test_reader_cannot_take_other_rights(index_db: str) -> None:
    with open_reader(index_db) as conn:
        for statement in (
            "SELECT set_config('role', 'none', true), pg_read_file('/etc/passwd')",
            "DO $$ BEGIN EXECUTE 'RESET ROLE'; PERFORM pg_read_file('/x'); END $$",
            "DO $$ BEGIN RESET ROLE; PERFORM count(*) FROM public.identity; END $$",
        ):
            with pytest.raises(QuestionError, match="permission denied"):
                ask(conn, statement)


def test_every_view_is_readable_and_described(conn: Conn, apply: Any) -> None:
    a = author(1)
    apply(a.write(POST, post("hello"))[1])
    found = conn.execute(
        "SELECT viewname FROM pg_views WHERE schemaname = 'analytics'"
    ).fetchall()
    assert {name for (name,) in found} == VIEWS.keys()
    for name, view in VIEWS.items():
        assert ask(conn, f"SELECT * FROM {name}").columns == tuple(view.columns), name


def test_json_of_records_follows_writes_and_deletions(
    conn: Conn, apply: Any, pool: Pool
) -> None:
    a, b = author(1), author(2)
    path, event = a.write(POST, post("nul \0 and \\u0000"))
    note, other = b.write("org.example.note", {"$type": "org.example.note", "n": 1})
    apply(event, other)
    drain = partial(
        drain_outbox,
        conn,
        PostgresEngine(pool),
        TEXTS,
        100,
        keep_json(lambda conn, drained: None),
    )
    while drain():
        pass
    assert ask(conn, "SELECT uri, text FROM posts").rows == [
        (a.uri(path), "nul \ufffd and \\u0000")
    ]
    assert set(ask(conn, "SELECT uri, record ->> 'n' FROM records").rows) == {
        (a.uri(path), None),
        (b.uri(note), "1"),
    }
    apply(a.commit({path: post("edited")}))
    while drain():
        pass
    assert ask(conn, "SELECT text FROM posts").rows == [("edited",)]
    apply(a.commit({path: None}), b.commit({note: None}))
    while drain():
        pass
    assert conn.execute("SELECT count(*) FROM record_json").fetchone() == (0,)
    conn.rollback()
