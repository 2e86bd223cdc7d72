"""Following the export and the stream of another directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from plc_accounts import NOW, OWNER, SERVER, THIEF, entry, genesis, rename
from plc_peer import Peer, following, line, until

from plc import operation_log
from plc.directory import create_app
from plc.follow import RenumberedError, TruncatedExportError, UnpageableExportError
from plc.ledger import accept
from plc.mirror import BadExportError, RewrittenLogError
from plc.operation import HOUR_MS
from plc.operation_draft import create_update
from plc.operation_format import sign_operation
from protocol.syntax import Did
from storage.postgres.pool import Pool

pytestmark = pytest.mark.anyio


async def test_follower_reads_pages_to_the_end(pool: Pool) -> None:
    peer = Peer()
    dids = []
    for number in range(25):
        did, first = genesis(number, f"https://pds{number % 3}.example.com")
        dids.append(did)
        peer.add(did, first, NOW - 1_000_000)
        if number % 2:
            peer.add(did, rename(first, number), NOW - 900_000)
    async with following(peer, pool, page=10) as mirrored:
        assert await mirrored.catch_up() == 37
        assert mirrored.state().seq == 37
        assert mirrored.state().operations == 37
        assert await mirrored.catch_up() == 0
        # An old last line is no end, and our position must still exist.
        after = [query.partition("after=")[2] for query in peer.requests]
        assert after == ["0", "10", "20", "30", "37", "36", "37"]
        assert mirrored.logs(*dids[:2]) == [["n0"], ["n1", "r1"]]
        assert all(mirrored.logs(*dids))
        assert mirrored.unproven() == {}
    with pool.connection() as conn:
        hosts = operation_log.hosts_after(conn, 0)
        origins = [f"https://pds{number}.example.com" for number in range(3)]
        assert [url for _, url in hosts] == origins
        assert operation_log.hosts_after(conn, hosts[1][0]) == [hosts[2]]


async def test_export_by_time_with_equal_times_is_read_completely(pool: Pool) -> None:
    peer = Peer()
    peer.numbered = False
    dids = []
    for number in range(40):
        did, first = genesis(number)
        dids.append(did)
        # Seven of each time, so that every page of ten splits one.
        peer.add(did, first, NOW - 1_000_000 + number // 7)
    async with following(peer, pool, page=10) as mirrored:
        assert await mirrored.catch_up() == 40
        assert all(mirrored.logs(*dids))


async def test_time_with_more_operations_than_a_page_is_refused(pool: Pool) -> None:
    peer = Peer()
    peer.numbered = False
    for number in range(30):
        peer.add(*genesis(number), NOW - 1_000_000)
    async with following(peer, pool, page=10) as mirrored:
        with pytest.raises(UnpageableExportError):
            await mirrored.catch_up()


async def test_own_directory_is_followed_by_time(pool: Pool, plc_pool: Pool) -> None:
    """Follow pages that are longer than requested, since they split no time."""
    with plc_pool.connection() as conn:
        for number in range(12):
            accept(conn, *genesis(number), NOW)
    async with following(create_app(plc_pool), pool, page=5) as mirrored:
        with pool.connection() as conn:
            operation_log.lock_feed(conn, mirrored.url)
            conn.execute("UPDATE plc_feed SET time_ms = 1")
        assert await mirrored.catch_up() == 12


Lie = Callable[[Peer, Did, Any], None]


def forged(peer: Peer, did: Did, first: Any) -> None:
    forgery = create_update(first, SERVER, handle="thief.example.com")
    peer.add(did, sign_operation(forgery, THIEF), NOW - 500_000)


def rewritten_genesis(peer: Peer, did: Did, first: Any) -> None:
    peer.add(did, genesis(99)[1], NOW - 500_000)


def outranked(peer: Peer, did: Did, first: Any) -> None:
    peer.add(did, rename(first, 77), NOW - 500_000)  # a fork by the same key


def late_recovery(peer: Peer, did: Did, first: Any) -> None:
    peer.add(did, rename(first, 78, OWNER), NOW - 600_000 + 73 * HOUR_MS)


def from_the_future(peer: Peer, did: Did, first: Any) -> None:
    peer.add(did, rename(rename(first, 1), 5), NOW + HOUR_MS)


def out_of_its_log(peer: Peer, did: Did, first: Any) -> None:
    missing = rename(rename(first, 1), 50)
    peer.add(did, rename(missing, 51), NOW - 500_000)


def another_time(peer: Peer, did: Did, first: Any) -> None:
    peer.add(did, rename(first, 1), NOW - 555_555)


def wrong_cid(peer: Peer, did: Did, first: Any) -> None:
    peer.add(did, rename(rename(first, 1), 6), NOW - 500_000)
    peer.lines[-1]["cid"] = peer.lines[0]["cid"]


def malformed(peer: Peer, did: Did, first: Any) -> None:
    peer.add(did, rename(rename(first, 1), 7), NOW - 500_000)
    peer.lines[-1]["operation"]["services"] = []


@pytest.mark.parametrize(
    "lie",
    [
        *(forged, rewritten_genesis, outranked, late_recovery, from_the_future),
        *(out_of_its_log, another_time, wrong_cid, malformed),
    ],
)
async def test_invalid_operation_leaves_the_proven_log(pool: Pool, lie: Lie) -> None:
    peer = Peer()
    did, first = genesis(1)
    other, other_first = genesis(2)
    second = rename(first, 1)
    peer.add(did, first, NOW - 700_000)
    peer.add(did, second, NOW - 600_000)
    now = NOW + 100 * HOUR_MS if lie is late_recovery else NOW
    async with following(peer, pool, now=lambda: now / 1_000) as mirrored:
        await mirrored.catch_up()
        lie(peer, did, first)
        peer.add(other, other_first, NOW - 400_000)
        await mirrored.catch_up()
        assert mirrored.logs(did, other) == [["n1", "r1"], ["n2"]]
        assert list(mirrored.unproven()) == [did]
        assert mirrored.state().seq == 4
        # Later proven operations are accepted while the DID is unproven.
        peer.add(did, rename(second, 2), now)
        await mirrored.catch_up()
        assert mirrored.logs(did) == [["n1", "r1", "r2"]]


async def test_recovery_by_a_stronger_key_is_accepted(pool: Pool) -> None:
    peer = Peer()
    did, first = genesis(1)
    peer.add(did, first, NOW - 80 * HOUR_MS)
    peer.add(did, rename(first, 1), NOW - 70 * HOUR_MS)
    peer.add(did, rename(first, 2, OWNER), NOW - 10 * HOUR_MS)
    async with following(peer, pool) as mirrored:
        await mirrored.catch_up()
        assert mirrored.logs(did) == [["n1", "[r1]", "r2"]]
        assert mirrored.unproven() == {}


async def test_unproven_did_is_cleared_after_a_proven_whole_log(pool: Pool) -> None:
    peer = Peer()
    did, first = genesis(1)
    second = rename(first, 1)
    third = rename(second, 2)
    unknown, unknown_first = genesis(2)
    peer.add(did, first, NOW - 700_000)
    peer.add(did, third, NOW - 500_000)
    peer.add(unknown, rename(unknown_first, 1), NOW - 500_000)
    log = [entry(did, first, NOW - 700_000), entry(did, second, NOW - 600_000)]
    log.append(entry(did, third, NOW - 500_000))
    async with following(peer, pool) as mirrored:
        await mirrored.catch_up()
        assert set(mirrored.unproven()) == {did, unknown}
        peer.logs[did] = [e.to_json() for e in log]
        assert await mirrored.retry_unproven() == 1
        assert mirrored.logs(did) == [["n1", "r1", "r2"]]
        # The first replies may come from a copy that lags.
        for _ in range(5):
            assert did in mirrored.unproven()
            with pool.connection() as conn:
                conn.execute("UPDATE plc_doubt SET next_try = now()")
            await mirrored.retry_unproven()
        assert mirrored.unproven() == {}


async def test_export_with_too_many_unproven_dids_is_not_read_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation_log, "MAX_UNPROVEN", 5)
    peer = Peer()
    peer.most = 4
    good, first = genesis(0)
    peer.add(good, first, NOW - 800_000)
    for number in range(1, 40):
        did, first = genesis(number)
        peer.add(did, rename(first, number), NOW - 700_000)

    def has_tried() -> bool:
        with pool.connection() as conn:
            row = conn.execute("SELECT sum(tries) FROM plc_doubt").fetchone()
        return row is not None and row[0] > 0

    async with following(peer, pool) as mirrored:
        for _ in range(3):
            with pytest.raises(BadExportError, match="too many DIDs"):
                await mirrored.catch_up()
        assert mirrored.state().seq == 4
        # Unproven DIDs are still resolved.
        async with mirrored.running():
            await until(has_tried)
        assert mirrored.logs(good) == [["n0"]]
        assert len(mirrored.unproven()) == 3


async def test_rewritten_whole_log_is_refused(pool: Pool) -> None:
    """Refuse a log that is valid, but not the one that was published."""
    peer = Peer()
    did, first = genesis(1)
    peer.add(did, first, NOW - 700_000)
    peer.add(did, rename(first, 1), NOW - 600_000)
    peer.add(did, rename(first, 2), NOW - 500_000)
    rewritten = [entry(did, first, NOW - 700_000)]
    rewritten.append(entry(did, rename(first, 2), NOW - 600_000))
    async with following(peer, pool) as mirrored:
        await mirrored.catch_up()
        peer.logs[did] = [e.to_json() for e in rewritten]
        assert await mirrored.retry_unproven() == 0
        assert mirrored.logs(did) == [["n1", "r1"]]
        assert mirrored.unproven()[did].startswith(RewrittenLogError.__name__)
        # The next try is delayed.
        assert await mirrored.retry_unproven() == 0
        with pool.connection() as conn:
            assert operation_log.claim_unproven(conn, 10) == []


async def test_unavailable_log_does_not_block_other_logs(pool: Pool) -> None:
    peer = Peer()
    broken, healthy = [], []
    for number in range(6):
        did, first = genesis(number)
        peer.add(did, rename(first, 1), NOW - 5_000)
        if number % 2:
            healthy.append(did)
            peer.logs[did] = [entry(did, first, NOW - 6_000).to_json()]
        else:
            broken.append(did)
            peer.statuses[did] = 500
    async with following(peer, pool) as mirrored:
        await mirrored.catch_up()
        assert await mirrored.retry_unproven() == 3
        assert all(mirrored.logs(*healthy))
        assert not any(mirrored.logs(*broken))


async def test_directory_with_shorter_pages_is_read_to_the_end(pool: Pool) -> None:
    peer = Peer()
    peer.most = 3
    for number in range(10):
        peer.add(*genesis(number), NOW - 1_000_000)
    async with following(peer, pool) as mirrored:
        assert await mirrored.catch_up() == 10
        assert mirrored.is_caught_up()


async def test_export_without_our_position_is_not_caught_up(pool: Pool) -> None:
    """Refuse an export that was reset, or once had a number too high."""
    peer = Peer()
    peer.add(*genesis(1), NOW - 5_000)
    peer.add(*genesis(2), NOW - 4_000)
    peer.lines[-1]["seq"] = 2**53 - 1
    async with following(peer, pool) as mirrored:
        await mirrored.catch_up()
        before = mirrored.state().caught_up_at
        assert before is not None
        peer.lines[-1]["seq"] = 2
        peer.add(*genesis(3), NOW - 3_000)
        with pytest.raises(TruncatedExportError):
            await mirrored.catch_up()
        assert mirrored.state().caught_up_at == before


@pytest.mark.parametrize("stream", [False, True])
async def test_renumbered_export_is_read_from_the_start(
    pool: Pool, stream: bool
) -> None:
    peer = Peer()
    old, new = [genesis(n) for n in range(5)], [genesis(n) for n in range(5, 9)]
    for number, (did, operation) in enumerate(old):
        peer.add(did, operation, NOW - 1_000_000 + number)
    async with following(peer, pool, stream=stream) as mirrored:
        assert await mirrored.catch_up() == 5
        peer.lines.clear()
        for number, (did, operation) in enumerate([*new, *old]):
            peer.add(did, operation, NOW - 1_000_000 + number)
        with pytest.raises(RenumberedError):
            await mirrored.catch_up()
        # The mirror may lack operations, so it answers nothing.
        assert not mirrored.is_caught_up()
        assert await mirrored.catch_up() == 4
        assert mirrored.state().seq == 9
        assert mirrored.is_caught_up()
        found = mirrored.logs(*(did for did, _ in [*old, *new]))
        assert found == [[f"n{n}"] for n in range(9)]


async def test_operation_removed_at_our_position_is_no_renumbering(pool: Pool) -> None:
    peer = Peer()
    for number in range(4):
        peer.add(*genesis(number), NOW - 1_000_000)
    async with following(peer, pool) as mirrored:
        assert await mirrored.catch_up() == 4
        del peer.lines[3]
        peer.lines.append(line(*genesis(5), NOW - 900_000, 5))
        assert await mirrored.catch_up() == 1
        assert mirrored.state().seq == 5


async def test_export_lines_of_unknown_types_are_skipped(pool: Pool) -> None:
    peer = Peer()
    did, first = genesis(1)
    for seq in (1, 2, 4):
        peer.lines.append({"type": "news", "seq": seq, "did": 7})
    peer.lines.insert(2, line(did, first, NOW - 5_000, 3) | {"type": "sequenced_op"})
    async with following(peer, pool, page=2) as mirrored:
        assert await mirrored.catch_up() == 1
        assert mirrored.state().seq == 4
        assert mirrored.logs(did) == [["n1"]]
        assert mirrored.unproven() == {}


async def test_export_out_of_order_is_refused(pool: Pool) -> None:
    peer = Peer()
    for number in range(4):
        peer.add(*genesis(number), NOW - 700_000)
    peer.lines[2]["seq"], peer.lines[3]["seq"] = 4, 3
    async with following(peer, pool) as mirrored:
        with pytest.raises(BadExportError):
            await mirrored.catch_up()
        assert mirrored.state().seq is None


async def test_stream_delivers_operations_after_the_pages(
    pool: Pool, plc_pool: Pool
) -> None:
    did, first = genesis(1)
    later, later_first = genesis(2)

    def add(*accepted: Any) -> None:
        with plc_pool.connection() as conn:
            accept(conn, *accepted)

    add(did, first, NOW)
    app = create_app(plc_pool, poll_s=0.05, now_ms=lambda: NOW)
    async with (
        following(app, pool, stream=True, poll_s=3_600.0) as mirrored,
        mirrored.running(),
    ):
        await until(lambda: mirrored.state().seq == 1)
        add(did, rename(first, 1), NOW + 1)
        await until(lambda: mirrored.logs(did) == [["n1", "r1"]])
        add(later, later_first, NOW + 2)
        await until(lambda: mirrored.logs(later) == [["n2"]])
        assert mirrored.state().seq == 3


async def test_directory_without_a_stream_is_polled(pool: Pool) -> None:
    peer = Peer()
    first, second = genesis(1), genesis(2)
    peer.add(*first, NOW - 5_000)
    async with (
        following(peer, pool, stream=True, poll_s=0.05) as mirrored,
        mirrored.running(),
    ):
        await until(lambda: mirrored.logs(first[0]) == [["n1"]])
        peer.add(*second, NOW - 4_000)
        await until(lambda: mirrored.logs(second[0]) == [["n2"]])
