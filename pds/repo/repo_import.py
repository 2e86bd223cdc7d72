"""Import of a whole repo from another server, in one transaction and bounded memory.

The imported tree replaces the one that is here. Its root stays the same; a new commit
signs it with the account's key of this server (specs/repository: a new commit at a key
rotation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pds.exceptions import InvalidRequestError
from pds.repo.block_rows import insert_blocks
from pds.repo.repo_heads import RepoHead, lock_head, move_head
from pds.server.accounts import Account, get_account, require_present
from pds.sync.frames import car, sync_message
from pds.sync.sequencer import append
from protocol.data.blob import blob_cid
from protocol.data.cbor import Value, decode
from protocol.data.cid import BLOB_PREFIX, cid_for, cid_to_text
from protocol.errors import InvalidSignatureError, ProtocolError
from protocol.identity.keys import PrivateKey, parse_did_key
from protocol.mst import build_nodes
from protocol.repo.commit import sign_commit, verify_commit_signature
from protocol.repo.whole_repo import MAX_HELD_BYTES, RepoReader, RepoRecord
from protocol.repo.whole_repo import RepoHead as ReadHead
from protocol.syntax import Did, Tid, TidClock, is_nsid, is_record_key
from storage.postgres.copy import copy_rows
from storage.postgres.crashpoint import Crashpoint, crashpoint
from storage.postgres.pool import Conn

Spill = AbstractContextManager[MutableMapping[bytes, bytes]]

_BATCH_RECORDS: Final = 2_000
_BATCH_BYTES: Final = 1024 * 1024
_FETCH_ROWS: Final = 2_000

_STAGING: Final = (
    'CREATE TEMP TABLE imported (path text COLLATE "C" NOT NULL, cid bytea NOT NULL)'
    " ON COMMIT DROP",
    'CREATE TEMP TABLE imported_blob (path text COLLATE "C" NOT NULL,'
    " cid bytea NOT NULL) ON COMMIT DROP",
    "CREATE TEMP TABLE imported_node (cid bytea NOT NULL) ON COMMIT DROP",
)

# Set-based, so that a second import of a repo writes only what differs.
_REPLACE: Final = (
    "ANALYZE imported",
    "ANALYZE imported_blob",
    "ANALYZE imported_node",
    "DELETE FROM record r WHERE account = %(account)s AND NOT EXISTS"
    " (SELECT FROM imported i WHERE i.path = r.path)",
    "INSERT INTO record (account, path, cid) SELECT %(account)s, path, cid"
    " FROM imported ON CONFLICT (account, path) DO UPDATE SET cid = excluded.cid"
    " WHERE record.cid <> excluded.cid",
    "DELETE FROM block b WHERE account = %(account)s AND NOT EXISTS"
    " (SELECT FROM imported i WHERE i.cid = b.cid) AND NOT EXISTS"
    " (SELECT FROM imported_node n WHERE n.cid = b.cid)",
    # A blob that no record names any more has its grace time.
    "WITH gone AS (DELETE FROM blob_use u WHERE account = %(account)s AND NOT EXISTS"
    " (SELECT FROM imported_blob i WHERE i.path = u.path AND i.cid = u.cid)"
    " RETURNING cid) UPDATE blob SET touched_at = %(now)s"
    " WHERE account = %(account)s AND cid IN (SELECT cid FROM gone)",
    "INSERT INTO blob_use (account, cid, path, rev)"
    " SELECT %(account)s, cid, path, %(rev)s FROM imported_blob ON CONFLICT DO NOTHING",
)


@dataclass(frozen=True, slots=True)
class ImportSource:
    """A repo to import: its pieces, and the did:keys that may have signed it."""

    pieces: Iterable[bytes]
    signing_keys: frozenset[str]


class RepoImporter:
    """The importer of one server.

    Blocks that precede their parents wait in a mapping of `open_spill`, which may be on
    disk. The default is memory, up to 64 MiB.
    """

    def __init__(
        self,
        clock: TidClock,
        signing_key: Callable[[Conn, Account], PrivateKey],
        open_spill: Callable[[], Spill] | None = None,
    ) -> None:
        self._clock = clock
        self._signing_key = signing_key
        self._max_spill = MAX_HELD_BYTES if open_spill is None else None
        self._open_spill = open_spill or _memory

    def run(
        self,
        conn: Conn,
        account_id: int,
        source: ImportSource,
        now: datetime,
    ) -> RepoHead:
        """Replace the repo of an account; the transaction is the caller's.

        Verifies all hashes, the tree, the DID and the signature, and that records and
        paths can be stored. Raises InvalidRequestError, or AccountTakedownError.
        """
        head = lock_head(conn, account_id)
        # Read under the lock: an activation waits, and has an event of its own.
        account = get_account(conn, account_id)
        require_present(account)
        key = self._signing_key(conn, account)
        for statement in _STAGING:
            conn.execute(statement)
        crashpoint(Crashpoint.PDS_IMPORT_LOCKED)
        staging = _Staging(conn, account.id, self._clock.next(after=head.rev))
        with self._open_spill() as waiting:
            reader = RepoReader(
                None,
                Did(account.did),
                int(now.timestamp() * 1_000_000),
                waiting,
                max_spill_bytes=self._max_spill,
            )
            try:
                for piece in source.pieces:
                    staging.add(reader.feed(piece))
                    _refuse_drops(reader)
                read = reader.finish()
                _require_signature(read, source.signing_keys)
            except ProtocolError as error:
                raise InvalidRequestError(f"Invalid repo: {error}") from error
        staging.flush()
        crashpoint(Crashpoint.PDS_IMPORT_STAGED)
        if read.data == head.data:
            return head
        rev = self._clock.next(after=max(staging.rev, read.rev))
        return staging.replace(account, read.data, rev, key, now)


def _memory() -> Spill:
    return nullcontext({})


class _Staging:
    """The records of an import, in temporary tables; their blocks are in place."""

    def __init__(self, conn: Conn, account: int, rev: Tid) -> None:
        self.rev = rev
        self._conn = conn
        self._account = account
        self._records: list[RepoRecord] = []
        self._bytes = 0

    def add(self, records: list[RepoRecord]) -> None:
        self._records += records
        self._bytes += sum(len(record.value) for record in records)
        if len(self._records) >= _BATCH_RECORDS or self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        paths = [_path(record) for record in self._records]
        rows = [(p, r.cid) for p, r in zip(paths, self._records, strict=True)]
        blobs = [
            (path, cid)
            for path, record in zip(paths, self._records, strict=True)
            for cid in _blob_cids(path, record.value)
        ]
        blocks = {record.cid: record.value for record in self._records}
        insert_blocks(self._conn, self._account, self.rev, blocks)
        copy_rows(self._conn, "imported", ["path", "cid"], ["text", "bytea"], rows)
        copy_rows(
            self._conn, "imported_blob", ["path", "cid"], ["text", "bytea"], blobs
        )
        self._records, self._bytes = [], 0

    def replace(
        self, account: Account, data: bytes, rev: Tid, key: PrivateKey, now: datetime
    ) -> RepoHead:
        """Make the staged records the repo; return its new head."""
        conn = self._conn
        if self._build_tree() != data:
            raise InvalidRequestError("Invalid repo: the tree is not canonical")
        crashpoint(Crashpoint.PDS_IMPORT_BUILT)
        for statement in _REPLACE:
            conn.execute(
                statement, {"account": self._account, "now": now, "rev": self.rev}
            )
        crashpoint(Crashpoint.PDS_IMPORT_REPLACED)
        signed = sign_commit(Did(account.did), data, rev, key)
        head = RepoHead(rev, data, cid_for(signed))
        insert_blocks(conn, self._account, rev, {head.commit: signed})
        move_head(conn, self._account, head)
        if account.active:
            # Consumers cannot follow such a jump, so they fetch the repo anew.
            blocks = car(head.commit, [(head.commit, signed)])
            append(conn, self._account, [sync_message(account.did, rev, blocks)], now)
        crashpoint(Crashpoint.PDS_IMPORT_APPENDED)
        return head

    def _build_tree(self) -> bytes:
        """Insert the nodes of the staged records' tree; return its root."""
        root = b""
        batch: dict[bytes, bytes] = {}
        for node in build_nodes(self._sorted_records()):
            root = node.cid
            batch[node.cid] = node.raw
            if len(batch) >= _BATCH_RECORDS:
                self._insert_nodes(batch)
                batch = {}
        self._insert_nodes(batch)
        return root

    def _sorted_records(self) -> Iterator[tuple[bytes, bytes]]:
        with self._conn.cursor(name="imported_records") as cursor:
            cursor.itersize = _FETCH_ROWS
            cursor.execute("SELECT path, cid FROM imported ORDER BY path")
            for path, cid in cursor:
                yield path.encode("ascii"), cid

    def _insert_nodes(self, nodes: dict[bytes, bytes]) -> None:
        insert_blocks(self._conn, self._account, self.rev, nodes)
        rows = [(cid,) for cid in nodes]
        copy_rows(self._conn, "imported_node", ["cid"], ["bytea"], rows)


def _refuse_drops(reader: RepoReader) -> None:
    for drop in reader.take_drops():
        raise InvalidRequestError(f"Could not parse record at '{drop.path[:300]}'")


def _require_signature(read: ReadHead, keys: frozenset[str]) -> None:
    for text in keys:
        try:
            verify_commit_signature(read.commit, parse_did_key(text))
        except ProtocolError:
            continue
        return
    raise InvalidSignatureError("the commit is signed by no key of the account's DID")


def _path(record: RepoRecord) -> str:
    path = f"{record.collection}/{record.rkey}"
    if not is_nsid(record.collection) or not is_record_key(record.rkey):
        shown = path[:300].encode("utf-8", "replace").decode()
        raise InvalidRequestError(f"Invalid record path: '{shown}'")
    return path


def _blob_cids(path: str, raw: bytes) -> set[bytes]:
    """Return the CIDs of all blobs that a record names, in both forms."""
    try:
        value = decode(raw)
    except ProtocolError as error:
        raise InvalidRequestError(f"Could not parse record at '{path}'") from error
    if not isinstance(value, dict):
        raise InvalidRequestError(f"Could not parse record at '{path}'")
    return {cid for cid in _walk_blobs(value) if cid.startswith(BLOB_PREFIX)}


def _walk_blobs(value: Value) -> Iterator[bytes]:
    stack: list[Value] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            is_blob = item.get("$type") == "blob" or item.keys() == {"cid", "mimeType"}
            cid = blob_cid(item) if is_blob else None
            if cid is None:
                stack.extend(item.values())
            else:
                yield cid


@dataclass(frozen=True, slots=True)
class MissingBlob:
    """A blob that a record names, and that is not here."""

    cid: bytes
    path: str

    def to_json(self, did: str) -> dict[str, str]:
        return {"cid": cid_to_text(self.cid), "recordUri": f"at://{did}/{self.path}"}


def list_missing_blobs(
    conn: Conn, account: int, after: bytes, limit: int
) -> list[MissingBlob]:
    """Return missing blobs above a CID, each with the first record that names it."""
    rows = conn.execute(
        "SELECT cid, min(path) FROM blob_use u WHERE account = %s AND cid > %s"
        " AND NOT EXISTS (SELECT FROM blob b"
        " WHERE b.account = u.account AND b.cid = u.cid)"
        " GROUP BY cid ORDER BY cid LIMIT %s",
        [account, after, limit],
    ).fetchall()
    return [MissingBlob(cid, path) for cid, path in rows]
