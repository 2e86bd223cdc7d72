"""Views of records that local posts embed, from the indexer that is asked anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from pds.read_after_write.local_records import POST, LocalPost
from pds.read_after_write.simple_views import View, quoted_uri

GENERATOR: Final = "app.bsky.feed.generator"
LIST: Final = "app.bsky.graph.list"
_RECORD_VIEW: Final = "app.bsky.embed.record#viewRecord"
_GENERATOR_VIEW: Final = "app.bsky.feed.defs#generatorView"
_LIST_VIEW: Final = "app.bsky.graph.defs#listView"

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""`await ask(nsid, params)`: the JSON of a query, None if it failed."""


async def load_quoted(ask: Ask, posts: Iterable[LocalPost]) -> dict[str, View]:
    """Return AT-URI -> view of the embedded posts, feeds and lists that are found."""
    by_kind: dict[str, list[str]] = {}
    for uri in dict.fromkeys(map(quoted_uri, posts)):
        if uri is not None and uri.count("/") == 4:
            by_kind.setdefault(uri.split("/")[3], []).append(uri)
    work = [
        _ask_for(ask, _READERS[kind], uris)
        for kind, uris in by_kind.items()
        if kind in _READERS
    ]
    found: dict[str, View] = {}
    for views in await asyncio.gather(*work):
        found |= views
    return found


Reader = Callable[[Ask, list[str]], Awaitable[dict[str, View]]]


async def _ask_for(ask: Ask, reader: Reader, uris: list[str]) -> dict[str, View]:
    try:
        return await reader(ask, uris)
    except (AttributeError, LookupError, TypeError):
        return {}  # not the shape of the lexicon


async def _posts(ask: Ask, uris: list[str]) -> dict[str, View]:
    answer = await ask("app.bsky.feed.getPosts", {"uris": uris})
    return {
        post["uri"]: _record_view(post) for post in (answer or {"posts": ()})["posts"]
    }


async def _generators(ask: Ask, uris: list[str]) -> dict[str, View]:
    answer = await ask("app.bsky.feed.getFeedGenerators", {"feeds": uris})
    feeds = (answer or {"feeds": ()})["feeds"]
    return {feed["uri"]: feed | {"$type": _GENERATOR_VIEW} for feed in feeds}


async def _lists(ask: Ask, uris: list[str]) -> dict[str, View]:
    answers = await asyncio.gather(
        *(ask("app.bsky.graph.getList", {"list": uri, "limit": 1}) for uri in uris)
    )
    lists = [answer["list"] for answer in answers if answer is not None]
    return {one["uri"]: one | {"$type": _LIST_VIEW} for one in lists}


def _record_view(post: View) -> View:
    view = {
        "$type": _RECORD_VIEW,
        "uri": post["uri"],
        "cid": post["cid"],
        "author": post["author"],
        "value": post["record"],
        "indexedAt": post["indexedAt"],
    }
    if "labels" in post:
        view["labels"] = post["labels"]
    if "embed" in post:
        view["embeds"] = [post["embed"]]
    return view


_READERS: Final[Mapping[str, Reader]] = {
    POST: _posts,
    GENERATOR: _generators,
    LIST: _lists,
}
