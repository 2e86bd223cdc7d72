"""One directory and one Personal Data Server for each module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pds_world import Client, World, sign_up


@pytest.fixture(scope="module")
def world(databases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(databases.make, stack, tmp_path_factory.mktemp("pds"))
        made.start_plc()
        yield made


@pytest.fixture(scope="module")
def server(world: World, request: pytest.FixtureRequest) -> Client:
    """Start a PDS with the settings in SERVER of the module."""
    return world.start_pds(**getattr(request.module, "SERVER", {}))


@pytest.fixture(scope="module")
def alice(server: Client) -> Client:
    return sign_up(server, "alice.a.test", email="Alice@Example.com")
