"""Databases and repos of a PDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from repo_world import Repo

from storage.postgres.pool import Pool, open_pool


@pytest.fixture
def pds_pool(make_database: Callable[[str], str]) -> Iterator[Pool]:
    with open_pool(make_database("pds"), min=1, max=8) as pool:
        yield pool


@pytest.fixture
def repo(pds_pool: Pool) -> Repo:
    return Repo(pds_pool)
