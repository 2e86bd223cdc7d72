"""One increment of an export: what changed since the last, from one snapshot.

An increment reads the addresses that changed, then their current rows. Accounts that
may be shown and are not in the folder are written whole: new ones, those that return,
and at first all of them, some at a time. Files, notes about accounts and the line of
the manifest are written in this order; the line is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import psycopg

from export.json_lines import JSON_LINES, EventFiles
from export.layout import ACTORS, LABELS, STATS, TOMBSTONES, Kind
from export.manifest import ExportFolder, part_lines
from export.part_files import PartFiles
from export.reading import Addresses, Snapshot, account_tombstones
from export.record_tables import StoredRecords, make_tables
from export.shown_accounts import (
    Account,
    load_accounts,
    next_actors,
    note_accounts,
    settle_accounts,
)
from storage import change_log
from storage.change_log import Reader
from storage.collections import ACTOR_PROFILE, COLLECTION_IDS
from storage.postgres.pool import Conn
from storage.private.takedowns import NOTHING, TakenDown
from storage.records.addresses import Address, name_addresses_in
from storage.records.record_codec import load_dictionaries

_PROFILE: Final = COLLECTION_IDS[ACTOR_PROFILE]
_ACCOUNTS: Final = 1_000
_ADDRESSES: Final = 20_000
_MOST_ENTRIES: Final = 2_000_000
_RECORD: Final = change_log.CREATED | change_log.CHANGED
_ACTOR: Final = change_log.ACCOUNT | change_log.NAME

Count = Callable[[int], None]
"""Called with the number of rows written so far."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one increment.

    changes: entries of the log. records: those of accounts that are written whole;
    further accounts wait for the next increment.
    """

    changes: int = _MOST_ENTRIES
    records: int = 5_000_000


@dataclass(frozen=True, slots=True)
class Increment:
    """Result of an increment; `complete` if nothing is left that it could have read."""

    seq: int
    rows: int
    complete: bool


@dataclass(slots=True)
class _Work:
    snapshot: Snapshot
    files: PartFiles | EventFiles
    export: int
    seq: int
    taken: TakenDown
    count: Count
    revs: dict[str, str]
    rows: int = 0
    records: int = 0
    tombstones: int = 0
    written: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)

    def add(
        self, table: Any, rows: Any, partition: str = "", *, replaced: bool = False
    ) -> None:
        self.files.add(table, rows, partition, replaced=replaced)
        self.rows += len(rows)
        if table is TOMBSTONES:
            self.tombstones += len(rows)
        self.count(self.rows)

    def add_records(self, records: StoredRecords, *, replaced: bool = False) -> None:
        for table, partition, rows in make_tables(records, self.seq):
            self.add(table, rows, partition, replaced=replaced)
        self.add(STATS, self.snapshot.record_counts(records, self.seq))
        self.records += len(records.keys)

    def load_accounts(self, actors: Collection[int]) -> dict[int, Account]:
        """Return accounts, and note their revs."""
        conn = self.snapshot.conn
        accounts = load_accounts(conn, self.export, actors, self.taken)
        self.revs.update((a.did, a.rev or "") for a in accounts.values())
        return accounts

    def add_actors(self, accounts: Sequence[Account]) -> None:
        self.add(ACTORS, self.snapshot.actors(accounts, self.seq))

    def write_whole(self, accounts: Sequence[Account]) -> None:
        """Write all rows of accounts that the folder does not hold."""
        if not accounts:
            return
        self.add_actors(accounts)
        self.add(STATS, self.snapshot.account_counts(accounts, self.seq))
        by_actor = {account.actor: account for account in accounts}
        self.add(LABELS, self.snapshot.labels([*by_actor], by_actor, self.seq))
        for records in self.snapshot.whole(accounts):
            self.add_records(self.without_taken(records))
        self.written += by_actor

    def without_taken(self, records: StoredRecords) -> StoredRecords:
        """Return the records that are not taken down one by one."""
        suspects = (
            [
                place
                for place, actor in enumerate(records.actors.tolist())
                if records.dids[actor] in self.taken.authors
            ]
            if self.taken.authors
            else []
        )
        if not suspects:
            return records
        addresses = {
            place: Address(
                int(records.actors[place]),
                int(records.collections[place]),
                int(records.keys[place]),
            )
            for place in suspects
        }
        uris = name_addresses_in(self.snapshot.conn, addresses.values())
        out = [
            place
            for place, address in addresses.items()
            if uris.get(address) in self.taken.records
        ]
        return records.part(np.delete(np.arange(len(records.keys)), out))


def write_increment(
    folder: ExportFolder,
    conn: Conn,
    reading: Conn,
    reader: Reader,
    *,
    taken: TakenDown = NOTHING,
    limits: Limits = Limits(),
    count: Count = lambda rows: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Increment:
    """Write what changed since the manifest's last increment.

    `conn` and `reading` are two connections to the index. `taken`: records and
    accounts that are taken down. Raises psycopg.Error or OSError; then the folder is
    as before.
    """
    last = folder.manifest.last
    settle_accounts(conn, reader.id, last)
    load_dictionaries(conn)
    conn.commit()
    reading.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    reading.read_only = True
    with reading.transaction():
        change_log.hold_numbering(conn)
        try:
            blocks = change_log.unnumbered_blocks(reading)
            numbers, moment = change_log.number_blocks(conn, blocks)
        finally:
            change_log.release_numbering(conn)
        start = max(last, reader.seq)
        entries, end = change_log.read_blocks(reading, start, numbers, limits.changes)
        if start < folder.manifest.covered:
            # An earlier snapshot was ahead of the log that it read.
            entries = change_log.mark_replaced(entries)
        seq = moment if end is None else end
        at = now()
        revs: dict[str, str] = {}
        with _open_files(folder, seq, at, revs) as files:
            work = _Work(Snapshot(reading), files, reader.id, seq, taken, count, revs)
            base = folder.manifest.base
            _write_changes(work, change_log.merge_entries(entries), base)
            if end is None:
                base = _write_base(work, base, limits.records)
            parts = files.commit()
    note_accounts(conn, reader.id, seq, work.written, work.gone)
    folder.append(
        {
            "kind": "increment",
            "from": last + 1,
            "to": seq,
            "time": at.timestamp(),
            "snapshot": moment,
            "base": base,
            "tombstones": work.tombstones,
            "files": part_lines(parts),
        }
    )
    change_log.move_reader(conn, reader.id, seq)
    return Increment(seq, work.rows, base is None and end is None)


def _open_files(
    folder: ExportFolder, seq: int, at: datetime, revs: dict[str, str]
) -> PartFiles | EventFiles:
    first = folder.manifest.last + 1
    if folder.manifest.format == JSON_LINES:
        return EventFiles(folder, first, seq, at, revs)
    return PartFiles(folder, first, seq, at)


def _write_changes(work: _Work, entries: change_log.Entries, base: int | None) -> None:
    """Write the current rows of changed addresses, and their tombstones."""
    starts = (
        np.flatnonzero(np.append(True, entries["actor"][1:] != entries["actor"][:-1]))
        if len(entries)
        else np.empty(0, np.int64)
    )
    ends = np.append(starts[1:], len(entries))
    for first in range(0, len(starts), _ACCOUNTS):
        some = slice(first, first + _ACCOUNTS)
        part = entries[starts[some][0] : ends[some][-1]]
        actors = entries["actor"][starts[some]].tolist()
        accounts = work.load_accounts(actors)
        _remove_hidden(work, accounts.values())
        shown = {a.actor: a for a in accounts.values() if a.hidden is None}
        # Others come with the base.
        new = [a for a in shown.values() if not a.written]
        work.write_whole([a for a in new if base is None or a.actor <= base])
        held = {a.actor: a for a in shown.values() if a.written}
        mine = part[np.isin(part["actor"], [*held])]
        _write_held(work, mine, held)


def _remove_hidden(work: _Work, accounts: Iterable[Account]) -> None:
    for kind in Kind:
        gone = [a for a in accounts if a.hidden is kind and a.written]
        if gone:
            rows = account_tombstones([a.did for a in gone], work.seq)
            work.add(TOMBSTONES, rows, kind)
            work.gone += [a.actor for a in gone]


def _write_held(
    work: _Work, entries: change_log.Entries, accounts: dict[int, Account]
) -> None:
    """Write changes of accounts that the folder holds."""
    ops = entries["op"]
    renamed = (ops & _ACTOR != 0) | (entries["collection"] == _PROFILE)
    _write_actors(work, entries["actor"][renamed].tolist(), accounts)
    about_account = entries["collection"] == 0
    counted = (ops & change_log.COUNTS != 0) & about_account
    some = {actor: accounts[actor] for actor in entries["actor"][counted].tolist()}
    if some:
        work.add(STATS, work.snapshot.account_counts([*some.values()], work.seq))
    for addresses in _addresses(entries[ops & change_log.LABELS != 0]):
        work.add(LABELS, work.snapshot.labels(addresses, accounts, work.seq))
    for addresses in _addresses(entries[ops & _RECORD == change_log.CREATED]):
        _write_records(work, addresses, accounts, replaced=False)
    for addresses in _addresses(entries[ops & change_log.CHANGED != 0]):
        _write_records(work, addresses, accounts, replaced=True)
    only_counted = (ops & _RECORD == 0) & (ops & change_log.COUNTS != 0)
    for addresses in _addresses(entries[only_counted & ~about_account]):
        for records in work.snapshot.fetch(addresses, accounts):
            shown = work.without_taken(records)
            work.add(STATS, work.snapshot.record_counts(shown, work.seq))


def _write_actors(
    work: _Work, actors: Iterable[int], accounts: dict[int, Account]
) -> None:
    some = {actor: accounts[actor] for actor in actors}
    if some:
        work.add_actors([*some.values()])


def _write_records(
    work: _Work, addresses: Addresses, accounts: dict[int, Account], *, replaced: bool
) -> None:
    """Write those of these records that exist.

    With `replaced` the folder may hold older ones, which get tombstones.
    """
    shown: set[tuple[int, int, int]] = set()
    hidden: set[tuple[int, int, int]] = set()
    for records in work.snapshot.fetch(addresses, accounts):
        kept = work.without_taken(records)
        work.add_records(kept, replaced=replaced)
        if replaced:
            shown.update(kept.tuples())
            hidden.update(records.tuples())
    if not replaced:
        return
    hidden -= shown
    kinds = {Kind.UPDATE: shown, Kind.TAKEDOWN: hidden}
    kinds[Kind.DELETE] = set(addresses) - shown - hidden
    for kind, some in kinds.items():
        if some:
            rows = work.snapshot.tombstones(sorted(some), accounts, work.seq)
            work.add(TOMBSTONES, rows, kind)


def _addresses(entries: change_log.Entries) -> Iterator[Addresses]:
    for start in range(0, len(entries), _ADDRESSES):
        piece = entries[start : start + _ADDRESSES]
        yield list(
            zip(
                piece["actor"].tolist(),
                piece["collection"].tolist(),
                piece["rkey"].tolist(),
                strict=True,
            )
        )


def _write_base(work: _Work, base: int | None, most: int) -> int | None:
    """Write the next accounts that were there before the export; return the last.

    Returns None when there are no more.
    """
    before = work.records
    while base is not None and work.records - before < most:
        actors = next_actors(work.snapshot.conn, base, _ACCOUNTS)
        if not actors:
            return None
        accounts = work.load_accounts(actors)
        work.write_whole(
            [a for a in accounts.values() if a.hidden is None and not a.written]
        )
        base = actors[-1]
    return base
