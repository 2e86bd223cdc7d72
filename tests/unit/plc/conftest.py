from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from plc_client import Client, Clock

from network.server.listener import serving_in_thread
from plc.directory import create_app
from storage.postgres.pool import Pool, open_pool


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def plc_url(make_database: Callable[[str], str]) -> str:
    return make_database("plc")


@pytest.fixture
def plc_pool(plc_url: str) -> Iterator[Pool]:
    with open_pool(plc_url, min=2, max=8) as pool:
        yield pool


@pytest.fixture
def pool(make_database: Callable[[str], str]) -> Iterator[Pool]:
    """Return a pool of the index database, which holds the mirror."""
    with open_pool(make_database("index"), max=4) as pool:
        yield pool


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(plc_pool: Pool, clock: Clock) -> Iterator[Client]:
    """Return a client of a directory that polls too rarely to matter in a test."""
    app = create_app(plc_pool, now_ms=clock, version="1.2", poll_s=60)
    with serving_in_thread(app) as url:
        yield Client(url, clock)
