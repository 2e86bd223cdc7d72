"""Ingestion of another directory's export: every operation is proven before it is kept.

A directory is trusted only for the time at which it accepted an operation. An operation
that does not follow from the proven log leaves the log unchanged and marks the DID as
unproven. Its whole log is then fetched, and kept if it is valid and continues ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from cachetools import LRUCache

from plc import operation_log
from plc.operation import (
    MAX_LOG_ENTRIES,
    AuditedLog,
    LogEntry,
    check_next_operation,
    parse_time,
    verify_audit_log,
)
from plc.operation_format import (
    AnyOperation,
    Tombstone,
    normalize,
    operation_cid,
    parse_operation,
)
from protocol.data.json_form import loads
from protocol.errors import ProtocolError
from protocol.identity.did_document import PDS_SERVICE, parse_origin
from protocol.limits import MAX_PLC_OPERATION_BYTES, MAX_SEQ
from protocol.syntax import Did, is_plc_did
from storage.postgres.pool import Conn

# More than directories ever accepted. An oversized operation only affects its DID.
MAX_LINE_BYTES: Final = 200_000
# A page of the longest operations with every character escaped.
MAX_PAGE_BYTES: Final = 1_000 * 8 * MAX_PLC_OPERATION_BYTES
MAX_AHEAD_MS: Final = 300_000
# Logs unpacked at a time.
_LOGS_AT_ONCE: Final = 200
_KNOWN_HOSTS: Final = 50_000
_OPERATION_LINE: Final = "sequenced_op"
_PDS: Final = PDS_SERVICE.removeprefix("#")


class BadExportError(ProtocolError):
    """An export that cannot be read on: a malformed line, or lines out of order."""


class RewrittenLogError(ProtocolError):
    """A valid log that does not continue the proven one."""


@dataclass(frozen=True, slots=True)
class ExportLine:
    """A line of an export; `seq` is None in an export by time.

    `operation` is None if it is invalid, with the reason in `fault`. A line without a
    `did` is of an unknown type and only has a sequence number.
    """

    did: Did | None
    cid: str
    created_ms: int
    seq: int | None
    operation: AnyOperation | None
    fault: str | None = None

    @property
    def own_cid(self) -> str | None:
        """Return the CID of the operation itself."""
        return None if self.operation is None else operation_cid(self.operation)


@dataclass(slots=True)
class IngestResult:
    """The result of ingesting lines.

    `repeated` counts known operations; `tolerated` are the CIDs of new operations
    without a valid signature; `hosts` are origins of PDSes that may be new.
    """

    new: int = 0
    repeated: int = 0
    unproven: dict[Did, str] = field(default_factory=dict)
    tolerated: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)


def parse_line(raw: bytes) -> ExportLine:
    """Parse one line of an export.

    Raises BadExportError without a position or a DID. An invalid operation is no error,
    since it affects only its DID.
    """
    try:
        value = loads(raw, max_bytes=MAX_LINE_BYTES)
        seq = value.get("seq")
        if value.get("type", _OPERATION_LINE) != _OPERATION_LINE and _is_seq(seq):
            return ExportLine(None, "", 0, seq, None)
        did, cid = value["did"], value["cid"]
        created_ms = parse_time(value["createdAt"])
    except (ProtocolError, KeyError, TypeError, AttributeError) as error:
        raise BadExportError(f"export line: {error}") from error
    if not (isinstance(did, str) and is_plc_did(did) and isinstance(cid, str)):
        raise BadExportError("export line has no DID or no CID")
    if not (seq is None or _is_seq(seq)):
        raise BadExportError("export line has an invalid seq")
    try:
        operation = parse_operation(value.get("operation"))
    except ProtocolError as error:
        return ExportLine(Did(did), cid, created_ms, seq, None, str(error))
    return ExportLine(Did(did), cid, created_ms, seq, operation)


def _is_seq(seq: object) -> bool:
    return type(seq) is int and 0 < seq <= MAX_SEQ


def read_page(body: bytes) -> list[ExportLine]:
    """Parse the lines of a page; raise BadExportError if one is out of order."""
    lines = [parse_line(raw) for raw in body.split(b"\n") if raw.strip()]
    for before, after in pairwise(lines):
        if before.seq is None or after.seq is None:
            if before.seq is not after.seq:
                raise BadExportError("only some export lines have a seq")
            if after.created_ms < before.created_ms:
                raise BadExportError("export lines are not in order of time")
        elif after.seq <= before.seq:
            raise BadExportError(f"seq {after.seq} follows seq {before.seq}")
    return lines


def extend_log(
    log: list[LogEntry],
    line: ExportLine,
    now_ms: int,
    tolerated: Collection[str] = frozenset(),
) -> bool:
    """Append a line's operation to the proven log of its DID; return False if known.

    Raises ProtocolError, and leaves the log unchanged, if it does not follow.
    """
    if line.did is None or line.operation is None:
        raise BadExportError(f"invalid operation: {line.fault}")
    for known in log:
        if known.cid == line.cid:
            if operation_cid(line.operation) != line.cid:
                raise RewrittenLogError("operation has the CID of another one")
            if known.created_ms != line.created_ms:
                raise RewrittenLogError("operation has another time than before")
            return False
    if len(log) >= MAX_LOG_ENTRIES:
        raise BadExportError(f"log has more than {MAX_LOG_ENTRIES} operations")
    if line.created_ms > now_ms + MAX_AHEAD_MS:
        raise BadExportError("operation is in the future")
    verdict = check_next_operation(
        line.did, log, line.operation, line.created_ms, tolerated=tolerated
    )
    if verdict.cid != line.cid:
        raise BadExportError("operation has the wrong CID")
    for number, entry in enumerate(log):
        if entry.cid in verdict.nullified:
            log[number] = replace(entry, nullified=True)
    log.append(LogEntry(line.did, line.operation, line.cid, False, line.created_ms))
    return True


class Mirror:
    """The mirror of `directory` in the index database; not thread-safe.

    `tolerated` are CIDs accepted without a valid signature; `dev` allows http hosts.
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

    def ingest(
        self, conn: Conn, lines: Sequence[ExportLine], now_ms: int
    ) -> IngestResult:
        """Ingest lines and move the cursor in one transaction, then commit.

        Lines ingested before change nothing. Raises BadExportError, and keeps nothing,
        if there are too many unproven DIDs.
        """
        with conn.transaction():
            state = operation_log.lock_feed(conn, self.directory)
            result = self._extend_logs(conn, lines, now_ms)
            unproven = operation_log.mark_unproven(conn, result.unproven)
            if unproven > operation_log.MAX_UNPROVEN:
                raise BadExportError("too many DIDs cannot be proven")
            operation_log.add_hosts(conn, result.hosts)
            if lines:
                last = lines[-1]
                ahead = (state.seq or 0) > (last.seq or 0)
                # The time is the position of an export without numbers only.
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
                    operations=result.new,
                )
        self._remember(result.hosts)
        return result

    def _extend_logs(
        self, conn: Conn, lines: Sequence[ExportLine], now_ms: int
    ) -> IngestResult:
        result = IngestResult()
        by_did: dict[Did, list[ExportLine]] = {}
        for line in lines:
            if line.did is not None:
                by_did.setdefault(line.did, []).append(line)
        dids = list(by_did)
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
                        result.unproven[did] = f"{type(error).__name__}: {error}"
                        continue
                    if not added:
                        result.repeated += 1
                        continue
                    changed[did] = log
                    result.new += 1
                    if line.cid in self._tolerated:
                        result.tolerated.append(line.cid)
                    self._note_host(line.operation, result.hosts)
            operation_log.save_logs(conn, changed)
        return result

    def replace_log(
        self, conn: Conn, did: Did, value: object, now_ms: int
    ) -> AuditedLog:
        """Replace the log of an unproven DID by that from `/log/audit`, then commit.

        Tolerated operations may be missing in it, since directories remove them;
        unknown nullified ones may be new. The DID stays unproven for several tries,
        since the directory's copy may lag.

        Raises RewrittenLogError if the log does not continue ours, BadExportError for
        times in the future, or as `verify_audit_log`; ours stays then.
        """
        audited = verify_audit_log(did, value, tolerated=self._tolerated)
        entries = list(audited.entries)
        if entries[-1].created_ms > now_ms + MAX_AHEAD_MS:
            raise BadExportError("operation is in the future")
        with conn.transaction():
            operation_log.lock_feed(conn, self.directory)
            ours = operation_log.load_logs(conn, [did]).get(did, [])
            if not self._continues(ours, entries):
                raise RewrittenLogError("log does not continue the proven one")
            operation_log.save_logs(conn, {did: entries})
            operation_log.clear_unproven(conn, [did])
            found: set[str] = set()
            for entry in entries:
                self._note_host(entry.operation, found)
            operation_log.add_hosts(conn, found)
        self._remember(found)
        return audited

    def _continues(self, ours: Sequence[LogEntry], theirs: Sequence[LogEntry]) -> bool:
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
