"""Fixtures of feed tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from for_you_world import World

from storage.postgres.pool import Conn


@pytest.fixture
def world(conn: Conn) -> Iterator[World]:
    yield World(conn)
    conn.rollback()
