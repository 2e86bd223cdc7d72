"""A repo of the reference server, imported into our PDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from pds.repo.block_rows import stream_records
from pds.repo.repo_import import ImportSource, RepoImporter
from pds.server import lifecycle
from pds.server.accounts import DEACTIVATED, NewAccount
from protocol.identity.keys import PrivateKey
from protocol.repo.commit import parse_commit
from protocol.repo.repo_export import export_repo
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did, TidClock
from storage.postgres.pool import Pool, open_pool

NOW = datetime(2026, 12, 1, tzinfo=UTC)
NOW_US = int(NOW.timestamp() * 1_000_000)


@pytest.fixture
def pool(make_database: Callable[[str], str]) -> Iterator[Pool]:
    with open_pool(make_database("pds"), min=1, max=4) as opened:
        yield opened


def test_reference_repo_is_imported_whole(reference: Path, pool: Pool) -> None:
    did, old_key = (reference / "repo-21791.txt").read_text().split()
    packed = (reference / "repo-21791.car.zst").read_bytes()
    car = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    pieces = [car[start : start + 65_536] for start in range(0, len(car), 65_536)]
    reader = RepoReader(None, Did(did), NOW_US, {})
    sent = [record for piece in pieces for record in reader.feed(piece)]
    data = reader.finish().data

    key, clock = PrivateKey.generate(), TidClock(1, lambda: NOW_US)
    new = NewAccount(
        did,
        "moved.example.com",
        None,
        "-",
        b"",
        b"",
        key.public.did_key,
        status=DEACTIVATED,
    )
    with pool.connection() as conn:
        account = lifecycle.create_account(conn, new, key, clock.next(), NOW)
    with pool.connection() as conn:
        source = ImportSource(pieces, frozenset({old_key}))
        importer = RepoImporter(clock, lambda conn, account: key)
        head = importer.run(conn, account, source, NOW)
    assert head.data == data
    with pool.connection() as conn:
        row = conn.execute(
            "SELECT value FROM block WHERE account = %s AND cid = %s",
            [account, head.commit],
        ).fetchone()
        assert row is not None
        assert parse_commit(row[0]).data == data
        again = b"".join(export_repo(row[0], lambda: stream_records(conn, account)))
        events = conn.execute("SELECT count(*) FROM event").fetchone()
    assert events == (0,)
    reader = RepoReader(key.public, Did(did), NOW_US, {})
    assert sorted(reader.feed(again)) == sorted(sent)
    assert reader.finish().records == 21_791
