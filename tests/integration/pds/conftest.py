"""One directory and one Personal Data Server for each module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pds_world import Client, World


@pytest.fixture(scope="module")
def world(databases: Any) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(databases.make, stack)
        made.start_plc()
        yield made


@pytest.fixture(scope="module")
def server(world: World, request: pytest.FixtureRequest) -> Client:
    """Start a server with the settings that the module names in SERVER."""
    return world.start_pds(**getattr(request.module, "SERVER", {}))
