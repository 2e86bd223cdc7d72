"""The thread that an author continues: replies to the root and to one another.

Of several replies to one post the oldest continues the thread.
"""

from __future__ import annotations

from typing import Final

from appview.hydration.records import POST
from protocol.syntax import tid_from_int
from storage.postgres.pool import Conn
from storage.records.addresses import Address, name_rkeys

MAX_OWN_REPLIES: Final = 5_000
"""Replies of an author to itself that are read for one thread, the oldest first."""


def find_own_thread(conn: Conn, root: Address) -> list[Address]:
    """Return the thread from its root; empty without a reply of its author."""
    # The condition of the partial index, word for word: of plain equalities PostgreSQL
    # makes others, which the index does not match.
    rows = conn.execute(
        """
        SELECT rkey, parent_rkey FROM post
        WHERE actor = %s AND root_rkey = %s
          AND root_actor IS NOT DISTINCT FROM actor
          AND parent_actor IS NOT DISTINCT FROM actor
        ORDER BY rkey LIMIT %s
        """,
        (root.actor, root.rkey, MAX_OWN_REPLIES),
    ).fetchall()
    replies: dict[int, list[int]] = {}
    for rkey, parent in rows:
        replies.setdefault(parent, []).append(rkey)
    texts = name_rkeys(conn, {rkey for rkey, _ in rows if rkey <= 0})
    thread = [root.rkey]
    while below := replies.get(thread[-1]):
        rkey = min(below, key=lambda n: tid_from_int(n) if n > 0 else texts[n])
        if rkey == root.rkey:
            return []  # a ring of posts
        thread.append(rkey)
    # Each post has one parent, so only the root closes a ring.
    if len(thread) == 1:
        return []
    return [Address(root.actor, POST, rkey) for rkey in thread]
