"""Fixtures of the tests of the gate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gate_bench import Bench

from storage.postgres.pool import Pool, open_pool


@pytest.fixture(scope="module")
def shared_pool(databases: Any) -> Iterator[Pool]:
    """Return one database for all tests of this file; each begins with empty tables."""
    url = databases.make("index")
    with open_pool(url, min=1, max=2) as opened:
        yield opened
    databases.drop(url)


@pytest.fixture
def bench(shared_pool: Pool) -> Bench:
    with shared_pool.connection() as conn:
        conn.execute("TRUNCATE host, actor, repo, job, identity")
    return Bench(shared_pool)
