"""Dump of the index by names, and of what a search engine received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from indexer.collections.registry import ROW_TABLES
from protocol.syntax import tid_from_int
from search.documents import ActorDocument, Document, RecordDocument
from storage.postgres.pool import Conn
from storage.records.addresses import Address
from storage.records.record_codec import decompress


class Documents:
    """A search engine that stores its documents."""

    name = "fake"
    external = False

    def __init__(self) -> None:
        self.records: dict[Address, RecordDocument] = {}
        self.actors: dict[int, ActorDocument] = {}

    def put(self, conn: Any, documents: Sequence[Document]) -> None:
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
        for address in [a for a in self.records if a.actor in actors]:
            del self.records[address]

    def clear(self, conn: Any) -> None:
        self.records.clear()
        self.actors.clear()


# Names for the ids of each column.
_NAMED = {
    **dict.fromkeys(("actor", "parent_actor", "root_actor", "list_actor"), "did"),
    **dict.fromkeys(("subject", "target_actor", "recipient"), "did"),
    **dict.fromkeys(("collection", "target_collection"), "nsid"),
    **dict.fromkeys(("rkey", "parent_rkey", "root_rkey", "list_rkey"), "rkey"),
    **dict.fromkeys(("target_rkey", "subject_rkey"), "rkey"),
    "path": "path",
}
_TABLES = (
    *("record", "listed_record", "collection_repo", "dropped_record"),
    *("index_error", "link"),
    *("resync_buffer", "distant_reply"),
    *("post_stats", "subject_stats", "actor_stats"),
    *(table.name for table in ROW_TABLES),
)
# The first edge of an account to a subject depends on the way, and so does the number
# of seen deletions of a post.
_EDGE = "rkey, target_rkey, actor, target_actor, target_collection, path, sort_at"
_QUERIES = {
    "link": f"SELECT {_EDGE} FROM link UNION ALL SELECT {_EDGE} FROM uncounted_link",
    "post_stats": "SELECT rkey, actor, likes, reposts, replies, quotes FROM post_stats",
}


def dump(conn: Conn) -> dict[str, Counter[Any]]:
    """Return table -> rows, with names in place of ids."""
    names: dict[str, dict[int, Any]] = {
        "did": dict(conn.execute("SELECT id, did FROM actor").fetchall()),
        "nsid": dict(conn.execute("SELECT id, nsid FROM collection").fetchall()),
        "rkey": dict(conn.execute("SELECT id, text FROM rkey").fetchall()),
    }
    paths = conn.execute("SELECT id, collection, path FROM path").fetchall()
    names["path"] = {n: (names["nsid"][c], path) for n, c, path in paths}

    def name(column: str, value: Any) -> Any:
        kind = _NAMED.get(column)
        if kind is None or not isinstance(value, int) or value == 0:
            return tuple(value) if isinstance(value, list) else value
        if kind == "rkey" and value > 0:
            return tid_from_int(value)
        return names[kind][value]

    held: dict[str, Counter[Any]] = {}
    for table in _TABLES:
        cursor = conn.execute(_QUERIES.get(table, f"SELECT * FROM {table}"))
        columns = [column.name for column in cursor.description or ()]
        rows = []
        for row in cursor:
            values = [name(c, v) for c, v in zip(columns, row, strict=True)]
            if table == "record":
                values[columns.index("value")] = decompress(row[-1])
            counts = [v for c, v in zip(columns, row, strict=True) if c not in _NAMED]
            if not table.endswith("_stats") or any(counts):
                rows.append(tuple(values))
        held[table] = Counter(rows)
    repos = conn.execute(
        "SELECT did, state, rev, data, commit, s.collections FROM repo"
        " JOIN actor ON actor.id = actor LEFT JOIN selection s ON s.id = selection"
    )
    held["repo"] = Counter((*row[:5], str(row[5])) for row in repos)
    conn.rollback()
    return held
