from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from storage.postgres.pool import open_pool


@pytest.fixture
def plc_url(make_database: Callable[[str], str]) -> str:
    """The URL of a fresh, empty directory database."""
    return make_database("plc")


@pytest.fixture
def plc_pool(plc_url: str) -> Iterator[ConnectionPool[Any]]:
    """A pool on it, wide enough for tests of concurrency."""
    with open_pool(plc_url, min=2, max=8) as pool:
        yield pool
