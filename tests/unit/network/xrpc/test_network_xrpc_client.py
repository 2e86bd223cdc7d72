from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from network.errors import BadResponseError, TooLargeError, XrpcError
from network.http.client import Fetcher
from network.http.policy import HostLimits, Policy
from network.server.listener import serving
from network.xrpc.client import XrpcClient, encode_params
from protocol.data.cid import Cid, cid_for

DEV = Policy(allow_loopback=True, limits=HostLimits(rate=1e6, burst=10_000))
NSID = "a.b.getThing"


@asynccontextmanager
async def calling(
    answer: Callable[[Request], Awaitable[Response]], auth: Any = None
) -> AsyncIterator[XrpcClient]:
    route = Route(f"/xrpc/{NSID}", answer, methods=["GET", "POST"])
    async with serving(Starlette(routes=[route])) as url, Fetcher(DEV) as fetcher:
        yield XrpcClient(fetcher, url + "/", auth)


async def echo(request: Request) -> Response:
    return JSONResponse(
        {
            "query": request.url.query,
            "auth": request.headers.get("authorization"),
            "type": request.headers.get("content-type"),
            "extra": request.headers.get("x-extra"),
            "body": (await request.body()).decode("latin-1"),
        }
    )


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({}, ""),
        ({"a": 1, "b": True, "c": False, "d": None}, "a=1&b=true&c=false"),
        ({"uris": ["at://x/y", "z"], "e": []}, "uris=at%3A%2F%2Fx%2Fy&uris=z"),
        ({"q": "ä b&c=d+e/ü"}, "q=%C3%A4+b%26c%3Dd%2Be%2F%C3%BC"),
    ],
)
async def test_parameters_are_encoded(params: dict[str, Any], query: str) -> None:
    assert encode_params(params) == query
    async with calling(echo) as client:
        found = await client.query(NSID, params)
    assert found["query"] == query


async def test_procedures_send_json_or_bytes_or_nothing() -> None:
    async with calling(echo) as client:
        value = {"a": Cid(cid_for(b"x"))}
        json = await client.procedure(NSID, value, headers={"X-Extra": "1"})
        blob = await client.procedure(NSID, b"\x00\xff", encoding="image/png")
        nothing = await client.procedure(NSID, params={"n": 1})
    assert json["body"].startswith('{"a":{"$link":"bafy')
    assert (json["type"], json["extra"]) == ("application/json", "1")
    assert (blob["body"], blob["type"]) == ("\x00\xff", "image/png")
    assert (nothing["body"], nothing["query"]) == ("", "n=1")


async def test_tokens_are_sent() -> None:
    async def later(nsid: str) -> str:
        return f"async-{nsid}"

    for auth, header in (
        (None, None),
        ("abc", "Bearer abc"),
        (lambda nsid: f"for-{nsid}", f"Bearer for-{NSID}"),
        (later, f"Bearer async-{NSID}"),
    ):
        async with calling(echo, auth) as client:
            found = await client.query(NSID)
        assert found["auth"] == header


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (
            JSONResponse({"error": "NotFound", "message": "no"}, 400),
            ("NotFound", "no", 400),
        ),
        (JSONResponse({"error": "Odd", "message": 5}, 502), ("Odd", "", 502)),
        (JSONResponse({"error": "Bare"}, 403), ("Bare", "", 403)),
        (JSONResponse({"message": "nameless"}, 400), None),
        (JSONResponse(["error"], 400), None),
        (PlainTextResponse("<html>", 502), None),
        (PlainTextResponse("", 404), None),
        (PlainTextResponse("moved", 302), None),
        (PlainTextResponse("not json", 200), None),
    ],
)
async def test_error_responses_raise(
    response: Response, expected: tuple[str, str, int] | None
) -> None:
    async def answer(request: Request) -> Response:
        return response

    async def download(client: XrpcClient) -> None:
        async with client.download(NSID):
            pass

    calls: list[Callable[[XrpcClient], Awaitable[Any]]] = [
        lambda client: client.query(NSID),
        lambda client: client.procedure(NSID, {}),
    ]
    if response.status_code != 200:
        calls += [lambda client: client.query_bytes(NSID), download]
    for call in calls:
        with pytest.raises((XrpcError, BadResponseError)) as caught:
            async with calling(answer) as client:
                await call(client)
        if expected is None:
            assert isinstance(caught.value, BadResponseError)
            assert caught.value.status == response.status_code
        else:
            error = caught.value
            assert isinstance(error, XrpcError)
            assert (error.name, error.message, error.status) == expected


async def test_downloads_and_empty_responses_are_read() -> None:
    async def answer(request: Request) -> Response:
        if request.method == "POST":
            return Response()
        return Response(bytes(300_000), media_type="application/vnd.ipld.car")

    async with calling(answer) as client:
        async with client.download(NSID, {"did": "x"}) as body:
            assert sum([len(chunk) async for chunk in body]) == 300_000
        assert len(await client.query_bytes(NSID)) == 300_000
        with pytest.raises(TooLargeError):
            await client.query_bytes(NSID, max_bytes=1_000)
        assert await client.procedure(NSID) is None
