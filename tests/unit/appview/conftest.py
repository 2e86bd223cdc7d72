from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, serve_world


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    """The small world, served over HTTP."""
    url = databases.make("index")
    with serve_world(url) as provider:
        yield provider
    databases.drop(url)
