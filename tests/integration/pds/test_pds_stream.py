"""The event stream over a real WebSocket, and crawl requests to indexers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from pds_world import Client, World, post, sign_up, signing_key_of
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.live.verify import verify_commit
from pds.host import utc_now
from pds.sync.sequencer import prune
from protocol.events.event import CommitEvent
from protocol.events.frames import Frame
from protocol.identity.keys import PublicKey

NOTE = "dev.example.note"
APPLY = "com.atproto.repo.applyWrites"
DELETE = "com.atproto.repo.deleteRecord"


def note(text: str) -> dict[str, Any]:
    return {"$type": NOTE, "text": text}


def check(frame: Frame, key: PublicKey) -> CommitEvent:
    return verify_commit(frame.body, key, time.time_ns() // 1000)


def test_commits_verify_and_follow_each_other(world: World, server: Client) -> None:
    with server.subscribe() as receive:
        alice = sign_up(server, "alice.a.test")
        key = signing_key_of(world.plc_url, alice.did)
        births = [receive() for _ in range(4)]
        for n in range(30):
            alice.create(note(f"{n}"), rkey=f"k{n}")
        alice.create(post("hello"))
        for n in range(0, 30, 3):
            alice.post(DELETE, {"repo": alice.did, "collection": NOTE, "rkey": f"k{n}"})
        for step in range(5):
            writes: list[dict[str, Any]] = [
                {
                    "$type": f"{APPLY}#create",
                    "collection": NOTE,
                    "rkey": f"b{step}-{n}",
                    "value": note(f"{n}"),
                }
                for n in range(40)
            ]
            writes += [
                {
                    "$type": f"{APPLY}#delete",
                    "collection": NOTE,
                    "rkey": f"b{step - 1}-{n}",
                }
                for n in range(0, 40, 2)
                if step
            ]
            writes.append(
                {
                    "$type": f"{APPLY}#update",
                    "collection": NOTE,
                    "rkey": "k1",
                    "value": note(f"changed {step}"),
                }
            )
            answer = alice.post(APPLY, {"repo": alice.did, "writes": writes})
            assert answer.status == 200
        frames = [receive() for _ in range(30 + 1 + 10 + 5)]
    assert [frame.t for frame in births] == [
        "#identity",
        "#account",
        "#commit",
        "#sync",
    ]
    seqs = [frame.body["seq"] for frame in births + frames]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    events = [check(frame, key) for frame in (births[2], *frames)]
    assert not any(event.drops for event in events)
    for before, after in pairwise(events):
        assert after.since == before.rev < after.rev
        assert after.prev_data == before.data
    assert events[-1].rev == head_rev(alice)


def head_rev(client: Client) -> str:
    latest = client.get("com.atproto.sync.getLatestCommit", did=client.did)
    return str(latest.json["rev"])


def test_concurrent_writers_make_one_history(world: World, server: Client) -> None:
    bob = sign_up(server, "bob.a.test")
    key = signing_key_of(world.plc_url, bob.did)

    def work(writer: int) -> None:
        for n in range(20):
            answer = bob.create(note(f"{writer} {n}"), rkey=f"w{writer}-{n}")
            assert answer.status == 200

    with server.subscribe() as receive:
        with ThreadPoolExecutor(20) as threads:
            list(threads.map(work, range(20)))
        frames = [receive() for _ in range(400)]
    events = [check(frame, key) for frame in frames]
    for before, after in pairwise(events):
        assert after.since == before.rev
        assert after.prev_data == before.data
    paths = {op.rkey for event in events for op in event.ops}
    assert len(paths) == 400
    assert events[-1].rev == head_rev(bob)


def test_cursor_resumes_exactly(server: Client) -> None:
    carol = sign_up(server, "carol.a.test")
    for n in range(10):
        carol.create(note(f"{n}"))
    with server.subscribe(0) as receive:
        rev = head_rev(carol)
        everything = [receive()]
        while everything[-1].body.get("rev") != rev or everything[-1].t != "#commit":
            everything.append(receive())
    seqs = [frame.body["seq"] for frame in everything]
    assert seqs == sorted(set(seqs))
    middle = len(seqs) // 2
    resumed = server.frames(len(seqs) - middle - 1, cursor=seqs[middle])
    assert [frame.body["seq"] for frame in resumed] == seqs[middle + 1 :]
    assert resumed == everything[middle + 1 :]
    with server.subscribe(seqs[-1]) as receive:
        carol.create(note("next"))
        assert receive().body["seq"] == seqs[-1] + 1


def test_future_cursor_is_refused(server: Client) -> None:
    (frame,) = server.frames(1, cursor=2**40)
    assert (frame.op, frame.body["error"]) == (-1, "FutureCursor")


def test_old_cursor_gets_an_outdated_info(world: World) -> None:
    with world.serve_pds("old") as server:
        dora = sign_up(server, "dora.old.test")
        for n in range(5):
            dora.create(note(f"{n}"))
        with world.pool("old").connection() as conn:
            prune(conn, utc_now())
        dora.create(note("kept"))
        info, kept = server.frames(2, cursor=2)
        assert (info.t, info.body["name"]) == ("#info", "OutdatedCursor")
        assert kept.body["seq"] == 10
        # Cursor 0 means the oldest event.
        (frame,) = server.frames(1, cursor=0)
        assert frame.body["seq"] == 10


def test_stream_continues_after_a_restart(world: World) -> None:
    with world.serve_pds("again") as server:
        erin = sign_up(server, "erin.again.test")
        erin.create(note("before"))
        before = server.frames(5, cursor=0)
        rev = head_rev(erin)
    with world.serve_pds("again") as server:
        client = Client(server.url, did=erin.did)
        login = {"identifier": erin.did, "password": "correct horse battery"}
        session = client.post("com.atproto.server.createSession", login).json
        client.token = session["accessJwt"]
        assert client.create(note("after")).status == 200
        after = server.frames(6, cursor=0)
    assert after[:5] == before
    assert after[5].body["seq"] == 6
    assert after[5].body["since"] == rev


def test_event_arrives_at_once(server: Client) -> None:
    fred = sign_up(server, "fred.a.test")
    delays = []
    with server.subscribe() as receive:
        for n in range(20):
            started = time.perf_counter()
            fred.create(note(f"{n}"))
            receive()
            delays.append(time.perf_counter() - started)
    # Well below the poll interval of one second.
    assert sorted(delays)[10] < 0.5


class Indexer:
    """Records crawl requests; refuses the first one."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    def app(self) -> Starlette:
        path = "/xrpc/com.atproto.sync.requestCrawl"
        return Starlette(routes=[Route(path, self._serve, methods=["POST"])])

    async def _serve(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        return JSONResponse({}, 503 if len(self.bodies) == 1 else 200)

    def wait(self, count: int) -> None:
        deadline = time.monotonic() + 15
        while len(self.bodies) < count:
            assert time.monotonic() < deadline, self.bodies
            time.sleep(0.05)


def test_indexers_get_crawl_requests_at_start_and_on_news(world: World) -> None:
    indexer = Indexer()
    url = world.serve(indexer.app())
    with world.serve_pds(
        "news", indexer_urls=(url, "http://127.0.0.1:9"), crawl_notice_interval=0.2
    ) as server:
        # The first request was refused and comes again.
        indexer.wait(2)
        name = server.url.removeprefix("http://")
        assert indexer.bodies == [{"hostname": name}] * 2
        time.sleep(1)
        assert len(indexer.bodies) == 2
        sign_up(server, "gina.news.test")
        indexer.wait(3)
