"""Health, OpenAPI and the API page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from xrpc_calls import CAR, CATALOG, CREATE, GET_REPO, SEARCH, calling

from network.xrpc.server import XrpcServer


async def test_health_and_extra_routes_respond() -> None:
    async def extra(request: Request) -> Response:
        return PlainTextResponse("extra")

    server = XrpcServer(CATALOG, version="9.9", title="T")
    async with calling(server, extra_routes=[Route("/page", extra)]) as caller:
        fetched = await caller.get("/xrpc/_health")
        assert fetched.json() == {"version": "9.9"}
        assert (await caller.get("/page")).body == b"extra"
        assert (await caller.get("/nowhere")).status == 404


def full_server() -> XrpcServer:
    server = XrpcServer(CATALOG, title='Big <World> "x"')
    for nsid in CATALOG.methods():
        method = CATALOG.method(nsid)
        assert method is not None
        if method.kind == "subscription":
            server.route_subscription(nsid, None)  # type: ignore[arg-type]
        else:
            server.add(nsid, lambda call: None, "optional")
    return server


async def test_openapi_describes_every_method() -> None:
    async with calling(full_server()) as caller:
        document = (await caller.get("/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {f"/xrpc/{n}" for n in CATALOG.methods()}
    schemas = document["components"]["schemas"]

    def refs(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for item in value.values():
                yield from refs(item)
        elif isinstance(value, list):
            for item in value:
                yield from refs(item)

    found = set(refs(document))
    assert len(found) > 300
    for ref in found:
        name = ref.removeprefix("#/components/schemas/")
        assert name in schemas, ref
        assert set(name) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
        )

    search = document["paths"][f"/xrpc/{SEARCH}"]["get"]
    limit = next(p for p in search["parameters"] if p["name"] == "limit")
    assert limit["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "default": 25,
    }
    assert "BadQueryString" in search["responses"]["400"]["description"]
    assert search["security"] == [{}, {"bearer": []}]
    create = document["paths"][f"/xrpc/{CREATE}"]["post"]
    body = create["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["required"]) == {"repo", "collection", "record"}
    assert schemas["app.bsky.feed.defs.postView"]["properties"]["author"] == {
        "$ref": "#/components/schemas/app.bsky.actor.defs.profileViewBasic"
    }
    car = document["paths"][f"/xrpc/{GET_REPO}"]["get"]["responses"]["200"]
    assert CAR in car["content"]


async def test_docs_page_is_self_contained() -> None:
    async with calling(full_server()) as caller:
        fetched = await caller.get("/docs")
    page = fetched.body.decode()
    assert fetched.headers["content-type"].startswith("text/html")
    assert fetched.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page
    assert "src=" not in page
    assert "Big &lt;World&gt; &#34;x&#34; API" in page
    for nsid in CATALOG.methods():
        assert f'id="{nsid}"' in page
    assert page.count("<details") == page.count("</details>")
