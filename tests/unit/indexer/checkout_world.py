"""Fixtures of tests of whole-repo imports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from indexer_steps import import_repo
from indexer_world import (
    CLOCK,
    POST,
    PROFILE,
    Author,
    author,
    post,
    profile,
)

from indexer.batch import BatchResult
from indexer.repos.checkout import (
    CheckoutResult,
)
from storage.postgres.pool import Conn
from storage.records.interning import Interner

Apply = Callable[..., BatchResult]


Fetch = Callable[..., CheckoutResult]


@pytest.fixture
def fetch(conn: Conn, interner: Interner) -> Fetch:
    """Import an author's whole repo in its current state."""

    def run(someone: Author, chunk: int = 50) -> CheckoutResult:
        return import_repo(conn, interner, someone, chunk=chunk)

    return run


def written_author(number: int = 0, posts: int = 20) -> Author:
    someone = author(number)
    writes: dict[str, Any] = {f"{PROFILE}/self": profile("Someone")}
    for index in range(posts):
        writes[f"{POST}/{CLOCK.next()}"] = post(f"post {index}")
    writes["org.example.note/first-note"] = {"$type": "org.example.note", "text": "n"}
    someone.commit(writes)
    return someone
