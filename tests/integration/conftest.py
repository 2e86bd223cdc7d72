"""Networks of our own servers, and an index that crawls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from crawl_world import CrawlWorld
from pds_world import World

from crawler.identities.network_clients import clients_opener
from network.http.policy import HostLimits


@pytest.fixture(scope="module", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Make password hashing cheap: accounts are created by the hundred."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pds.server.passwords._LOG_N", 4)
        yield


@pytest.fixture
def network(make_database: Callable[[str], str], tmp_path: Path) -> Iterator[World]:
    """Start a directory; the test starts servers."""
    with ExitStack() as stack:
        world = World(make_database, stack, tmp_path)
        world.start_plc()
        yield world


@pytest.fixture
def index(index_db: str, network: World) -> Iterator[CrawlWorld]:
    """Open an index whose crawler uses that directory."""
    opened = CrawlWorld(index_db)
    opened.open_clients = clients_opener(
        opened.pool,
        opened.settings(),
        plc_url=network.plc_url,
        host_limits=HostLimits(rate=1_000, burst=1_000, concurrency=16),
    )
    yield opened
    opened.close()


@pytest.fixture
def world(index_db: str) -> Iterator[CrawlWorld]:
    """Open an index; the test adds hosts."""
    opened = CrawlWorld(index_db)
    yield opened
    opened.close()
