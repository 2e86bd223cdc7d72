"""The tools of `bigworld mcp`, called by the official client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from mcp import Client

from analytics.questions import Bounds, QuestionError, Result
from service.mcp_tools import MAX_ITEMS, SQL_BOUNDS, make_server
from service.operator_errors import ServiceError

Requests = list[tuple[str, dict[str, Any]]]


def fake_provider(asked: Requests) -> Any:
    def ask(nsid: str, params: Mapping[str, Any]) -> Any:
        asked.append((nsid, dict(params)))
        if params.get("actor") == "nobody.test":
            raise ServiceError("the provider refused the request: no such account")
        return {"nsid": nsid, "text": "héllo नमस्ते"}

    return ask


def fake_sql(statement: str, bounds: Bounds) -> Result:
    assert bounds == SQL_BOUNDS
    if "posts" not in statement:
        raise QuestionError("relation does not exist")
    return Result(("n",), [(1,)], cut=True)


@pytest.mark.parametrize(
    ("tool", "given", "nsid", "params"),
    [
        (
            "search_posts",
            {"query": "tea", "limit": 10_000},
            "app.bsky.feed.searchPosts",
            {"q": "tea", "sort": "top", "limit": MAX_ITEMS},
        ),
        (
            "search_accounts",
            {"query": "ann", "limit": -1, "cursor": "c"},
            "app.bsky.actor.searchActors",
            {"q": "ann", "limit": 1, "cursor": "c"},
        ),
        (
            "profile",
            {"account": "a.test"},
            "app.bsky.actor.getProfile",
            {"actor": "a.test"},
        ),
        (
            "author_feed",
            {"account": "a.test"},
            "app.bsky.feed.getAuthorFeed",
            {"actor": "a.test", "limit": 20},
        ),
        (
            "thread",
            {"uri": "at://a.test/app.bsky.feed.post/1", "depth": 9_999},
            "app.bsky.feed.getPostThread",
            {"uri": "at://a.test/app.bsky.feed.post/1", "depth": 20},
        ),
        (
            "feed",
            {"uri": "at://a.test/app.bsky.feed.generator/x"},
            "app.bsky.feed.getFeed",
            {"feed": "at://a.test/app.bsky.feed.generator/x", "limit": 20},
        ),
        (
            "backlinks",
            {"subject": "https://example.com", "source": "app.bsky.feed.post"},
            "bigworld.link.getBacklinks",
            {
                "subject": "https://example.com",
                "limit": 50,
                "source": "app.bsky.feed.post",
            },
        ),
    ],
)
async def test_tools_ask_the_provider(
    tool: str, given: dict[str, Any], nsid: str, params: dict[str, Any]
) -> None:
    asked: Requests = []
    async with Client(make_server(fake_provider(asked))) as client:
        result = await client.call_tool(tool, given)
    assert not result.is_error
    assert asked == [(nsid, params)]
    assert "नमस्ते" in str(result.content)


async def test_faults_are_told_and_the_next_call_is_answered() -> None:
    async with Client(make_server(fake_provider([]), fake_sql)) as client:
        refused = await client.call_tool("profile", {"account": "nobody.test"})
        wrong = await client.call_tool("sql", {"statement": "SELECT FROM nothing"})
        lacking = await client.call_tool("profile", {})
        good = await client.call_tool("sql", {"statement": "SELECT FROM posts"})
    assert refused.is_error
    assert "no such account" in str(refused.content)
    assert wrong.is_error
    assert "does not exist" in str(wrong.content)
    assert lacking.is_error
    assert good.structured_content == {"columns": ["n"], "rows": [[1]], "more": True}


async def test_sql_is_offered_with_a_reader_only() -> None:
    async with Client(make_server(fake_provider([]))) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert "sql" not in names
    assert "search_posts" in names
