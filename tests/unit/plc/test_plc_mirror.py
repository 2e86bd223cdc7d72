from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plc_peer import NOW, OWNER, SERVER, THIEF, Peer, entry, genesis, line, rename
from starlette.applications import Starlette

from network.errors import DidTombstonedError
from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.identity.did_sources import DidSources
from network.identity.resolver import IdentityResolver
from network.server.listener import serving
from plc import operation_log
from plc.directory import create_app
from plc.exceptions import load_exceptions
from plc.follow import (
    PAGE,
    Follower,
    LostPlaceError,
    RenumberedError,
    TornExportError,
)
from plc.ledger import accept
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
from plc.operation import (
    HOUR_MS,
    LegacyCreate,
    create_tombstone,
    create_update,
    did_for_genesis,
    operation_bytes,
    operation_cid,
    operation_document,
    operation_json,
    sign_operation,
)
from protocol.data import cbor
from protocol.errors import InvalidEncodingError
from protocol.syntax import Did
from storage.postgres.pool import Pool, open_pool

DEV = Policy(
    allow_loopback=True, limits=HostLimits(rate=1e6, burst=10_000, concurrency=100)
)


@pytest.fixture
def pool(make_database: Callable[[str], str]) -> Iterator[Pool]:
    with open_pool(make_database("index"), max=4) as pool:
        yield pool


@contextlib.asynccontextmanager
async def following(
    app: Starlette, pool: Pool, **given: Any
) -> AsyncIterator[tuple[Follower, Mirror, str]]:
    options: dict[str, Any] = {"stream": False, "now": lambda: NOW / 1_000, **given}
    async with serving(app, "127.0.0.1", 0) as url, Fetcher(DEV) as fetcher:
        mirror = Mirror(url, dev=True)
        yield Follower(mirror, pool, fetcher, rate=1e6, **options), mirror, url


def logs(pool: Pool, *dids: Did) -> list[list[str]]:
    """Handles of each log in order; a nullified one in brackets."""
    with pool.connection() as conn:
        found = operation_log.load_logs(conn, dids)
    shown = []
    for did in dids:
        names = []
        for item in found.get(did, []):
            name = getattr(item.operation, "also_known_as", ("gone",))[0]
            name = name.removeprefix("at://").partition(".")[0]
            names.append(f"[{name}]" if item.nullified else name)
        shown.append(names)
    return shown


def doubts(pool: Pool) -> dict[Did, str]:
    with pool.connection() as conn:
        return operation_log.load_doubts(conn)


def state(pool: Pool, url: str) -> operation_log.FeedState:
    with pool.connection() as conn:
        return operation_log.load_feed(conn, url)


def test_pages_are_read_to_the_end_and_the_log_is_the_directorys(pool: Pool) -> None:
    peer = Peer()
    dids = []
    for number in range(25):
        did, first = genesis(number, f"https://pds{number % 3}.example.com")
        dids.append(did)
        peer.add(did, first, NOW - 1_000_000)
        if number % 2:
            peer.add(did, rename(first, number), NOW - 900_000)

    async def run() -> None:
        async with following(peer.app(), pool, page=10) as (follower, _, url):
            assert await follower.catch_up() == 37
            assert state(pool, url).seq == 37
            assert state(pool, url).operations == 37
            assert await follower.catch_up() == 0
            assert [q.partition("after=")[2] for q in peer.asked] == [
                # What ends long ago is no end; and our place must be there still.
                *("0", "10", "20", "30", "37"),
                *("36", "37"),
            ]

    asyncio.run(run())
    assert logs(pool, *dids[:2]) == [["n0"], ["n1", "r1"]]
    assert doubts(pool) == {}
    with pool.connection() as conn:
        hosts = operation_log.hosts_after(conn, 0)
        assert [url for _, url in hosts] == [
            f"https://pds{number}.example.com" for number in range(3)
        ]
        assert operation_log.hosts_after(conn, hosts[1][0]) == [hosts[2]]
        assert operation_log.mirror_size(conn).logs == 25


def test_what_the_mirror_holds_is_the_log_byte_for_byte(pool: Pool) -> None:
    did, first = genesis(1)
    legacy = sign_operation(
        LegacyCreate(
            signing_key=SERVER.public.did_key,
            recovery_key=OWNER.public.did_key,
            handle="old.example.com",
            service="https://old.example.com",
        ),
        SERVER,
    )
    old = did_for_genesis(legacy)
    strange = sign_operation(
        create_update(legacy, OWNER, signing_key="did:key:zStrange"), OWNER
    )
    log = [entry(did, first, NOW)]
    log.append(entry(did, rename(first, 2), NOW + 5))
    tombstone = create_tombstone(rename(first, 2), SERVER)
    log.append(entry(did, tombstone, NOW + 90))
    other = [entry(old, legacy, 7), entry(old, strange, 8)]
    with pool.connection() as conn:
        operation_log.save_logs(conn, {did: log, old: other})
        assert operation_log.load_logs(conn, [did, old]) == {did: log, old: other}


def test_an_export_by_time_loses_nothing_where_times_tie(pool: Pool) -> None:
    peer = Peer()
    peer.numbered = False
    dids = []
    for number in range(40):
        did, first = genesis(number)
        dids.append(did)
        # Seven of each time, so that every page of ten is torn within one.
        peer.add(did, first, NOW - 1_000_000 + number // 7)

    async def run() -> None:
        async with following(peer.app(), pool, page=10) as (follower, _, _):
            assert await follower.catch_up() == 40

    asyncio.run(run())
    assert all(log for log in logs(pool, *dids))


def test_a_time_with_more_operations_than_a_page_is_not_passed_over(pool: Pool) -> None:
    peer = Peer()
    peer.numbered = False
    for number in range(30):
        did, first = genesis(number)
        peer.add(did, first, NOW - 1_000_000)

    async def run() -> None:
        async with following(peer.app(), pool, page=10) as (follower, _, _):
            with pytest.raises(TornExportError):
                await follower.catch_up()

    asyncio.run(run())


def test_our_own_directory_is_followed_by_time_too(pool: Pool, plc_pool: Pool) -> None:
    """It never tears a time apart: a page may be longer than was asked for."""
    with plc_pool.connection() as conn:
        for number in range(12):
            accept(conn, *genesis(number), NOW)

    async def run() -> None:
        app = create_app(plc_pool)
        async with following(app, pool, page=5) as (follower, _, url):
            with pool.connection() as conn:
                operation_log.lock_feed(conn, url)
                conn.execute("UPDATE plc_feed SET time_ms = 1")
            assert await follower.catch_up() == 12

    asyncio.run(run())


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
def test_a_lie_leaves_the_did_at_what_was_proven(pool: Pool, lie: Lie) -> None:
    peer = Peer()
    did, first = genesis(1)
    other, other_first = genesis(2)
    peer.add(did, first, NOW - 700_000)
    peer.add(did, rename(first, 1), NOW - 600_000)
    now = NOW + 100 * HOUR_MS if lie is late_recovery else NOW

    async def run() -> None:
        async with following(peer.app(), pool, now=lambda: now / 1_000) as (
            follower,
            _,
            url,
        ):
            await follower.catch_up()
            lie(peer, did, first)
            peer.add(other, other_first, NOW - 400_000)
            await follower.catch_up()
            assert logs(pool, did, other) == [["n1", "r1"], ["n2"]]
            assert list(doubts(pool)) == [did]
            assert state(pool, url).seq == 4
            # What is proven goes on while the doubt stands.
            peer.add(did, rename(rename(first, 1), 2), now)
            await follower.catch_up()
            assert logs(pool, did) == [["n1", "r1", "r2"]]

    asyncio.run(run())


def test_a_stronger_key_recovers_in_time(pool: Pool) -> None:
    peer = Peer()
    did, first = genesis(1)
    peer.add(did, first, NOW - 80 * HOUR_MS)
    peer.add(did, rename(first, 1), NOW - 70 * HOUR_MS)
    peer.add(did, rename(first, 2, OWNER), NOW - 10 * HOUR_MS)

    async def run() -> None:
        async with following(peer.app(), pool) as (follower, _, _):
            await follower.catch_up()

    asyncio.run(run())
    assert logs(pool, did) == [["n1", "[r1]", "r2"]]
    assert doubts(pool) == {}


def test_an_operation_of_the_list_of_exceptions_is_taken(pool: Pool) -> None:
    did, first = genesis(1)
    odd = sign_operation(rename(first, 1), THIEF)
    later = rename(odd, 2)
    lines = [
        read_page(_body(line(did, op, NOW + n, n + 1)))[0]
        for n, op in enumerate((first, odd, later))
    ]
    with pool.connection() as conn:
        mirror = Mirror("http://plc.test", tolerated={lines[1].cid})
        taken = mirror.take_in(conn, lines, NOW + 10)
    assert taken.new == 3
    assert taken.doubts == {}
    assert taken.tolerated == (lines[1].cid,)

    async def read_audit() -> list[dict[str, Any]]:
        app = create_mirror_app(pool, "http://plc.test", tolerated={lines[1].cid})
        async with serving(app, "127.0.0.1", 0) as url, Fetcher(DEV) as fetcher:
            audit: list[dict[str, Any]] = (
                await fetcher.get(f"{url}/{did}/log/audit")
            ).json()
            return audit

    flags = [item.get("tolerated", False) for item in asyncio.run(read_audit())]
    assert flags == [False, True, False]


def test_what_was_taken_on_trust_may_be_taken_out_again(pool: Pool) -> None:
    """The public directory removed such operations, long after they were made."""
    did, first = genesis(1)
    odd = sign_operation(rename(first, 1), THIEF)
    after = rename(first, 3)
    old = NOW - 1_000 * HOUR_MS
    lines = [line(did, first, old, 1), line(did, odd, old + 1, 2)]
    forgotten = [entry(did, first, old).to_json(), entry(did, after, NOW).to_json()]
    mirror = Mirror("http://plc.test", tolerated={operation_cid(odd)})
    with pool.connection() as conn:
        mirror.take_in(conn, read_page(_body(*lines)), NOW)
        with pytest.raises(RewrittenLogError):  # what is not on the list stays
            Mirror("http://plc.test").take_log(conn, did, forgotten, NOW)
        lines = [line(did, after, NOW, 3)]
        assert mirror.take_in(conn, read_page(_body(*lines)), NOW).doubts == {}
        assert logs(pool, did) == [["n1", "[r1]", "r3"]]
        mirror.take_log(conn, did, forgotten, NOW)
    assert logs(pool, did) == [["n1", "r3"]]


def test_a_whole_log_of_the_future_is_not_taken(pool: Pool) -> None:
    """Nothing could ever follow it."""
    did, first = genesis(1)
    with pool.connection() as conn:
        mirror = Mirror("http://plc.test")
        ahead = entry(did, first, NOW + 1_000 * HOUR_MS).to_json()
        with pytest.raises(BadExportError):
            mirror.take_log(conn, did, [ahead], NOW)
        assert logs(pool, did) == [[]]
        mirror.take_log(conn, did, [entry(did, first, NOW + 1_000).to_json()], NOW)
    assert logs(pool, did) == [["n1"]]


def test_a_doubt_ends_with_a_whole_log_that_is_proven(pool: Pool) -> None:
    peer = Peer()
    did, first = genesis(1)
    second = rename(first, 1)
    third = rename(second, 2)
    stranger, _ = genesis(2)
    peer.add(did, first, NOW - 700_000)
    peer.add(did, third, NOW - 500_000)
    peer.add(stranger, rename(genesis(2)[1], 1), NOW - 500_000)
    log = [entry(did, first, NOW - 700_000), entry(did, second, NOW - 600_000)]
    log.append(entry(did, third, NOW - 500_000))

    async def run() -> None:
        async with following(peer.app(), pool) as (follower, _, _):
            await follower.catch_up()
            assert set(doubts(pool)) == {did, stranger}
            peer.logs[did] = [e.to_json() for e in log]
            assert await follower.heal() == 1
            assert logs(pool, did) == [["n1", "r1", "r2"]]
            # The first answers may be of a copy that is behind.
            for _ in range(5):
                assert did in doubts(pool)
                with pool.connection() as conn:
                    conn.execute("UPDATE plc_doubt SET next_try = now()")
                await follower.heal()
            assert doubts(pool) == {}

    asyncio.run(run())


def test_a_directory_of_which_little_can_be_proven_is_not_read_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could fill the table of doubts for as long as it likes."""
    monkeypatch.setattr(operation_log, "MAX_DOUBTS", 5)
    peer = Peer()
    peer.most = 4
    good, first = genesis(0)
    peer.add(good, first, NOW - 800_000)
    for number in range(1, 40):
        did, first = genesis(number)
        peer.add(did, rename(first, number), NOW - 700_000)

    async def run() -> None:
        async with following(peer.app(), pool) as (follower, _, url):
            for _ in range(3):
                with pytest.raises(BadExportError, match="too much"):
                    await follower.catch_up()
            assert state(pool, url).seq == 4
            # But those are asked for, so that it can be.
            stop = asyncio.Event()
            running = asyncio.create_task(follower.run(stop))
            async with asyncio.timeout(10):
                while not asked():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                stop.set()
                await running

    def asked() -> bool:
        with pool.connection() as conn:
            row = conn.execute("SELECT sum(tries) FROM plc_doubt").fetchone()
        return row is not None and row[0] > 0

    asyncio.run(run())
    assert logs(pool, good) == [["n0"]]
    assert len(doubts(pool)) == 3


def test_a_whole_log_that_was_rewritten_is_not_taken(pool: Pool) -> None:
    """Proven in itself, by the account's own keys, and yet not what was published."""
    peer = Peer()
    did, first = genesis(1)
    peer.add(did, first, NOW - 700_000)
    peer.add(did, rename(first, 1), NOW - 600_000)
    peer.add(did, rename(first, 2), NOW - 500_000)
    rewritten = [entry(did, first, NOW - 700_000)]
    rewritten.append(entry(did, rename(first, 2), NOW - 600_000))

    async def run() -> None:
        async with following(peer.app(), pool) as (follower, _, _):
            await follower.catch_up()
            peer.logs[did] = [e.to_json() for e in rewritten]
            assert await follower.heal() == 0
            assert logs(pool, did) == [["n1", "r1"]]
            assert doubts(pool)[did].startswith(RewrittenLogError.__name__)
            # Asked again later and later, not at once.
            assert await follower.heal() == 0
            with pool.connection() as conn:
                assert operation_log.claim_doubts(conn, 10) == []

    asyncio.run(run())


def _body(*lines: dict[str, Any]) -> bytes:
    return b"\n".join(json.dumps(x).encode() for x in lines)


def test_a_directory_with_shorter_pages_is_read_to_the_end(pool: Pool) -> None:
    peer = Peer()
    peer.most = 3
    for number in range(10):
        peer.add(*genesis(number), NOW - 1_000_000)

    async def run() -> None:
        async with following(peer.app(), pool) as (follower, _, url):
            assert await follower.catch_up() == 10
            assert state(pool, url).caught_up_at is not None

    asyncio.run(run())


def test_a_directory_without_our_place_is_not_one_we_are_up_with(pool: Pool) -> None:
    """It was set back, or it gave a number too high once."""
    peer = Peer()
    first, second, third = genesis(1), genesis(2), genesis(3)
    peer.add(*first, NOW - 5_000)
    peer.add(*second, NOW - 4_000)
    peer.lines[-1]["seq"] = 2**53 - 1

    async def run() -> None:
        async with following(peer.app(), pool) as (follower, _, url):
            await follower.catch_up()
            before = state(pool, url).caught_up_at
            assert before is not None
            peer.lines[-1]["seq"] = 2
            peer.add(*third, NOW - 3_000)
            with pytest.raises(LostPlaceError):
                await follower.catch_up()
            assert state(pool, url).caught_up_at == before

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_a_directory_that_numbered_anew_is_read_from_its_beginning(
    pool: Pool, stream: bool
) -> None:
    """Rebuilt in another order: what was new there lies behind our number."""
    peer = Peer()
    old, new = [genesis(n) for n in range(5)], [genesis(n) for n in range(5, 9)]
    for number, (did, operation) in enumerate(old):
        peer.add(did, operation, NOW - 1_000_000 + number)

    async def run() -> None:
        async with following(peer.app(), pool, stream=stream) as (follower, _, url):
            assert await follower.catch_up() == 5
            peer.lines.clear()
            for number, (did, operation) in enumerate([*new, *old]):
                peer.add(did, operation, NOW - 1_000_000 + number)
            with pytest.raises(RenumberedError):
                await follower.catch_up()
            # Nobody is answered from a mirror that may have missed something.
            assert state(pool, url).caught_up_at is None
            assert await follower.catch_up() == 4
            assert state(pool, url).seq == 9
            assert state(pool, url).caught_up_at is not None

    asyncio.run(run())
    assert logs(pool, *(did for did, _ in [*old, *new])) == [
        [f"n{n}"] for n in range(9)
    ]


def test_an_operation_that_was_taken_out_at_our_place_is_no_other(pool: Pool) -> None:
    peer = Peer()
    for number in range(4):
        peer.add(*genesis(number), NOW - 1_000_000)

    async def run() -> None:
        async with following(peer.app(), pool) as (follower, _, url):
            assert await follower.catch_up() == 4
            del peer.lines[3]
            peer.lines.append(line(*genesis(5), NOW - 900_000, 5))
            assert await follower.catch_up() == 1
            assert state(pool, url).seq == 5

    asyncio.run(run())


def test_lines_of_later_kinds_are_passed_over(pool: Pool) -> None:
    peer = Peer()
    did, first = genesis(1)
    for seq in (1, 2, 4):
        peer.lines.append({"type": "news", "seq": seq, "did": 7})
    peer.lines.insert(2, line(did, first, NOW - 5_000, 3) | {"type": "sequenced_op"})

    async def run() -> None:
        async with following(peer.app(), pool, page=2) as (follower, _, url):
            assert await follower.catch_up() == 1
            assert state(pool, url).seq == 4
            assert logs(pool, did) == [["n1"]]
            assert doubts(pool) == {}

    asyncio.run(run())
    with pytest.raises(BadExportError):  # without a place nothing can be passed
        parse_line(_body({"type": "news"}))


def test_a_log_that_cannot_be_had_holds_up_no_other(pool: Pool) -> None:
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

    async def run() -> None:
        async with following(peer.app(), pool) as (follower, _, _):
            await follower.catch_up()
            assert await follower.heal() == 3

    asyncio.run(run())
    assert all(logs(pool, *healthy))
    assert not any(logs(pool, *broken))


def test_an_export_out_of_order_is_not_read_on(pool: Pool) -> None:
    peer = Peer()
    for number in range(4):
        did, first = genesis(number)
        peer.add(did, first, NOW - 700_000)
    peer.lines[2]["seq"], peer.lines[3]["seq"] = 4, 3

    async def run() -> None:
        async with following(peer.app(), pool) as (follower, _, url):
            with pytest.raises(BadExportError):
                await follower.catch_up()
            assert state(pool, url).seq is None

    asyncio.run(run())


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
def test_a_line_without_its_place_stops_the_reading(change: dict[str, Any]) -> None:
    did, first = genesis(1)
    good = line(did, first, NOW, 5)
    assert parse_line(_body(good)).seq == 5
    with pytest.raises(BadExportError):
        parse_line(_body(good | change))


def test_the_longest_operations_stop_nobody() -> None:
    """Whoever registers a page of them must not end the reading for all."""
    did, first = genesis(1)
    longest = replace(first, also_known_as=("\1" * 7_000,))
    raw = _body(line(did, longest, NOW, 5))
    assert parse_line(raw).operation is not None
    assert PAGE * len(raw) <= MAX_PAGE_BYTES
    too_long = _body(line(did, replace(first, also_known_as=("a" * 100_000,)), NOW, 5))
    assert parse_line(too_long).operation is None
    assert parse_line(too_long).seq == 5


def test_lines_and_cursor_are_one_transaction(pool: Pool) -> None:
    """What a crash in between leaves is the state before."""
    did, first = genesis(1)
    lines = read_page(_body(line(did, first, NOW, 5)))
    mirror = Mirror("http://plc.test")

    class CrashError(Exception):
        pass

    def crash(*_: Any, **__: Any) -> None:
        raise CrashError

    for name in ("move_feed", "save_logs"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(operation_log, name, crash)
            with pytest.raises(CrashError), pool.connection() as conn:
                mirror.take_in(conn, lines, NOW)
        assert logs(pool, did) == [[]]
        assert state(pool, "http://plc.test").seq is None
    with pool.connection() as conn:
        assert mirror.take_in(conn, lines, NOW).new == 1
        assert mirror.take_in(conn, lines, NOW).repeated == 1


def test_the_stream_brings_what_pages_left(pool: Pool, plc_pool: Pool) -> None:
    did, first = genesis(1)
    second = rename(first, 1)
    later, later_first = genesis(2)

    async def run() -> None:
        with plc_pool.connection() as conn:
            accept(conn, did, first, NOW)
        app = create_app(plc_pool, poll_s=0.05, now_ms=lambda: NOW)
        stop = asyncio.Event()
        async with following(app, pool, stream=True, poll_s=3_600.0) as (
            follower,
            _,
            url,
        ):
            running = asyncio.create_task(follower.run(stop))
            await _until(lambda: state(pool, url).seq == 1)
            with plc_pool.connection() as conn:
                accept(conn, did, second, NOW + 1)
            await _until(lambda: logs(pool, did) == [["n1", "r1"]])
            with plc_pool.connection() as conn:
                accept(conn, later, later_first, NOW + 2)
            await _until(lambda: logs(pool, later) == [["n2"]])
            assert state(pool, url).seq == 3
            stop.set()
            await asyncio.wait_for(running, 60)

    asyncio.run(run())


def test_a_directory_without_a_stream_is_polled(pool: Pool) -> None:
    peer = Peer()
    stop = asyncio.Event()

    async def run() -> None:
        async with following(peer.app(), pool, stream=True, poll_s=0.05) as (
            follower,
            _,
            _,
        ):
            first = genesis(1)
            peer.add(*first, NOW - 5_000)
            running = asyncio.create_task(follower.run(stop))
            await _until(lambda: logs(pool, first[0]) == [["n1"]])
            second = genesis(2)
            peer.add(*second, NOW - 4_000)
            await _until(lambda: logs(pool, second[0]) == [["n2"]])
            stop.set()
            await asyncio.wait_for(running, 60)

    asyncio.run(run())


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(done):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def test_look_ups_are_answered_while_the_mirror_is_fresh(pool: Pool) -> None:
    peer = Peer()
    did, first = genesis(1)
    gone, gone_first = genesis(2)
    peer.add(did, first, NOW - 700_000)
    peer.add(gone, gone_first, NOW - 700_000)
    peer.add(gone, create_tombstone(gone_first, SERVER), NOW - 600_000)

    async def run() -> None:
        async with following(peer.app(), pool) as (follower, _, url):
            clock = [NOW / 1_000 + 1]
            lookup = MirrorLookup(pool, url, now=lambda: clock[0])
            assert await lookup.find(did) is None  # nothing was ever read
            await follower.catch_up()
            found = await asyncio.gather(*(lookup.find(did) for _ in range(20)))
            assert found[0] is not None
            assert found[0].document == operation_document(did, first)
            assert all(one == found[0] for one in found)
            unknown = await lookup.find("did:plc:" + "a" * 24)
            assert unknown is None
            clock[0] += 59
            async with Fetcher(DEV) as fetcher:
                # The peer serves no documents: only the mirror can have answered.
                resolver = IdentityResolver(fetcher, url, mirror=lookup)
                document = await resolver.resolve_did(did)
                assert document.handles == ("n1.example.com",)
                with pytest.raises(DidTombstonedError):
                    await resolver.resolve_did(gone)
            clock[0] += 2
            assert await lookup.find(did) is None  # too old

    asyncio.run(run())


def test_a_refresh_asks_the_directory_itself() -> None:
    class Never:
        async def find(self, did: str) -> None:
            raise AssertionError("a mirror may be seconds behind")

    async def run() -> None:
        async with Fetcher(DEV) as fetcher:
            from network.errors import NetworkError
            from network.http.breaker import Breaker

            sources = DidSources(
                fetcher,
                "http://127.0.0.1:1",
                Breaker(5, 1.0, lambda: 0.0),
                dev=True,
                mirror=Never(),
            )
            with pytest.raises(NetworkError):
                await sources.fetch(genesis(1)[0], direct=True)

    asyncio.run(run())


def test_the_mirror_serves_what_a_directory_serves(pool: Pool) -> None:
    did, first = genesis(1)
    undone = entry(did, rename(first, 1), NOW + 1)
    log = [entry(did, first, NOW), undone]
    with pool.connection() as conn:
        operation_log.save_logs(conn, {did: log})
        operation_log.note_caught_up(conn, "https://plc.test", NOW / 1_000)

    async def run() -> None:
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

    asyncio.run(run())


def test_the_list_of_exceptions_is_a_list_of_cids(tmp_path: Path) -> None:
    assert len(load_exceptions()) == 6_027
    path = tmp_path / "exceptions.txt"
    cid = "bafyreibvt3g3zh36v2bqgiksjozfhzs2vzpagpjxjn25qvlbluipiill2q"
    path.write_text(f"# comment\n\n{cid}  # why\n")
    assert load_exceptions(path) == {cid}
    path.write_text("bafy\n")
    with pytest.raises(InvalidEncodingError):
        load_exceptions(path)


def test_operations_are_encoded_as_strictly_as_anything_else() -> None:
    texts = ["", "b", "aa", "é", "\0", "日" * 9, "z" * 24, "z" * 256]
    first = genesis(1)[1]
    odd = replace(
        first,
        verification_methods=dict.fromkeys(texts, "did:key:z"),
        also_known_as=tuple(texts),
    )
    for operation in (first, odd, rename(first, 2)):
        assert operation_bytes(operation) == cbor.encode(operation_json(operation))
    with pytest.raises(InvalidEncodingError):
        operation_bytes(replace(first, also_known_as=("\ud800",)))
