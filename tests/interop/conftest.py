"""The reference servers with our provider, for one module."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judged.world import World, both_indexers
from reference_network import get, own_process, reference_servers, until
from reference_society import Network


@pytest.fixture(scope="module")
def network(
    databases: Any, tmp_path_factory: pytest.TempPathFactory, free_base: int
) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("reference")
    base = free_base
    database = databases.make("index")
    provider, plc, pds = base, base + 5, base + 6
    provider_url = f"http://localhost:{provider}"
    provider_did = f"did:web:localhost%3A{provider}"
    settings = {
        "BIGWORLD_HOME": str(folder / "home"),
        "BIGWORLD_PORT_BASE": str(provider),
        "BIGWORLD_DEV_NETWORK": "true",
        "BIGWORLD_PLC_URL": f"http://localhost:{plc}",
        "BIGWORLD_HOSTS": f"http://localhost:{pds}",
        "BIGWORLD_HOST_REQUESTS_PER_S": "200",
        "DATABASE_URL": database,
    }

    def start(verb: str) -> Any:
        return own_process(verb, settings, Path(folder / f"{verb}.log"))

    with reference_servers(plc, pds, provider_url, provider_did), start("serve"):
        made = Network(
            f"http://localhost:{plc}",
            f"http://localhost:{pds}",
            provider_url,
            provider_did,
            database,
            start,
        )
        until(lambda: get(provider_url, "_health"), "the provider", 180.0)
        yield made
    databases.drop(database)


@pytest.fixture(scope="session")
def world(databases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return both indexers, shared by the modules of one worker."""
    base = random.Random().randrange(30_000, 32_000)
    with both_indexers(databases, tmp_path_factory.mktemp("answers"), base) as made:
        yield made


@pytest.fixture(scope="module")
def free_base() -> int:
    """Return the first of a row of ports for a network."""
    return random.Random().randrange(20_000, 30_000)
