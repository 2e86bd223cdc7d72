"""One database for the room, emptied after each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from storage.schema import metadata

_RESERVED = {
    "collection": "id >= 1000",
    "path": "id >= 1000",
    "rkey": "id <= -1000",
    "dictionary": "false",
}
_EMPTY = "".join(
    f"DELETE FROM {name} WHERE {_RESERVED.get(name, 'true')};"
    for name in metadata.tables
)


@pytest.fixture(scope="session")
def room_database(databases: Any) -> Iterator[str]:
    url: str = databases.make("index")
    yield url
    databases.drop(url)


@pytest.fixture
def index_db(room_database: str) -> Iterator[str]:
    """Copying a template costs more than most tests here: empty one instead."""
    yield room_database
    with psycopg.connect(room_database) as connection:
        connection.execute(_EMPTY)
