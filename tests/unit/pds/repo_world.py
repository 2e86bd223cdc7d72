"""One account of a PDS, its writer and its stored blocks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pds.repo.block_rows import NodeCache
from pds.repo.repo_heads import RepoHead, get_head
from pds.repo.repo_writes import Intent, RepoWriter, Write
from pds.server import lifecycle
from pds.server.accounts import NewAccount
from protocol.data.cbor import encode
from protocol.data.cid import cid_for
from protocol.events.frames import decode_frame
from protocol.identity.keys import PrivateKey
from protocol.mst import build_nodes
from protocol.repo.commit import verify_commit_signature
from protocol.syntax import TidClock
from storage.postgres.pool import Pool

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
NOTE = "dev.example.note"
KEY = PrivateKey.generate()


class Clock:
    """A clock in microseconds that the test sets."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.us


class Repo:
    """One account and its writer."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.time = Clock()
        self.clock = TidClock(1, self.time)
        self.writer = RepoWriter(NodeCache(), self.clock, lambda conn, account: KEY)
        new = NewAccount(
            did=DID,
            handle="alice.a.test",
            email=None,
            password="-",
            signing_key=b"-",
            rotation_key=b"-",
            signing_did_key=KEY.public.did_key,
        )
        with pool.connection() as conn:
            self.id = lifecycle.create_account(
                conn, new, KEY, self.clock.next(), datetime.now(UTC)
            )

    def apply(self, *writes: Write, swap: bytes | None = None) -> RepoHead:
        with self.pool.connection() as conn:
            return self.writer.apply(
                conn, self.id, writes, swap_commit=swap, now=datetime.now(UTC)
            ).head

    def head(self) -> RepoHead:
        with self.pool.connection() as conn:
            return get_head(conn, self.id)

    def query(self, sql: str) -> list[Any]:
        with self.pool.connection() as conn:
            return list(conn.execute(sql))

    def frames(self) -> list[Any]:
        rows = self.query("SELECT seq, frame FROM event ORDER BY seq")
        return [(seq, decode_frame(frame)) for seq, frame in rows]


def note(rkey: str, text: str, intent: Intent = Intent.CREATE, **more: Any) -> Write:
    value = encode({"$type": NOTE, "text": text})
    return Write(intent, f"{NOTE}/{rkey}", value, cid_for(value), **more)


def remove(rkey: str, intent: Intent = Intent.DELETE, **more: Any) -> Write:
    return Write(intent, f"{NOTE}/{rkey}", **more)


def expected_blocks(records: dict[str, bytes], commit: bytes) -> set[bytes]:
    items = sorted((path.encode(), cid) for path, cid in records.items())
    nodes = {node.cid for node in build_nodes(items)}
    return nodes | set(records.values()) | {commit}


def check_stored(repo: Repo, records: dict[str, bytes]) -> None:
    """Check that the stored blocks are exactly those of these records."""
    head = repo.head()
    assert dict(repo.query("SELECT path, cid FROM record")) == records
    stored = dict(repo.query("SELECT cid, value FROM block"))
    assert set(stored) == expected_blocks(records, head.commit)
    assert all(cid_for(value) == cid for cid, value in stored.items())
    signed = verify_commit_signature(stored[head.commit], KEY.public)
    assert (signed.did, signed.rev, signed.data) == (DID, head.rev, head.data)
