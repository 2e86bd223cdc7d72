"""Matches as a WebSocket and as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from appview_world import Provider
from small_world import did

from appview.views.saved_search import stream_key
from protocol.events.frames import decode_frame
from search.matches.match_log import append_matches, load_tail, prune_matches
from storage.postgres.pool import Conn
from storage.private.saved_searches import delete_search, save_search
from storage.records.addresses import find_addresses

NOW = datetime.now(UTC)


@dataclass
class Matches:
    """Two saved searches, and a way to log matches of them."""

    provider: Provider
    searches: list[int]

    @property
    def keys(self) -> list[str]:
        secret = self.provider.app.cursor_secret
        return [stream_key(secret, search) for search in self.searches]

    def url(self, path: str, *keys: str, **params: Any) -> str:
        query = [
            *(f"key={key}" for key in keys),
            *(f"{k}={v}" for k, v in params.items()),
        ]
        return f"{self.provider.url}{path}?{'&'.join(query)}"

    def socket(self, *keys: str, **params: Any) -> str:
        return self.url("/xrpc/bigworld.search.subscribeMatches", *keys, **params)

    def log(self, search: int, *names: str) -> int:
        """Log matches of a search; return the number of the last."""
        with self.provider.app.pool.connection() as conn:
            uris = [self.provider.uris[name] for name in names]
            addresses = find_addresses(conn, uris)
            found = [(self.searches[search], addresses[uri]) for uri in uris]
            append_matches(conn, found, NOW)
            return load_tail(conn)

    def tail(self) -> int:
        with self.provider.app.pool.connection() as conn:
            return load_tail(conn)


@pytest.fixture
def matches(provider: Provider) -> Iterator[Matches]:
    private = provider.app.private

    def save(conn: Conn, query: str) -> int:
        saved = save_search(
            conn, did("alice"), query, NOW, collections=[], accounts={}, listed=True
        )
        assert saved is not None
        return saved.id

    with private.write() as conn:
        searches = [save(conn, "quokka"), save(conn, "wombat")]
    yield Matches(provider, searches)
    with private.write() as conn:
        for search in searches:
            delete_search(conn, did("alice"), search)


async def test_socket_replays_and_goes_on(matches: Matches) -> None:
    before = matches.tail()
    matches.log(0, "hello", "picture")
    matches.log(1, "reply")
    url = matches.socket(matches.keys[0], cursor=before)
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        frames = [decode_frame(await socket.receive_bytes()) for _ in range(2)]
        assert {frame.t for frame in frames} == {"#match"}
        uris = matches.provider.uris
        assert [f.body["uri"] for f in frames] == [uris["hello"], uris["picture"]]
        first = frames[0].body
        assert first["record"]["text"] == "Hello quokka"
        assert first["search"] == str(matches.searches[0])
        shown = matches.provider.get("app.bsky.feed.getPosts", uris=[uris["hello"]])
        assert first["cid"] == shown["posts"][0]["cid"]
        matches.log(1, "hello")
        last = matches.log(0, "reply")
        frame = decode_frame(await socket.receive_bytes())
        assert (frame.body["seq"], frame.body["uri"]) == (last, uris["reply"])


async def test_json_protocol_of_several_searches(matches: Matches) -> None:
    url = matches.socket(*matches.keys)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=["xrpc.v1.json"]) as socket,
    ):
        assert socket.protocol == "xrpc.v1.json"
        matches.log(0, "hello")
        matches.log(1, "picture")
        found = [json.loads(await socket.receive_str()) for _ in range(2)]
    assert [f["search"] for f in found] == [*map(str, matches.searches)]
    assert found[0]["$type"] == "bigworld.search.subscribeMatches#match"
    image = found[1]["record"]["embed"]["images"][0]["image"]
    assert set(image["ref"]) == {"$link"}


async def test_hidden_and_unknown_records_are_left_out(matches: Matches) -> None:
    before = matches.tail()
    matches.log(0, "dans", "dans")
    last = matches.log(0, "hello")
    url = matches.socket(matches.keys[0], cursor=before)
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        frame = decode_frame(await socket.receive_bytes())
        assert frame.body["seq"] == last


async def test_odd_keys_and_cursors_are_refused(matches: Matches) -> None:
    key = matches.keys[0]
    async with aiohttp.ClientSession() as session:
        for params in ("", "?key=x", f"?key={key}x", f"?key={key}&cursor=x"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(matches.socket() + params.removeprefix("?"))
            assert refused.value.status == 400
            url = matches.url("/search/matches") + params.removeprefix("?")
            async with session.get(url) as answer:
                assert answer.status == 400
        future = matches.tail() + 1
        async with session.ws_connect(matches.socket(key, cursor=future)) as socket:
            frame = decode_frame(await socket.receive_bytes())
            assert frame.body["error"] == "FutureCursor"
        url = matches.url("/search/matches", key, cursor=future)
        async with session.get(url) as answer:
            assert (await answer.json())["error"] == "FutureCursor"
        with matches.provider.app.private.write() as conn:
            delete_search(conn, did("alice"), matches.searches[0])
        async with session.get(matches.url("/search/matches", key)) as answer:
            assert (await answer.json())["error"] == "InvalidKey"


async def read_event(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the fields of the next event."""
    fields: dict[str, str] = {}
    while True:
        line = (await answer.content.readline()).decode().rstrip("\n")
        if line.startswith(":"):
            continue
        if not line and fields:
            return fields
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value


async def test_events_resume_after_the_last_one(matches: Matches) -> None:
    before = matches.tail()
    matches.log(0, "hello", "picture")
    url = matches.url("/search/matches", matches.keys[0])
    uris = matches.provider.uris
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}&cursor={before}") as answer:
            assert answer.content_type == "text/event-stream"
            event = await read_event(answer)
            assert event["event"] == "match"
            assert json.loads(event["data"])["uri"] == uris["hello"]
        headers = {"Last-Event-ID": event["id"]}
        async with session.get(url, headers=headers) as answer:
            assert (
                json.loads((await read_event(answer))["data"])["uri"]
                == (uris["picture"])
            )
            matches.log(0, "reply")
            assert (
                json.loads((await read_event(answer))["data"])["uri"] == (uris["reply"])
            )


async def test_pruned_matches_are_announced(matches: Matches) -> None:
    last = matches.log(0, "hello", "hello", "picture")
    with matches.provider.app.pool.connection() as conn:
        prune_matches(conn, before=NOW.replace(year=2000), keep=1)
    async with aiohttp.ClientSession() as session:
        url = matches.socket(matches.keys[0], cursor=last - 2)
        async with session.ws_connect(url) as socket:
            info = decode_frame(await socket.receive_bytes())
            assert (info.t, info.body["name"]) == ("#info", "OutdatedCursor")
            frame = decode_frame(await socket.receive_bytes())
            assert frame.body["seq"] == last


async def test_streams_end_with_their_clients(matches: Matches) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.get(matches.url("/search/matches", matches.keys[0])):
                pass
            async with session.ws_connect(matches.socket(matches.keys[0])):
                pass
        await asyncio.sleep(0)
