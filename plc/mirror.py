"""Taking in what another directory exports: each operation is proven before it is kept.

A directory is believed in the time at which it accepted an operation and in nothing
else. What does not follow from the proven log of its DID leaves the log as it is and
makes the DID doubtful; its whole log is then asked for, and taken if it is proven and
goes on from ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from cachetools import LRUCache

from plc import operation_log
from plc.operation import (
    MAX_LOG_ENTRIES,
    AnyOperation,
    AuditedLog,
    LogEntry,
    Tombstone,
    check_next_operation,
    normalize,
    operation_cid,
    parse_operation,
    parse_time,
    verify_audit_log,
)
from protocol.data.json_form import loads
from protocol.errors import ProtocolError
from protocol.identity.did_document import PDS_SERVICE, parse_origin
from protocol.limits import MAX_PLC_OPERATION_BYTES, MAX_SEQ
from protocol.syntax import Did, is_plc_did
from storage.postgres.pool import Conn

# More than directories ever took. One that is longer than an operation may be is the
# matter of its DID, and stops nobody else.
MAX_LINE_BYTES: Final = 200_000
# Whole pages of the longest operations, every character of them escaped.
MAX_PAGE_BYTES: Final = 1_000 * 8 * MAX_PLC_OPERATION_BYTES
MAX_AHEAD_MS: Final = 300_000
# Logs that are unpacked at once.
_LOGS_AT_ONCE: Final = 200
_KNOWN_HOSTS: Final = 50_000
_OPERATION_LINE: Final = "sequenced_op"
_PDS: Final = PDS_SERVICE.removeprefix("#")


class BadExportError(ProtocolError):
    """An export that cannot be read on: a line without its place, or out of order."""


class RewrittenLogError(ProtocolError):
    """A log that is proven, but does not go on from the one proven before."""


@dataclass(frozen=True, slots=True)
class ExportLine:
    """One line of an export. `seq` is None in an export by time. `operation` is None
    when it is none, and `fault` says why; without a `did` the line is of a kind that
    came later than this code, and only has a place."""

    did: Did | None
    cid: str
    created_ms: int
    seq: int | None
    operation: AnyOperation | None
    fault: str | None = None

    @property
    def own_cid(self) -> str | None:
        """The CID that the operation has, whatever the line says."""
        return None if self.operation is None else operation_cid(self.operation)


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What came of some lines. `repeated` were here already; `tolerated` are the CIDs
    of new operations that were taken without a valid signature."""

    new: int
    repeated: int
    doubts: dict[Did, str]
    hosts: int
    tolerated: tuple[str, ...]


def parse_line(raw: bytes) -> ExportLine:
    """Read one line. Raises BadExportError when it does not say where in the export
    it stands or whose it is; a wrong operation is the matter of its DID alone."""
    try:
        value = loads(raw, max_bytes=MAX_LINE_BYTES)
        seq = value.get("seq")
        if value.get("type", _OPERATION_LINE) != _OPERATION_LINE and _is_place(seq):
            return ExportLine(None, "", 0, seq, None)
        did, cid = value["did"], value["cid"]
        created_ms = parse_time(value["createdAt"])
    except (ProtocolError, KeyError, TypeError, AttributeError) as error:
        raise BadExportError(f"a line of the export: {error}") from error
    if not (isinstance(did, str) and is_plc_did(did) and isinstance(cid, str)):
        raise BadExportError("a line of the export has no DID or no CID")
    if not (seq is None or _is_place(seq)):
        raise BadExportError("a line of the export has no place")
    try:
        operation = parse_operation(value.get("operation"))
    except ProtocolError as error:
        return ExportLine(Did(did), cid, created_ms, seq, None, str(error))
    return ExportLine(Did(did), cid, created_ms, seq, operation)


def _is_place(seq: object) -> bool:
    return type(seq) is int and 0 < seq <= MAX_SEQ


def read_page(body: bytes) -> list[ExportLine]:
    """The lines of a page. Raises BadExportError: also when they are not in order,
    since a cursor means nothing then."""
    lines = [parse_line(raw) for raw in body.split(b"\n") if raw.strip()]
    for before, after in pairwise(lines):
        if before.seq is None or after.seq is None:
            if before.seq is not after.seq:
                raise BadExportError("an export that numbers only some lines")
            if after.created_ms < before.created_ms:
                raise BadExportError("an export by time goes back in time")
        elif after.seq <= before.seq:
            raise BadExportError(f"number {after.seq} follows number {before.seq}")
    return lines


def extend_log(
    log: list[LogEntry],
    line: ExportLine,
    now_ms: int,
    tolerated: Collection[str] = frozenset(),
) -> bool:
    """Append a line's operation to the proven log of its DID; False if it is there.

    Raises ProtocolError, and leaves the log as it is, when it does not follow.
    """
    if line.did is None or line.operation is None:
        raise BadExportError(f"not an operation: {line.fault}")
    for known in log:
        if known.cid == line.cid:
            if operation_cid(line.operation) != line.cid:
                raise RewrittenLogError("an operation under another one's CID")
            if known.created_ms != line.created_ms:
                raise RewrittenLogError("an operation was given another time")
            return False
    if len(log) >= MAX_LOG_ENTRIES:
        raise BadExportError(f"a log of over {MAX_LOG_ENTRIES} operations")
    if line.created_ms > now_ms + MAX_AHEAD_MS:
        raise BadExportError("an operation of the future")
    verdict = check_next_operation(
        line.did, log, line.operation, line.created_ms, tolerated=tolerated
    )
    if verdict.cid != line.cid:
        raise BadExportError("the CID is not the operation's")
    for number, entry in enumerate(log):
        if entry.cid in verdict.nullified:
            log[number] = replace(entry, nullified=True)
    log.append(LogEntry(line.did, line.operation, line.cid, False, line.created_ms))
    return True


class Mirror:
    """The mirror of `directory` in the index database.

    `tolerated` are CIDs taken without a valid signature; `dev` lets hosts be plain
    http. Not thread-safe: one owner.
    """

    def __init__(
        self,
        directory: str,
        *,
        tolerated: Collection[str] = frozenset(),
        dev: bool = False,
    ) -> None:
        self.directory = directory.rstrip("/")
        self._tolerated = tolerated
        self._dev = dev
        self._hosts: LRUCache[str, None] = LRUCache(_KNOWN_HOSTS)

    def take_in(self, conn: Conn, lines: Sequence[ExportLine], now_ms: int) -> TakenIn:
        """Prove lines and keep what is proven; the cursor moves in the same
        transaction. Commits. Lines that another follower took in change nothing.

        Raises BadExportError, and nothing is kept, when too many DIDs are doubtful.
        """
        with conn.transaction():
            state = operation_log.lock_feed(conn, self.directory)
            new = repeated = 0
            tolerated: list[str] = []
            doubts: dict[Did, str] = {}
            by_did: dict[Did, list[ExportLine]] = {}
            for line in lines:
                if line.did is not None:
                    by_did.setdefault(line.did, []).append(line)
            dids = list(by_did)
            found: set[str] = set()
            for start in range(0, len(dids), _LOGS_AT_ONCE):
                some = dids[start : start + _LOGS_AT_ONCE]
                logs = operation_log.load_logs(conn, some)
                changed: dict[Did, list[LogEntry]] = {}
                for did in some:
                    log = logs.get(did, [])
                    for line in by_did[did]:
                        try:
                            added = extend_log(log, line, now_ms, self._tolerated)
                        except ProtocolError as error:
                            doubts[did] = f"{type(error).__name__}: {error}"
                            continue
                        new += added
                        repeated += not added
                        if added:
                            changed[did] = log
                            if line.cid in self._tolerated:
                                tolerated.append(line.cid)
                            self._note_host(line.operation, found)
                operation_log.save_logs(conn, changed)
            if operation_log.note_doubts(conn, doubts) > operation_log.MAX_DOUBTS:
                raise BadExportError("too much that cannot be proven")
            hosts = operation_log.add_hosts(conn, found) if found else 0
            if lines:
                last = lines[-1]
                ahead = (state.seq or 0) > (last.seq or 0)
                # A time says only where an export without numbers is read on.
                operation_log.move_feed(
                    conn,
                    self.directory,
                    seq=state.seq if ahead else last.seq,
                    cid=state.cid if ahead else last.own_cid,
                    time_ms=(
                        max(state.time_ms or 0, last.created_ms)
                        if last.seq is None
                        else None
                    ),
                    operations=new,
                )
        self._remember(found)
        return TakenIn(new, repeated, doubts, hosts, tuple(tolerated))

    def take_log(self, conn: Conn, did: Did, value: object, now_ms: int) -> AuditedLog:
        """Take the whole log of a doubtful DID, as `/log/audit` gives it. Commits.

        An operation that was taken on trust may be missing in it: directories take them
        out. One that was undone may be new in it: without it nothing told us that we
        had not seen it. The doubt ends after some such looks: one may be at a copy that
        is behind. Raises RewrittenLogError when it does not go on from the proven one,
        BadExportError when it is of the future, and what `verify_audit_log` raises;
        what was proven stays then.
        """
        audited = verify_audit_log(did, value, tolerated=self._tolerated)
        entries = list(audited.entries)
        # Times rise, so none before it is of the future; after it nothing could follow.
        if entries[-1].created_ms > now_ms + MAX_AHEAD_MS:
            raise BadExportError("an operation of the future")
        with conn.transaction():
            operation_log.lock_feed(conn, self.directory)
            ours = operation_log.load_logs(conn, [did]).get(did, [])
            if not self._goes_on(ours, entries):
                raise RewrittenLogError("the log is not the one that was published")
            operation_log.save_logs(conn, {did: entries})
            operation_log.end_doubts(conn, [did])
            found: set[str] = set()
            for entry in entries:
                self._note_host(entry.operation, found)
            operation_log.add_hosts(conn, found)
        self._remember(found)
        return audited

    def _goes_on(self, ours: Sequence[LogEntry], theirs: Sequence[LogEntry]) -> bool:
        published = {entry.cid for entry in theirs}
        proven = [
            (entry.cid, entry.created_ms)
            for entry in ours
            if entry.cid in published or entry.cid not in self._tolerated
        ]
        held = dict(proven)
        kept = [
            (entry.cid, entry.created_ms)
            for entry in theirs
            if entry.cid in held or not entry.nullified
        ]
        return kept[: len(proven)] == proven

    def _note_host(self, operation: AnyOperation | None, found: set[str]) -> None:
        if operation is None or isinstance(operation, Tombstone):
            return
        service = normalize(operation).services.get(_PDS)
        if service is None or service.endpoint in self._hosts:
            return
        origin = parse_origin(service.endpoint, dev=self._dev)
        if origin is not None and origin not in self._hosts:
            found.add(origin)

    def _remember(self, urls: Iterable[str]) -> None:
        for url in urls:
            self._hosts[url] = None
