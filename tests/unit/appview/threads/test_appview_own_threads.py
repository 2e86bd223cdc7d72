"""The thread that an author continues: the oldest replies, read by their index."""

from __future__ import annotations

from appview.skeletons.own_thread import find_own_thread
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.postgres.pool import Conn
from storage.records.addresses import Address

POST = COLLECTION_IDS[FEED_POST]
AUTHOR, OTHER, ROOT = 1, 2, 1_000


def add(conn: Conn, rkey: int, parent: int | None, **columns: int) -> None:
    """Write a post of the author, by default a reply to itself in its thread."""
    row = {"actor": AUTHOR, "root_rkey": ROOT, "parent_rkey": parent}
    row |= {"root_actor": AUTHOR, "parent_actor": AUTHOR, "rkey": rkey} | columns
    conn.execute(
        """
        INSERT INTO post (actor, rkey, sort_at, created_at, indexed_at, root_actor,
                          root_rkey, parent_actor, parent_rkey)
        VALUES (%(actor)s, %(rkey)s, now(), now(), now(), %(root_actor)s,
                %(root_rkey)s, %(parent_actor)s, %(parent_rkey)s)
        """,
        row,
    )


def rkeys(conn: Conn) -> list[int]:
    return [post.rkey for post in find_own_thread(conn, Address(AUTHOR, POST, ROOT))]


def test_oldest_reply_continues_the_thread(conn: Conn) -> None:
    conn.execute("INSERT INTO rkey (id, text) VALUES (-7, '2222-first')")
    add(conn, 1_002, ROOT)
    assert rkeys(conn) == [ROOT, 1_002]
    add(conn, 1_001, ROOT)
    add(conn, 1_003, 1_001)
    add(conn, 1_004, 1_002)
    assert rkeys(conn) == [ROOT, 1_001, 1_003]
    # A key that is no TID is compared as a text.
    add(conn, -7, 1_001)
    assert rkeys(conn) == [ROOT, 1_001, -7]


def test_replies_of_and_to_others_are_no_thread(conn: Conn) -> None:
    assert rkeys(conn) == []
    add(conn, 1_001, ROOT, actor=OTHER)
    add(conn, 1_002, 1_001, parent_actor=OTHER)
    add(conn, 1_003, ROOT, root_rkey=9)
    add(conn, 1_004, ROOT, root_actor=OTHER)
    assert rkeys(conn) == []


def test_thread_is_read_without_other_posts_of_its_author(conn: Conn) -> None:
    conn.execute(
        """
        INSERT INTO post (actor, rkey, sort_at, created_at, indexed_at, root_actor,
                          root_rkey, parent_actor, parent_rkey)
        SELECT %s, n, now(), now(), now(), %s, n - n %% 4, %s, n - 1
        FROM generate_series(4000, 12000) AS n
        """,
        (AUTHOR, AUTHOR, AUTHOR),
    )
    add(conn, 1_001, ROOT)
    conn.execute("ANALYZE post")

    def rows_read() -> int:
        row = conn.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE relname = 'post'"
        ).fetchone()
        assert row is not None
        return int(row[0])

    before = rows_read()
    assert rkeys(conn) == [ROOT, 1_001]
    assert rows_read() - before <= 4
