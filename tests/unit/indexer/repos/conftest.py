"""Fixtures of tests of whole repos."""

from __future__ import annotations

import pytest
from indexer_steps import Fetch, import_repo
from indexer_world import Author

from indexer.repos.checkout import CheckoutResult
from storage.postgres.pool import Conn
from storage.records.interning import Interner


@pytest.fixture
def fetch(conn: Conn, interner: Interner) -> Fetch:
    """Import an author's whole repo in its current state."""

    def run(someone: Author, chunk: int = 50) -> CheckoutResult:
        return import_repo(conn, interner, someone, chunk=chunk)

    return run
