"""The rules of Sync 1.1 as a table: frame, result and reason.

Each row sends frames for a synchronized account with one record, `first`, and names
the expected state. A refused frame leaves the account as it was, or to be fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sync_line import SyncLine
from sync_rows import ROWS, R, Row

from protocol.events.drops import DropReason
from storage.postgres.pool import Pool, open_pool


@pytest.fixture(scope="module")
def shared_pool(databases: Any) -> Iterator[Pool]:
    url = databases.make("index")
    with open_pool(url, min=1, max=4) as opened:
        yield opened
    databases.drop(url)


@pytest.fixture
def line(shared_pool: Pool) -> SyncLine:
    with shared_pool.connection() as conn:
        conn.execute(
            "TRUNCATE host, host_cursor, actor, repo, record, dropped_record, job,"
            " identity, resync_buffer, drop_count, link, search_outbox"
        )
    return SyncLine(shared_pool)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.rule}:{row.name}")
def test_row(line: SyncLine, row: Row) -> None:
    row.story(line)
    assert dict(line.drops()) == {reason.value: n for reason, n in row.drops.items()}
    assert line.state() == row.state
    assert tuple(line.rkeys()) == tuple(sorted(row.records))
    assert line.status() == row.status
    assert line.refreshes == row.refreshes
    # The cursor moves in any case, except for an invalid number.
    if DropReason.BAD_SEQ not in row.drops:
        assert line.cursor() == line.seq


def test_every_reason_to_drop_a_message_has_its_row() -> None:
    elsewhere = {
        R.FRAME_TOO_LARGE,
        R.BAD_FRAME,
        R.UNKNOWN_ACCOUNT,
        R.UNRESOLVED_IDENTITY,
        R.HOST_BUDGET,
        R.THROTTLED,
        R.OUT_OF_SCOPE,
        R.TREE_TOO_LARGE,
        R.QUARANTINED,
        # of single records
        R.RECORD_TOO_DEEP,
        R.BAD_RECORD_ENCODING,
        R.BAD_RECORD_TYPE,
        R.INVALID_RECORD,
        R.UNSTORABLE_RECORD,
    }
    shown = {reason for row in ROWS for reason in row.drops}
    assert shown | elsewhere == set(DropReason)
    assert not shown & elsewhere


def test_rows_have_names_of_their_own() -> None:
    names = [(row.rule, row.name) for row in ROWS]
    assert len(set(names)) == len(names)
