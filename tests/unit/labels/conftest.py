"""A world with a writer for each scenario, and two labelers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import serve_world
from labeler_world import LABELER, OTHER, Labeler
from labelled_world import Scenario, fill, scenarios

from storage.postgres.pool import open_pool
from storage.records.interning import Interner


@pytest.fixture(scope="module")
def every(databases: Any) -> Iterator[Iterator[Scenario]]:
    url = databases.make("index")
    labelers = (LABELER, OTHER)
    with (
        serve_world(url, fill, {}, default_labelers=labelers) as provider,
        open_pool(url, max=2) as pool,
    ):
        interner = Interner(pool)
        made = [Labeler(name, pool, interner) for name in labelers]
        yield scenarios(provider, *made)
    databases.drop(url)


@pytest.fixture
def case(every: Iterator[Scenario]) -> Scenario:
    return next(every)
