"""Replies of foreign feed services over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from appview.app import ForeignItem
from appview.foreign_feeds import REASON_PIN, REASON_REPOST, ForeignFeeds, read_skeleton
from network.http.client import Fetcher
from network.http.policy import Policy
from network.identity.resolver import IdentityResolver
from network.server.listener import serving
from network.xrpc.server import XrpcError

DID = "did:plc:" + "f" * 24
POSTS = [f"at://did:plc:{'a' * 24}/app.bsky.feed.post/3k{n:011}" for n in range(4)]
REPOST = POSTS[0].replace("post", "repost")


def item(number: int, **more: Any) -> dict[str, Any]:
    return {"post": POSTS[number], **more}


def test_entries_are_read_with_what_belongs_to_them() -> None:
    answer = {
        "feed": [
            item(0, feedContext="ctx"),
            item(1, reason={"$type": REASON_PIN}, feedContext="x" * 2_001),
            item(2, reason={"$type": REASON_REPOST, "repost": REPOST}),
            item(3, reason={"$type": "org.example#other", "repost": REPOST}),
        ],
        "reqId": "r",
        "cursor": "c",
    }
    skeleton = read_skeleton(answer, None, 50)
    assert skeleton.items == [
        ForeignItem(POSTS[0], context="ctx"),
        ForeignItem(POSTS[1], pinned=True),
        ForeignItem(POSTS[2], REPOST),
        ForeignItem(POSTS[3]),
    ]
    assert (skeleton.cursor, skeleton.req_id) == ("c", "r")


def test_repeats_and_what_is_over_the_limit_are_dropped() -> None:
    feed = [item(0), item(0), item(1), item(0), item(2), item(3)]
    skeleton = read_skeleton({"feed": feed}, None, 5)
    assert [entry.post for entry in skeleton.items] == POSTS[:3]


def test_entries_that_are_none_are_left_out() -> None:
    feed = [item(0, reason=None, feedContext=7), {"post": None}, {}, "x", None, [], {}]
    feed += [{"post": "https://example.com"}, item(1, reason="pin")]
    skeleton = read_skeleton({"feed": feed, "reqId": 5}, None, 50)
    assert skeleton.items == [ForeignItem(POSTS[0]), ForeignItem(POSTS[1])]
    assert skeleton.req_id is None


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        ({"feed": [item(0)]}, None),
        ({"feed": [item(0)], "cursor": 1234}, None),
        ({"feed": [item(0)], "cursor": ""}, None),
        ({"feed": [item(0)], "cursor": "same"}, "same"),
        ({"feed": [item(0)], "cursor": "x" * 10_001}, None),
        ({"feed": [], "cursor": "more"}, None),
    ],
)
def test_the_feed_ends(answer: dict[str, Any], asked: str | None) -> None:
    assert read_skeleton(answer, asked, 50).cursor is None


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"feed": {}}, {"feed": None}])
def test_answers_that_are_no_feed(answer: Any) -> None:
    with pytest.raises(XrpcError) as refused:
        read_skeleton(answer, None, 50)
    assert (refused.value.name, refused.value.status) == ("InvalidFeedResponse", 502)


class Service:
    """A feed service with chosen replies, and the directory that names it."""

    def __init__(self) -> None:
        self.answer: Response = JSONResponse({"feed": [item(0)]})
        self.seen: list[tuple[dict[str, str], Mapping[str, str]]] = []
        self.delay = 0.0
        self.document_delay = 0.0
        self.type = "BskyFeedGenerator"
        self.url = ""

    async def skeleton(self, request: Request) -> Response:
        self.seen.append((dict(request.query_params), dict(request.headers)))
        await asyncio.sleep(self.delay)
        return self.answer

    async def document(self, request: Request) -> Response:
        did = request.path_params["did"]
        await asyncio.sleep(self.document_delay)
        if did != DID:
            return JSONResponse({"message": "no"}, 404)
        service = {"id": "#bsky_fg", "type": self.type, "serviceEndpoint": self.url}
        return JSONResponse({"id": did, "service": [service]})

    @asynccontextmanager
    async def feeds(self) -> AsyncIterator[ForeignFeeds]:
        app = Starlette(
            routes=[
                Route("/xrpc/app.bsky.feed.getFeedSkeleton", self.skeleton),
                Route("/{did}", self.document),
            ]
        )
        async with (
            serving(app) as self.url,
            Fetcher(Policy(allow_loopback=True)) as fetcher,
        ):
            resolver = IdentityResolver(fetcher, self.url, dev=True)
            yield ForeignFeeds(resolver, fetcher, timeout=0.5)


async def refused(feeds: ForeignFeeds, did: str = DID) -> tuple[str, str, int]:
    with pytest.raises(XrpcError) as error:
        await feeds(did, feed="at://x", limit=5, cursor=None, headers={})
    return error.value.name, error.value.message, error.value.status


def test_the_question_reaches_the_service() -> None:
    async def work() -> None:
        service = Service()
        async with service.feeds() as feeds:
            headers = {"authorization": "Bearer a.b.c", "accept-language": "pt-BR"}
            page = await feeds(
                DID, feed="at://x/y/z", limit=7, cursor="c", headers=headers
            )
        assert page.items == [ForeignItem(POSTS[0])]
        [(params, seen)] = service.seen
        assert params == {"feed": "at://x/y/z", "limit": "7", "cursor": "c"}
        assert headers.items() <= seen.items()

    asyncio.run(work())


def test_errors_of_the_service_have_names() -> None:
    unavailable = ("UpstreamFailure", "feed unavailable", 502)
    invalid = ("InvalidFeedResponse", "feed provided an invalid response", 502)

    def error(status: int, name: str, **headers: str) -> Response:
        body = {"error": name, "message": "why"}
        return JSONResponse(body, status, headers=headers)

    cases: list[tuple[Response, tuple[str, str, int]]] = [
        (error(400, "UnknownFeed"), ("UnknownFeed", "why", 400)),
        (error(401, "AuthMissing"), ("AuthMissing", "why", 401)),
        (error(500, "InternalServerError"), ("InternalServerError", "why", 502)),
        (error(429, "RateLimitExceeded", **{"retry-after": "0"}), unavailable),
        (PlainTextResponse("Internal Server Error", 500), unavailable),
        (PlainTextResponse("<html>maintenance</html>"), invalid),
        (PlainTextResponse('{"feed": ['), invalid),
        (JSONResponse({"feed": "x" * 300_000}), unavailable),
    ]

    async def work() -> None:
        service = Service()
        async with service.feeds() as feeds:
            for service.answer, expected in cases:
                assert await refused(feeds) == expected

    asyncio.run(work())


def test_slow_and_unknown_services() -> None:
    async def work() -> None:
        service = Service()
        service.delay = 1.5
        async with service.feeds() as feeds:
            assert (await refused(feeds))[::2] == ("UpstreamFailure", 502)
            unknown = await refused(feeds, "did:plc:" + "g" * 24)
            assert unknown[::2] == ("InvalidRequest", 400)
            assert "could not resolve identity" in unknown[1]
            assert (await refused(feeds, "did:plc:short"))[::2] == unknown[::2]
        service.delay, service.document_delay = 0.0, 1.5
        async with service.feeds() as feeds:
            # The lookup counts too.
            assert (await refused(feeds))[::2] == ("UpstreamFailure", 502)
        service.document_delay = 0.0
        service.type = "SomethingElse"
        async with service.feeds() as feeds:
            name, message, status = await refused(feeds)
            assert (name, status) == ("InvalidRequest", 400)
            assert "invalid feed generator service details" in message

    asyncio.run(work())
