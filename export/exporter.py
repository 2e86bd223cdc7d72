"""An export that is kept up to date: begun, continued, or started over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from export.compaction import compact
from export.increment import Count, Increment, Limits, write_increment
from export.manifest import PARQUET, ExportFolder, FolderError
from storage import change_log
from storage.change_log import Reader
from storage.postgres.pool import Conn
from storage.private.takedowns import NOTHING, TakenDown

PROMISE_HOURS: Final = 24.0
_SHARE: Final = 0.5
"""Compaction begins after this share of the promised hours."""


@dataclass(slots=True)
class Exporter:
    """Writes one folder. `conn` and `reading` are two connections to the index."""

    folder: ExportFolder
    conn: Conn
    reading: Conn
    promise_hours: float = PROMISE_HOURS
    format: str = PARQUET
    limits: Limits = field(default_factory=Limits)
    started_over: bool = False

    def run(
        self,
        *,
        load_taken: Callable[[], TakenDown] = lambda: NOTHING,
        count: Count = lambda rows: None,
        after: Callable[[Increment], Any] = lambda increment: None,
    ) -> int:
        """Write increments until the folder holds everything; return their rows.

        Old rows are removed from the files when that is due. `after` gets each
        increment.
        """
        reader = self._begin()
        rows = 0
        complete = False
        while not complete:
            before = rows
            increment = write_increment(
                self.folder,
                self.conn,
                self.reading,
                reader,
                taken=load_taken(),
                limits=self.limits,
                count=lambda more: count(before + more),  # noqa: B023
            )
            rows += increment.rows
            complete = increment.complete
            after(increment)
        if self.is_compaction_due(time.time()):
            compact(self.folder)
        return rows

    def is_compaction_due(self, now: float) -> bool:
        """Return True if rows must be removed now to keep the promise."""
        pending = self.folder.manifest.pending_since
        hours = self.folder.manifest.promise_hours * _SHARE
        return pending is not None and now - pending >= hours * 3600

    def _begin(self) -> Reader:
        manifest = self.folder.manifest
        if manifest.token:
            reader = change_log.find_reader(self.conn, manifest.token)
            newest = change_log.last_number(self.conn)
            self.conn.commit()
            # An older copy of the folder lacks changes that the log no longer has; an
            # older copy of the index gives numbers twice.
            current = not manifest.increments or (
                reader is not None and reader.seq <= manifest.last <= newest
            )
            if reader is not None and current:
                return reader
            self.started_over = True
            if reader is not None:
                change_log.forget_reader(self.conn, reader.id)
            self.format = manifest.format
            self.promise_hours = manifest.promise_hours
        token = self.folder.begin(promise_hours=self.promise_hours, format=self.format)
        return change_log.add_reader(self.conn, token)


__all__ = ["PROMISE_HOURS", "Exporter", "FolderError"]
