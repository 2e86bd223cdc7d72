"""A whole repo out of our rows, byte for byte what its account signed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from protocol.errors import MissingBlockError
from protocol.repo.whole_repo import export_repo
from storage.records.record_rows import iter_repo


@contextmanager
def open_export(conn: psycopg.Connection[Any], actor: int) -> Iterator[Iterator[bytes]]:
    """The repo's CAR in pieces, in pre-order; memory does not grow with the repo.

    Needs a transaction of REPEATABLE READ, for the rows are read twice. Raises
    MissingBlockError if a record of the repo was dropped or the repo is not here, or
    not whole, InvalidTreeError if the rows do not make the tree that the commit signs.
    """
    row = conn.execute(
        "SELECT commit, selection FROM repo WHERE actor = %s", (actor,)
    ).fetchone()
    if row is None or row[0] is None:
        raise MissingBlockError("the repo is not here")
    if row[1] is not None:
        raise MissingBlockError("only some of its collections are here")

    def items() -> Iterator[tuple[bytes, bytes, bytes]]:
        for key, cid, value in iter_repo(conn, actor):
            if value is None:
                raise MissingBlockError(f"the record {key!r} was not kept")
            yield key, cid, value

    yield export_repo(bytes(row[0]), items)
