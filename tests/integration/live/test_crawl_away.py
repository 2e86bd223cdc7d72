"""Hosts that are offline: retries, and the return."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from crawl_world import CrawlWorld, wait_until

from storage.hosts import host_rows


@pytest.fixture
def world(index_db: str) -> Iterator[CrawlWorld]:
    opened = CrawlWorld(index_db)
    yield opened
    opened.close()


def put_dead_host(world: CrawlWorld) -> int:
    """Return a host at whose port nobody listens; its connections are refused at
    once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name = f"localhost:{port}"
    with world.pool.connection() as conn:
        host, _ = host_rows.put_host(conn, name, f"http://{name}", source="relay")
        host_rows.note_failure(conn, host, "x", wait=0.0, state=host_rows.HOST_OFFLINE)
    return host


def state_of(world: CrawlWorld) -> tuple[Any, ...]:
    [row] = world.query(
        "SELECT state, tries, extract(epoch FROM next_try - now())::float8 FROM host"
    )
    return row


def test_dead_host_is_retried_once_a_day(world: CrawlWorld) -> None:
    put_dead_host(world)
    with world.crawling(offline_after=5, host_rescan=0.02) as crawl:
        # Five tries, with pauses longer than it takes to look whom to read.
        wait_until(lambda: state_of(world)[2] > 80_000, what="left for a day")
        wait_until(lambda: crawl.streams == 0)
        state, tries, _ = state_of(world)
        assert (state, tries <= 7) == ("offline", True), tries
