"""Audit of repos and counts.

A repo's root is rebuilt from our rows and compared with the signed one; counts are
compared with their rows.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

import zstandard

from analytics.activity_rollups import correct, find_miscounts
from protocol.data.cid import cid_for
from protocol.errors import ProtocolError
from protocol.mst import build_root
from protocol.repo.commit import parse_commit
from storage.change_log import COUNTS, log_addresses
from storage.collections import (
    COLLECTION_IDS,
    FEED_POST,
    FOLLOW_SUBJECT,
    GRAPH_LIST,
    LIKE_SUBJECT,
    LISTITEM_LIST,
    NO_COLLECTION,
    NO_RKEY,
    QUOTE_PATHS,
    REPLY_PARENT,
    REPOST_SUBJECT,
)
from storage.postgres.pool import Conn
from storage.postgres.transaction import require_idle, whole_transaction
from storage.records.record_codec import UnknownDictionaryError
from storage.records.record_rows import iter_repo
from storage.states import REPO_SYNCHRONIZED

_POST: Final = COLLECTION_IDS[FEED_POST]
_LIST: Final = COLLECTION_IDS[GRAPH_LIST]
# Errors of reading a damaged row.
_UNREADABLE: Final = (
    ProtocolError,
    UnknownDictionaryError,
    zstandard.ZstdError,
    ValueError,
    LookupError,
    struct.error,
)


class UnknownRepoError(Exception):
    """There is no repo of this DID, or nothing of it was imported yet."""


class RepoTooLargeError(Exception):
    """A repo has more records than one step may read."""


@dataclass(frozen=True, slots=True)
class RepoAudit:
    """Result of an audit: `root` is rebuilt from our rows, `data` is the stored head's
    root, `signed` that of the signed commit. All three must be equal.

    Of a partial repo only the collections `keeps` are stored: `root` is empty, and
    `compare_parts` compares the rows. `fault` is an error found without comparison: an
    unreadable row or commit, or a commit of another account or revision. `commit` is
    the CID of the commit block.
    """

    did: str
    rev: str
    root: bytes
    data: bytes
    signed: bytes
    commit: bytes
    records: int
    dropped: int
    fault: str | None = None
    keeps: frozenset[str] | None = None

    @property
    def ok(self) -> bool:
        """Return True if nothing is wrong; for a whole repo, its rows are as signed."""
        root = self.data if self.keeps is not None else self.root
        return self.fault is None and root == self.data == self.signed


@dataclass(frozen=True, slots=True)
class StatsAudit:
    """Table -> number of wrong rows of counts, which a repair has corrected."""

    wrong: dict[str, int]

    @property
    def ok(self) -> bool:
        return not any(self.wrong.values())


def rebuild_root(conn: Conn, did: str) -> bytes:
    """Return the root of a repo's tree made from our rows, in constant memory.

    Raises UnknownRepoError. Needs a connection that is not in autocommit mode.
    """
    actor = _actor_of(conn, did)
    return build_root((key, cid) for key, cid, _ in iter_repo(conn, actor))


def audit_repo(conn: Conn, did: str, *, most_records: int | None = None) -> RepoAudit:
    """Rebuild a repo's root and compare it, in one snapshot.

    Raises UnknownRepoError, and RepoTooLargeError beyond `most_records`.
    """
    counts = [0, 0]
    strays: list[bytes] = []

    def items(actor: int) -> Iterator[tuple[bytes, bytes]]:
        for key, cid, value in iter_repo(conn, actor):
            counts[value is None] += 1
            if keeps is not None and not _is_kept(key, keeps):
                strays.append(key)
            if most_records is not None and counts[0] > most_records:
                raise RepoTooLargeError(did)
            yield key, cid

    require_idle(conn)
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        actor = _actor_of(conn, did)
        rev, data, commit, keeps = _head_of(conn, actor, did)
        root, fault = b"", None
        try:
            with conn.transaction():
                if keeps is None:
                    root = build_root(items(actor))
                else:
                    deque(items(actor), maxlen=0)
        except _UNREADABLE as error:
            fault = f"a row cannot be read: {error}"
    if strays:
        fault = fault or "a record of a collection that is not kept"
    signed = b""
    try:
        head = parse_commit(commit)
    except ProtocolError as error:
        fault = fault or f"the commit cannot be read: {error}"
    else:
        signed = head.data
        if (head.did, head.rev) != (did, rev):
            fault = fault or "the commit is of another account or revision"
    return RepoAudit(
        did,
        rev,
        root,
        data,
        signed,
        cid_for(commit),
        counts[0],
        counts[1],
        fault,
        keeps,
    )


def compare_parts(
    conn: Conn, did: str, rev: str, listed: Iterable[tuple[bytes, bytes]]
) -> bool | None:
    """Return True if a partial repo holds exactly these (key, CID), sorted and proven.

    Returns None if it is not at `rev` any more. An unreadable row is a difference.
    Raises UnknownRepoError.
    """
    require_idle(conn)
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        actor = _actor_of(conn, did)
        if _head_of(conn, actor, did)[0] != rev:
            return None
        ours = ((key, cid) for key, cid, _ in iter_repo(conn, actor))
        try:
            with conn.transaction():
                return all(a == b for a, b in zip_longest(ours, listed))
        except _UNREADABLE:
            return False


def _is_kept(key: bytes, keeps: frozenset[str]) -> bool:
    nsid, slash, _ = key.partition(b"/")
    return bool(slash) and nsid.decode("utf-8", "replace") in keeps


def describe_fault(found: RepoAudit) -> str | None:
    """Return the fault of a repo in words; None if there is none."""
    if found.fault is not None:
        return found.fault
    if found.data != found.signed:
        return "the stored root is not the signed one"
    return None if found.ok else "the rows differ from the signed tree"


def list_synchronized(conn: Conn, *, after: str = "", limit: int = 1_000) -> list[str]:
    """Return a page of DIDs of repos that can be audited, in order."""
    rows = conn.execute(
        """
        SELECT did FROM actor JOIN repo ON repo.actor = actor.id
        WHERE did > %s AND repo.state = %s AND repo.rev IS NOT NULL
        ORDER BY did LIMIT %s
        """,
        (after, REPO_SYNCHRONIZED, limit),
    )
    return [row[0] for row in rows]


def _actor_of(conn: Conn, did: str) -> int:
    row = conn.execute("SELECT id FROM actor WHERE did = %s", (did,)).fetchone()
    if row is None:
        raise UnknownRepoError(did)
    return int(row[0])


def _head_of(
    conn: Conn, actor: int, did: str
) -> tuple[str, bytes, bytes, frozenset[str] | None]:
    row = conn.execute(
        """
        SELECT rev, data, commit, s.collections FROM repo
        LEFT JOIN selection s ON s.id = selection
        WHERE actor = %s AND rev IS NOT NULL
        """,
        (actor,),
    ).fetchone()
    if row is None:
        raise UnknownRepoError(did)
    return row[0], row[1], row[2], None if row[3] is None else frozenset(row[3])


def recount_stats(conn: Conn, *, repair: bool = False) -> StatsAudit:
    """Recount everything and compare. With `repair`, write the right counts.

    Reads whole tables, so run it at night. Live batches wait only with `repair`.
    """
    wrong: dict[str, int] = {}
    with whole_transaction(conn):
        if repair:
            conn.execute(
                # In the order in which batches write them.
                "LOCK TABLE activity_change, post_stats, subject_stats, actor_stats "
                "IN SHARE ROW EXCLUSIVE MODE"
            )
        else:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for recount in _RECOUNTS:
            wrong[recount.table] = _recount(conn, recount, repair)
        miscounts = find_miscounts(conn)
        wrong["activity"] = len(miscounts)
        if repair:
            correct(conn, miscounts)
    return StatsAudit(wrong)


def _recount(conn: Conn, recount: _Recount, repair: bool) -> int:
    table, keys = recount.table, ", ".join(recount.keys)
    columns = f"{keys}, {', '.join(recount.counts)}"
    real = [f"coalesce(t.{name}, 0)::int4 AS {name}" for name in recount.counts]
    differ = [
        f"coalesce(t.{name}, 0) <> coalesce(s.{name}, 0)" for name in recount.counts
    ]
    conn.execute(
        f"CREATE TEMPORARY TABLE wrong_stats ON COMMIT DROP AS "
        f"SELECT {keys}, {', '.join(real)} "
        f"FROM ({recount.truth}) AS t FULL JOIN {table} AS s USING ({keys}) "
        f"WHERE {' OR '.join(differ)}"
    )
    row = conn.execute("SELECT count(*) FROM wrong_stats").fetchone()
    if repair:
        values = ", ".join(f"{name} = excluded.{name}" for name in recount.counts)
        conn.execute(
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM wrong_stats "
            f"ON CONFLICT ({keys}) DO UPDATE SET {values}"
        )
        wrong = conn.execute(f"SELECT {recount.address} FROM wrong_stats").fetchall()
        log_addresses(conn, wrong, COUNTS)
    conn.execute("DROP TABLE wrong_stats")
    return int(row[0]) if row else 0


@dataclass(frozen=True, slots=True)
class _Recount:
    """A table of counts, and the query that recounts it."""

    table: str
    keys: tuple[str, ...]
    counts: tuple[str, ...]
    truth: str

    @property
    def address(self) -> str:
        """Return the SQL of the record or account that a row is about."""
        collection = _POST if self.table == "post_stats" else NO_COLLECTION
        names = {"collection": str(collection), "rkey": str(NO_RKEY)}
        names |= {name: name for name in self.keys}
        return f"actor, {names['collection']}, {names['rkey']}"


_RECOUNTS: Final = (
    _Recount(
        "post_stats",
        ("actor", "rkey"),
        ("likes", "reposts", "replies", "quotes"),
        f"""
        SELECT actor, rkey, sum(likes) AS likes, sum(reposts) AS reposts,
            sum(replies) AS replies, sum(quotes) AS quotes
        FROM (
            SELECT target_actor AS actor, target_rkey AS rkey,
                (path = {LIKE_SUBJECT})::int AS likes,
                (path = {REPOST_SUBJECT})::int AS reposts,
                (path = {REPLY_PARENT})::int AS replies, 0 AS quotes
            FROM link WHERE target_collection = {_POST}
              AND path IN ({LIKE_SUBJECT}, {REPOST_SUBJECT}, {REPLY_PARENT})
            UNION ALL
            SELECT DISTINCT ON (target_actor, target_rkey, actor, rkey)
                target_actor, target_rkey, 0, 0, 0, 1
            FROM link WHERE target_collection = {_POST}
              AND path IN ({", ".join(map(str, QUOTE_PATHS))})
        ) AS edge GROUP BY 1, 2
        """,
    ),
    _Recount(
        "subject_stats",
        ("actor", "collection", "rkey"),
        ("likes", "items"),
        f"""
        SELECT target_actor AS actor, target_collection AS collection,
            target_rkey AS rkey, count(*) FILTER (WHERE path = {LIKE_SUBJECT}) AS likes,
            count(*) FILTER (WHERE path = {LISTITEM_LIST}) AS items
        FROM link WHERE path = {LIKE_SUBJECT} AND target_collection <> {_POST}
            OR path = {LISTITEM_LIST} AND target_collection = {_LIST}
            AND actor = target_actor
        GROUP BY 1, 2, 3
        """,
    ),
    _Recount(
        "actor_stats",
        ("actor",),
        (
            *("followers", "follows", "posts"),
            *("lists", "feed_generators", "starter_packs"),
        ),
        f"""
        SELECT actor, sum(followers) AS followers, sum(follows) AS follows,
            sum(posts) AS posts, sum(lists) AS lists,
            sum(feed_generators) AS feed_generators,
            sum(starter_packs) AS starter_packs
        FROM (
            SELECT target_actor AS actor, count(*) AS followers, 0 AS follows,
                0 AS posts, 0 AS lists, 0 AS feed_generators, 0 AS starter_packs
            FROM link WHERE path = {FOLLOW_SUBJECT}
              AND target_collection = {NO_COLLECTION} GROUP BY 1
            UNION ALL
            SELECT actor, 0, count(*), 0, 0, 0, 0
            FROM link WHERE path = {FOLLOW_SUBJECT}
              AND target_collection = {NO_COLLECTION} GROUP BY 1
            UNION ALL SELECT actor, 0, 0, count(*), 0, 0, 0 FROM post GROUP BY 1
            UNION ALL SELECT actor, 0, 0, 0, count(*), 0, 0 FROM list GROUP BY 1
            UNION ALL
            SELECT actor, 0, 0, 0, 0, count(*), 0 FROM feed_generator GROUP BY 1
            UNION ALL
            SELECT actor, 0, 0, 0, 0, 0, count(*) FROM starter_pack GROUP BY 1
        ) AS counted GROUP BY 1
        """,
    ),
)
