"""A commit with a creation, an update and a deletion."""

from __future__ import annotations

import pytest
from handmade_commits import Author, Body, record


@pytest.fixture
def body() -> Body:
    return Author().commit(
        ("test.app.note/new", record("new")),
        ("test.app.note/k003", record("other")),
        ("test.app.note/k007", None),
    )
