"""Authors with real trees, and a plain model of the expected index."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from protocol.data import cbor
from protocol.data.cid import cid_for
from protocol.events.drops import DropReason
from protocol.events.event import CommitEvent, DroppedOp, RecordOp, SyncEvent
from protocol.identity.keys import PrivateKey
from protocol.mst import EMPTY_ROOT, build_root
from protocol.repo.commit import sign_commit
from protocol.repo.whole_repo import RepoHead, RepoRecord
from protocol.syntax import Tid, TidClock, tid_from_int
from storage.postgres.pool import Conn
from storage.records.record_codec import decompress

POST = "app.bsky.feed.post"
LIKE = "app.bsky.feed.like"
REPOST = "app.bsky.feed.repost"
FOLLOW = "app.bsky.graph.follow"
PROFILE = "app.bsky.actor.profile"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOW_US = 4_000_000_000_000_000
CREATED = "2026-02-01T10:00:00.000Z"
KEY = PrivateKey.generate("k256")
NO_CID = "bafyreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

_clock_us = [1_770_000_000_000_000]


def _tick() -> int:
    _clock_us[0] += 1_000
    return _clock_us[0]


CLOCK = TidClock(7, _tick)


def reference(uri: str) -> dict[str, Any]:
    return {"uri": uri, "cid": NO_CID}


def post(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"$type": POST, "text": text, "createdAt": CREATED, **more}


def reply(root: str, parent: str, text: str = "re") -> dict[str, Any]:
    return post(text, reply={"root": reference(root), "parent": reference(parent)})


def quote(uri: str, text: str = "look") -> dict[str, Any]:
    embed = {"$type": "app.bsky.embed.record", "record": reference(uri)}
    return post(text, embed=embed)


def like(uri: str) -> dict[str, Any]:
    return {"$type": LIKE, "subject": reference(uri), "createdAt": CREATED}


def repost(uri: str) -> dict[str, Any]:
    return {"$type": REPOST, "subject": reference(uri), "createdAt": CREATED}


def follow(did: str) -> dict[str, Any]:
    return {"$type": FOLLOW, "subject": did, "createdAt": CREATED}


def profile(name: str) -> dict[str, Any]:
    return {"$type": PROFILE, "displayName": name, "createdAt": CREATED}


@dataclass
class Author:
    """An account that writes; `records` and `dropped` are what its tree holds."""

    did: str
    host: int = 1
    rev: Tid | None = None
    data: bytes = EMPTY_ROOT
    signed: bytes = b""
    seq: int = 0
    records: dict[str, bytes] = field(default_factory=dict)
    dropped: dict[str, bytes] = field(default_factory=dict)

    def uri(self, path: str) -> str:
        return f"at://{self.did}/{path}"

    def commit(
        self,
        writes: dict[str, dict[str, Any] | bytes | None],
        drops: dict[str, bytes | None] | None = None,
    ) -> CommitEvent:
        """Make one commit: path -> value to write, None to delete."""
        ops: list[RecordOp] = []
        dropped: list[DroppedOp] = []
        for path, value in writes.items():
            nsid, rkey = path.split("/")
            known = path in self.records or path in self.dropped
            self.dropped.pop(path, None)
            if value is None:
                self.records.pop(path, None)
                ops.append(RecordOp("delete", nsid, rkey))  # type: ignore[arg-type]
                continue
            raw = value if isinstance(value, bytes) else cbor.encode(value)
            self.records[path] = raw
            action = "update" if known else "create"
            # Decoded already, as verification does.
            fields = None if isinstance(value, bytes) else cbor.decode_fast(raw)
            ops.append(RecordOp(action, nsid, rkey, cid_for(raw), raw, fields))  # type: ignore[arg-type]
        for path, cid in (drops or {}).items():
            self.records.pop(path, None)
            self.dropped.pop(path, None)
            if cid is not None:
                self.dropped[path] = cid
            dropped.append(DroppedOp(path, cid, DropReason.RECORD_TOO_LARGE))
        return self._event(tuple(ops), tuple(dropped))

    def write(self, nsid: str, value: dict[str, Any]) -> tuple[str, CommitEvent]:
        """Create one record under a new TID; return its path and its commit."""
        path = f"{nsid}/{CLOCK.next()}"
        return path, self.commit({path: value})

    def sync(self) -> SyncEvent:
        assert self.rev is not None
        return SyncEvent(
            self.did,  # type: ignore[arg-type]
            self.rev,
            self.data,
            self.signed,
            self.seq,
            self.host,
        )

    def head(self) -> RepoHead:
        assert self.rev is not None
        return RepoHead(
            self.did,  # type: ignore[arg-type]
            self.rev,
            self.data,
            self.signed,
            len(self.records),
            0,
        )

    def repo_records(self) -> list[RepoRecord]:
        return [
            RepoRecord(*path.split("/"), cid_for(raw), raw)
            for path, raw in sorted(self.records.items())
        ]

    def repo_drops(self) -> list[DroppedOp]:
        return [
            DroppedOp(path, cid, DropReason.RECORD_TOO_LARGE)
            for path, cid in self.dropped.items()
        ]

    def values_of(self, nsid: str) -> list[Any]:
        """Return an author's records of one collection, decoded."""
        values: list[Any] = [cbor.decode(raw) for raw in self.records.values()]
        return [value for value in values if value["$type"] == nsid]

    def root(self) -> bytes:
        items = {path.encode(): cid_for(raw) for path, raw in self.records.items()}
        items |= {path.encode(): cid for path, cid in self.dropped.items()}
        return build_root(sorted(items.items()))

    def _event(
        self, ops: tuple[RecordOp, ...], drops: tuple[DroppedOp, ...]
    ) -> CommitEvent:
        since, before = self.rev, self.data
        self.rev = CLOCK.next(since)
        self.data = self.root()
        self.signed = sign_commit(self.did, self.data, self.rev, KEY)  # type: ignore[arg-type]
        self.seq += 1
        return CommitEvent(
            did=self.did,  # type: ignore[arg-type]
            rev=self.rev,
            since=since,
            data=self.data,
            prev_data=before,
            commit=self.signed,
            ops=ops,
            drops=drops,
            seq=self.seq,
            host=self.host,
        )


def author(number: int) -> Author:
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return Author("did:plc:" + letters[number] * 24)


def _key_texts(conn: Conn) -> Callable[[int], str]:
    names = dict(conn.execute("SELECT id, text FROM rkey").fetchall())
    return lambda rkey: tid_from_int(rkey) if rkey > 0 else names[rkey]


def held_records(conn: Conn) -> dict[tuple[str, str], bytes]:
    """Return (DID, path) -> exact bytes of everything in `record`."""
    text = _key_texts(conn)
    return {
        (did, f"{nsid}/{text(rkey)}"): decompress(value)
        for did, nsid, rkey, value in conn.execute(
            """
            SELECT did, nsid, rkey, value FROM record JOIN actor ON actor.id = actor
            JOIN collection ON collection.id = collection
            """
        )
    }


def written_records(authors: Iterable[Author]) -> dict[tuple[str, str], bytes]:
    return {(a.did, path): raw for a in authors for path, raw in a.records.items()}


def held_post_counts(conn: Conn) -> dict[str, tuple[int, ...]]:
    """Return URI -> (likes, reposts, replies, quotes) of posts that have any."""
    text = _key_texts(conn)
    return {
        f"at://{did}/{POST}/{text(rkey)}": tuple(counts)
        for did, rkey, *counts in conn.execute(
            """
            SELECT did, rkey, likes, reposts, replies, quotes FROM post_stats
            JOIN actor ON actor.id = actor
            """
        )
        if any(counts)
    }


def expected_post_counts(authors: Iterable[Author]) -> dict[str, tuple[int, ...]]:
    """Count the same in the simplest way: an account counts once for a post."""
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for someone in authors:
        for kind, place in ((LIKE, 0), (REPOST, 1)):
            for uri in {r["subject"]["uri"] for r in someone.values_of(kind)}:
                counts[uri][place] += 1
        for raw in someone.records.values():
            value: Any = cbor.decode(raw)
            if value["$type"] in (LIKE, REPOST):
                continue
            if value["$type"] == POST:
                if "reply" in value:
                    counts[value["reply"]["parent"]["uri"]][2] += 1
                if "embed" in value:
                    counts[value["embed"]["record"]["uri"]][3] += 1
    return {uri: tuple(n) for uri, n in counts.items() if f"/{POST}/" in uri}


def held_actor_counts(conn: Conn) -> dict[str, tuple[int, ...]]:
    """Return DID -> (followers, follows, posts) of accounts that have any."""
    return {
        did: tuple(counts)
        for did, *counts in conn.execute(
            "SELECT did, followers, follows, posts FROM actor_stats "
            "JOIN actor ON actor.id = actor"
        )
        if any(counts)
    }


def expected_actor_counts(authors: Iterable[Author]) -> dict[str, tuple[int, ...]]:
    followers: Counter[str] = Counter()
    follows: Counter[str] = Counter()
    posts: Counter[str] = Counter()
    for someone in authors:
        followed = {value["subject"] for value in someone.values_of(FOLLOW)}
        followers.update(followed)
        follows[someone.did] = len(followed)
        posts[someone.did] = len(someone.values_of(POST))
    dids = {*followers, *follows, *posts}
    counts = {did: (followers[did], follows[did], posts[did]) for did in dids}
    return {did: each for did, each in counts.items() if any(each)}


def repo_row(conn: Conn, did: str) -> tuple[Any, ...]:
    """Return (state, rev, data) of a repo."""
    row = conn.execute(
        "SELECT state, rev, data FROM repo JOIN actor ON actor.id = actor "
        "WHERE did = %s",
        (did,),
    ).fetchone()
    conn.rollback()
    assert row is not None
    return tuple(row)
