"""Frames that wait for look-ups: whose they are, how many, and who gives some up."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from crawler.hosts.host_name import HostName
from crawler.live.gate_frame import GateFrame
from crawler.live.parking import Parking
from crawler.live.stream_state import StreamState
from crawler.settings import CrawlSettings
from protocol.syntax.did import Did

SETTINGS = CrawlSettings(
    parked_bytes=60_000,
    parked_dids=5,
    parked_dids_per_host=4,
    parked_frames_per_did=3,
)
COST = 1_024


def stream(host: int, *, trusted: bool = False) -> StreamState:
    return StreamState(host, HostName(f"h{host}.example.com"), trusted=trusted)


def frame(on: StreamState, did: str, seq: int, size: int = 10) -> GateFrame:
    return GateFrame(on, "#commit", Did(did), seq, {}, bytes(size))


def web(number: int) -> str:
    return f"did:web:a{number}.example.com"


def test_a_host_has_so_many_accounts_waiting_and_no_more() -> None:
    parking, host = Parking(SETTINGS), stream(1)
    for n in range(4):
        assert parking.has_room(frame(host, web(n), n))
        assert parking.put(frame(host, web(n), n))
    assert not parking.has_room(frame(host, web(9), 9))
    assert parking.has_room(frame(stream(2), web(9), 9))
    assert not parking.full, "others go on"
    parking.take(Did(web(0)))
    assert parking.has_room(frame(host, web(9), 9))


def test_what_is_trusted_to_be_answered_soon_stops_the_reading_instead() -> None:
    parking, relay = Parking(SETTINGS), stream(1, trusted=True)
    for n in range(5):
        assert not parking.full
        assert parking.has_room(frame(relay, f"did:plc:{n}", n))
        parking.put(frame(relay, f"did:plc:{n}", n))
    assert parking.full
    assert parking.shed() == []
    parking.take(Did("did:plc:0"))
    assert not parking.full
    parking.put(frame(relay, "did:plc:1", 9, size=60_000))
    assert parking.full


def test_through_a_trusted_host_too_domains_keep_nobody_waiting() -> None:
    parking, relay = Parking(SETTINGS), stream(1, trusted=True)
    for n in range(4):
        parking.put(frame(relay, web(n), n, size=20_000))
    assert not parking.full
    assert not parking.has_room(frame(relay, web(9), 9))
    assert [f.seq for f in parking.shed()] == [3, 2]


def test_who_has_most_gives_up_what_he_said_last() -> None:
    parking, liar, honest = Parking(SETTINGS), stream(1), stream(2)
    for n, size in enumerate((15_000, 15_000, 15_000)):
        parking.put(frame(liar, web(n), n, size))
    parking.put(frame(honest, web(7), 70, 4_000))
    parking.put(frame(honest, web(2), 71, 4_000))
    assert parking.shed() == []
    parking.put(frame(honest, web(8), 72, 5_000))
    assert [f.seq for f in parking.shed()] == [2]
    # The account waits still, for the order of what comes, and others' frames stay.
    assert [f.seq for f in parking.take(Did(web(2)))] == [71]
    assert [f.seq for f in parking.take(Did(web(8)))] == [72]


def test_one_host_does_not_use_up_the_places_of_another_at_an_account() -> None:
    parking, liar, honest = Parking(SETTINGS), stream(1), stream(2)
    assert [parking.put(frame(liar, web(1), n)) for n in range(5)] == [True] * 3 + [
        False,
        False,
    ]
    assert not parking.has_asked(frame(honest, web(1), 10))
    assert parking.put(frame(honest, web(1), 10))
    assert parking.has_asked(frame(honest, web(1), 11))
    assert [f.seq for f in parking.take(Did(web(1)))] == [0, 1, 2, 10]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_bounds_and_order_hold(seed: int) -> None:
    draw = random.Random(seed)
    parking = Parking(SETTINGS)
    streams = [stream(n, trusted=n == 0) for n in range(6)]
    waiting: defaultdict[str, list[GateFrame]] = defaultdict(list)

    going: Counter[str] = Counter()

    def size_of(host: int) -> int:
        return sum(
            len(f.raw) + COST
            for frames in waiting.values()
            for f in frames
            if f.stream.host == host
        )

    for seq in range(600):
        if draw.random() < 0.2:
            did = web(draw.randrange(12))
            assert parking.take(Did(did)) == waiting.pop(did, [])
            continue
        # One host sends what is large, and much of it.
        host = draw.choice([0, 1, 1, 1, 2, 3, 4, 5])
        size = draw.randrange(20_000) if host == 1 else draw.randrange(2_000)
        new = frame(streams[host], web(draw.randrange(12)), seq, size)
        if not parking.has_asked(new) and not parking.has_room(new):
            accounts = {
                d for d in waiting if any(f.stream is new.stream for f in waiting[d])
            }
            assert len(accounts) <= 4
            continue
        if parking.put(new):
            waiting[new.did].append(new)
        for given_up in parking.shed():
            sizes = [size_of(n) for n in range(6)]
            account = [f for f in waiting[given_up.did] if f.stream is given_up.stream]
            # An account of whoever had most goes whole; before its first frame went
            # there was too much.
            most = sizes[given_up.stream.host] + going[given_up.did]
            assert most == max([*sizes, most])
            going[given_up.did] += len(given_up.raw) + COST
            if len(account) == 1:
                del going[given_up.did]
            waiting[given_up.did].remove(given_up)
        assert sum(size_of(n) for n in range(6)) <= SETTINGS.parked_bytes
    for did in list(waiting):
        assert parking.take(Did(did)) == waiting.pop(did)
    for n in range(12):
        parking.take(Did(web(n)))
    assert len(parking) == 0
    assert all(parking.has_room(frame(s, web(1), 1)) for s in streams)
