"""A crawling process to be killed. Imports once, then forks a crawler a command.

    python crawl_child.py DATABASE_URL KEYS_FILE

Reads lines: `start` or `start cursor_first` forks a crawler and prints its pid. The
second kind saves its cursors before the rows they cover, as no crawler may.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crawl_fakes import FakeResolver, fake_outside

from crawler.firehose import Firehose
from crawler.settings import CrawlSettings
from network.stream_client import StreamTimes
from protocol.events import Event
from service.index_sink import IndexSink
from storage.cursors import save_cursors
from storage.interning import Interner
from storage.pool import open_pool

SETTINGS = CrawlSettings(
    dev=True,
    account_cap=None,
    host_rescan=0.05,
    batch_events=40,
    batch_wait=0.01,
    flush_interval=0.2,
    backfill_lease=1.0,
    backfill_idle=0.05,
)


class CursorFirstSink(IndexSink):
    """The planted fault: the cursor runs ahead of the data."""

    def apply(self, events: Sequence[Event], cursors: Mapping[int, int]) -> Any:
        with self._pool.connection() as conn:
            save_cursors(conn, cursors)
        time.sleep(0.005)
        return super().apply(events, {})


def crawl(url: str, keys: Path, planted: bool) -> None:
    """Crawl until SIGTERM."""
    resolver = FakeResolver()
    for did, (pds, key) in json.loads(keys.read_text()).items():
        resolver.put(did, pds, key)
    with open_pool(url, max=8) as pool, open_pool(url, max=2) as names:
        kind = CursorFirstSink if planted else IndexSink
        sink = kind(pool, Interner(names), lambda: None)
        firehose = Firehose(
            SETTINGS,
            url,
            pool,
            sink,
            fake_outside(resolver),
            times=StreamTimes(first=0.02, longest=0.1),
        )

        async def run() -> None:
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            await firehose.run(stop)

        asyncio.run(run())


def main() -> None:
    url, keys = sys.argv[1], Path(sys.argv[2])
    # Ended children are not waited for: they are killed, not asked.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                crawl(url, keys, "cursor_first" in line)
            finally:
                os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
