"""The proven logs of the mirror: ingestion, storage, lookups and HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plc_accounts import (
    NOW,
    OWNER,
    SERVER,
    THIEF,
    entry,
    genesis,
    legacy_create,
    rename,
)
from plc_peer import DEV, Peer, body, following, line, shown_logs

from network.errors import DidTombstonedError, NetworkError
from network.http.breaker import Breaker
from network.http.client import Fetcher
from network.identity.did_sources import DidSources
from network.identity.resolver import IdentityResolver
from network.server.listener import serving
from plc import operation_log
from plc.exceptions import load_exceptions
from plc.follow import PAGE
from plc.lookup import MirrorLookup
from plc.mirror import (
    MAX_PAGE_BYTES,
    BadExportError,
    Mirror,
    RewrittenLogError,
    parse_line,
    read_page,
)
from plc.mirror_app import create_mirror_app
from plc.operation import HOUR_MS
from plc.operation_document import operation_document
from plc.operation_draft import create_tombstone, create_update
from plc.operation_format import did_for_genesis, operation_cid, sign_operation
from protocol.errors import InvalidEncodingError
from storage.postgres.pool import Pool

URL = "http://plc.test"


def test_mirror_keeps_logs_exactly(pool: Pool) -> None:
    did, first = genesis(1)
    second = rename(first, 2)
    log = [entry(did, first, NOW), entry(did, second, NOW + 5)]
    log.append(entry(did, create_tombstone(second, SERVER), NOW + 90))
    legacy = legacy_create()
    old = did_for_genesis(legacy)
    odd = create_update(legacy, OWNER, signing_key="did:key:zStrange")
    other = [entry(old, legacy, 7), entry(old, sign_operation(odd, OWNER), 8)]
    with pool.connection() as conn:
        operation_log.save_logs(conn, {did: log, old: other})
        assert operation_log.load_logs(conn, [did, old]) == {did: log, old: other}


@pytest.mark.anyio
async def test_tolerated_operation_is_accepted_and_flagged(pool: Pool) -> None:
    did, first = genesis(1)
    odd = sign_operation(rename(first, 1), THIEF)
    cid = operation_cid(odd)
    operations = enumerate((first, odd, rename(odd, 2)))
    lines = [line(did, op, NOW + n, n + 1) for n, op in operations]
    with pool.connection() as conn:
        mirror = Mirror(URL, tolerated={cid})
        result = mirror.ingest(conn, read_page(body(*lines)), NOW + 10)
    assert (result.new, result.unproven, result.tolerated) == (3, {}, [cid])
    app = create_mirror_app(pool, URL, tolerated={cid})
    async with serving(app, "127.0.0.1", 0) as url, Fetcher(DEV) as fetcher:
        audit = (await fetcher.get(f"{url}/{did}/log/audit")).json()
    flags = [item.get("tolerated", False) for item in audit]
    assert flags == [False, True, False]


def test_tolerated_operation_may_be_removed_from_a_log(pool: Pool) -> None:
    did, first = genesis(1)
    odd = sign_operation(rename(first, 1), THIEF)
    after = rename(first, 3)
    old = NOW - 1_000 * HOUR_MS
    lines = [line(did, first, old, 1), line(did, odd, old + 1, 2)]
    without = [entry(did, first, old).to_json(), entry(did, after, NOW).to_json()]
    mirror = Mirror(URL, tolerated={operation_cid(odd)})
    with pool.connection() as conn:
        mirror.ingest(conn, read_page(body(*lines)), NOW)
        with pytest.raises(RewrittenLogError):
            Mirror(URL).replace_log(conn, did, without, NOW)
        lines = [line(did, after, NOW, 3)]
        assert mirror.ingest(conn, read_page(body(*lines)), NOW).unproven == {}
        assert shown_logs(pool, did) == [["n1", "[r1]", "r3"]]
        mirror.replace_log(conn, did, without, NOW)
    assert shown_logs(pool, did) == [["n1", "r3"]]


def test_whole_log_from_the_future_is_refused(pool: Pool) -> None:
    did, first = genesis(1)
    with pool.connection() as conn:
        mirror = Mirror(URL)
        ahead = entry(did, first, NOW + 1_000 * HOUR_MS).to_json()
        with pytest.raises(BadExportError):
            mirror.replace_log(conn, did, [ahead], NOW)
        assert shown_logs(pool, did) == [[]]
        mirror.replace_log(conn, did, [entry(did, first, NOW + 1_000).to_json()], NOW)
    assert shown_logs(pool, did) == [["n1"]]


@pytest.mark.parametrize(
    "change",
    [
        {"did": "did:web:example.com"},
        {"did": 7},
        {"cid": None},
        {"seq": 0},
        {"seq": True},
        {"seq": 2**60},
        {"createdAt": "yesterday"},
        {"createdAt": None},
    ],
)
def test_export_line_without_a_position_is_refused(change: dict[str, Any]) -> None:
    good = line(*genesis(1), NOW, 5)
    assert parse_line(body(good)).seq == 5
    with pytest.raises(BadExportError):
        parse_line(body(good | change))
    with pytest.raises(BadExportError):
        parse_line(body({"type": "news"}))


def test_longest_operations_fit_a_page() -> None:
    did, first = genesis(1)
    longest = body(line(did, replace(first, also_known_as=("\1" * 7_000,)), NOW, 5))
    assert parse_line(longest).operation is not None
    assert PAGE * len(longest) <= MAX_PAGE_BYTES
    too_long = body(line(did, replace(first, also_known_as=("a" * 100_000,)), NOW, 5))
    assert parse_line(too_long).operation is None
    assert parse_line(too_long).seq == 5


def test_lines_and_cursor_are_one_transaction(pool: Pool) -> None:
    did, first = genesis(1)
    lines = read_page(body(line(did, first, NOW, 5)))
    mirror = Mirror(URL)

    class CrashError(Exception):
        pass

    def crash(*_: Any, **__: Any) -> None:
        raise CrashError

    for name in ("move_feed", "save_logs"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(operation_log, name, crash)
            with pytest.raises(CrashError), pool.connection() as conn:
                mirror.ingest(conn, lines, NOW)
        assert shown_logs(pool, did) == [[]]
        with pool.connection() as conn:
            assert operation_log.load_feed(conn, URL).seq is None
    with pool.connection() as conn:
        assert mirror.ingest(conn, lines, NOW).new == 1
        assert mirror.ingest(conn, lines, NOW).repeated == 1


@pytest.mark.anyio
async def test_lookup_answers_while_the_mirror_is_fresh(pool: Pool) -> None:
    peer = Peer()
    did, first = genesis(1)
    gone, gone_first = genesis(2)
    peer.add(did, first, NOW - 700_000)
    peer.add(gone, gone_first, NOW - 700_000)
    peer.add(gone, create_tombstone(gone_first, SERVER), NOW - 600_000)
    async with following(peer, pool) as mirrored:
        clock = [NOW / 1_000 + 1]
        lookup = MirrorLookup(pool, mirrored.url, now=lambda: clock[0])
        assert await lookup.find(did) is None  # nothing was read yet
        await mirrored.catch_up()
        found = await asyncio.gather(*(lookup.find(did) for _ in range(20)))
        assert found[0] is not None
        assert found[0].document == operation_document(did, first)
        assert all(one == found[0] for one in found)
        assert await lookup.find("did:plc:" + "a" * 24) is None
        clock[0] += 59
        async with Fetcher(DEV) as fetcher:
            # The peer serves no documents, so they come from the mirror.
            resolver = IdentityResolver(fetcher, mirrored.url, mirror=lookup)
            document = await resolver.resolve_did(did)
            assert document.handles == ("n1.example.com",)
            with pytest.raises(DidTombstonedError):
                await resolver.resolve_did(gone)
        clock[0] += 2
        assert await lookup.find(did) is None  # too old


@pytest.mark.anyio
async def test_direct_fetch_bypasses_the_mirror() -> None:
    class Never:
        async def find(self, did: str) -> None:
            raise AssertionError("the mirror was asked")

    breaker = Breaker(5, 1.0, lambda: 0.0)
    async with Fetcher(DEV) as fetcher:
        sources = DidSources(
            fetcher, "http://127.0.0.1:1", breaker, dev=True, mirror=Never()
        )
        with pytest.raises(NetworkError):
            await sources.fetch(genesis(1)[0], direct=True)


@pytest.mark.anyio
async def test_mirror_serves_the_read_routes_of_a_directory(pool: Pool) -> None:
    did, first = genesis(1)
    log = [entry(did, first, NOW), entry(did, rename(first, 1), NOW + 1)]
    with pool.connection() as conn:
        operation_log.save_logs(conn, {did: log})
        operation_log.note_caught_up(conn, "https://plc.test", NOW / 1_000)
    app = create_mirror_app(pool, "https://plc.test")
    async with serving(app, "127.0.0.1", 0) as url, Fetcher(DEV) as fetcher:
        document = (await fetcher.get(f"{url}/{did}")).json()
        assert document["alsoKnownAs"] == ["at://r1.example.com"]
        audit = (await fetcher.get(f"{url}/{did}/log/audit")).json()
        assert audit == [e.to_json() for e in log]
        health = (await fetcher.get(f"{url}/_health")).json()
        assert health["caughtUpAt"].startswith("2026-")
        refused = await fetcher.post(f"{url}/{did}", body=b"{}")
        assert refused.status == 405
        assert (await fetcher.get(f"{url}/did:plc:{'a' * 24}")).status == 404


def test_exceptions_file_lists_cids(tmp_path: Path) -> None:
    assert len(load_exceptions()) == 6_027
    path = tmp_path / "exceptions.txt"
    cid = "bafyreibvt3g3zh36v2bqgiksjozfhzs2vzpagpjxjn25qvlbluipiill2q"
    path.write_text(f"# comment\n\n{cid}  # why\n")
    assert load_exceptions(path) == {cid}
    path.write_text("bafy\n")
    with pytest.raises(InvalidEncodingError):
        load_exceptions(path)
