"""A world of identities and its resolver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from identity_world import World

from network.identity.resolver import IdentityResolver


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def resolver(world: World) -> AsyncIterator[IdentityResolver]:
    async with world.resolver() as resolver:
        yield resolver
