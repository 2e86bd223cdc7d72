"""Export of a whole repo, byte for byte as its account signed it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from protocol.errors import MissingBlockError
from protocol.repo.repo_export import export_repo
from storage.postgres.pool import Conn
from storage.records.record_rows import iter_repo


@contextmanager
def open_export(conn: Conn, actor: int) -> Iterator[Iterator[bytes]]:
    """Yield the repo's CAR in pieces, in pre-order, in constant memory.

    Needs a REPEATABLE READ transaction: the rows are read twice. Raises
    MissingBlockError if the repo or one of its records is not stored, InvalidTreeError
    if the rows do not make the signed tree.
    """
    row = conn.execute(
        "SELECT commit, selection FROM repo WHERE actor = %s", (actor,)
    ).fetchone()
    if row is None or row[0] is None:
        raise MissingBlockError("the repo is not stored")
    if row[1] is not None:
        raise MissingBlockError("only some collections of the repo are stored")

    def items() -> Iterator[tuple[bytes, bytes, bytes]]:
        for key, cid, value in iter_repo(conn, actor):
            if value is None:
                raise MissingBlockError(f"the record {key!r} was not kept")
            yield key, cid, value

    yield export_repo(bytes(row[0]), items)
