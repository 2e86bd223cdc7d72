"""One database for the room, emptied after each test."""

from __future__ import annotations

import pytest


@pytest.fixture
def index_db(emptied_db: str) -> str:
    return emptied_db
