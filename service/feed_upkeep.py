"""The threads of feeds.

One keeps the likes of For You in memory and writes statistics, one loads Python files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg

from appview.app import AppView
from feeds.scripts.script_book import ScriptBook
from storage.postgres.polling_thread import PollingThread
from storage.private.feeds.feed_hours import add_hours, drop_old_hours

_POLL_S: Final = 5.0
_FILES_S: Final = 1.0
_CLEAN_EVERY: Final = timedelta(hours=1)


class FeedUpkeep:
    """Reads new likes, then writes what was counted since the last time."""

    def __init__(self, app: AppView) -> None:
        self._app = app
        self._clean_at = datetime.min.replace(tzinfo=UTC)

    def work(self) -> bool:
        """Do what is due; return False. Raises psycopg.Error."""
        try:
            self._app.co_likes.refresh(self._app.pool)
        finally:
            self.write_statistics()
        return False

    def write_statistics(self) -> None:
        """Write counts. They are kept in memory if the database refuses them."""
        now = datetime.now(UTC)
        hours = self._app.feed_counters.take()
        if not hours and now < self._clean_at:
            return
        try:
            with self._app.private.write() as conn:
                add_hours(conn, hours)
                if now >= self._clean_at:
                    drop_old_hours(conn, now)
        except psycopg.Error:
            self._app.feed_counters.put_back(hours)
            raise
        self._clean_at = max(self._clean_at, now + _CLEAN_EVERY)


@contextmanager
def feed_upkeep(app: AppView) -> Iterator[FeedUpkeep]:
    """Run the threads. At the end the last counts are written."""
    upkeep = FeedUpkeep(app)
    with (
        _loaded_files(app.feeds.scripts),
        PollingThread("feed_upkeep", upkeep.work, poll_s=_POLL_S),
    ):
        try:
            yield upkeep
        finally:
            # A process must not end a minute later for a load that nobody needs.
            app.co_likes.stop()
    with suppress(psycopg.Error):
        upkeep.write_statistics()


@contextmanager
def _loaded_files(scripts: ScriptBook | None) -> Iterator[None]:
    """Load the Python files of the folder while they change."""
    if scripts is None:
        yield
        return

    def work() -> bool:
        scripts.refresh()
        return False

    try:
        with PollingThread("feed_files", work, poll_s=_FILES_S):
            try:
                yield
            finally:
                scripts.stop()
    finally:
        scripts.close()
