from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from storage.postgres.pool import Pool, open_pool


@pytest.fixture
def plc_url(make_database: Callable[[str], str]) -> str:
    """The URL of a fresh, empty directory database."""
    return make_database("plc")


@pytest.fixture
def plc_pool(plc_url: str) -> Iterator[Pool]:
    """A pool on it, wide enough for tests of concurrency."""
    with open_pool(plc_url, min=2, max=8) as pool:
        yield pool
