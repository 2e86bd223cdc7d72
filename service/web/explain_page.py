"""The page that explains why a search finds a record."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from appview.bigworld_search import explain
from network.xrpc.server import XrpcError
from protocol.syntax import is_at_uri
from search.query.parser import MAX_QUERY_BYTES
from service.web.rendering import PageFrame
from service.web.search_links import page_link, read_tab
from storage.collections import FEED_POST


class ExplainPage:
    """The conditions of a query, compared with one record."""

    def __init__(self, frame: PageFrame) -> None:
        self._frame = frame

    def page(self, request: Request) -> dict[str, Any]:
        """Return the values of the template."""
        asked = request.query_params
        query, uri = asked.get("q", ""), asked.get("uri", "")
        if not is_at_uri(uri) or uri.count("/") != 4:
            raise XrpcError("InvalidRequest", f"{uri[:80]!r} names no record", 404)
        if len(query.encode("utf-8", "replace")) > MAX_QUERY_BYTES:
            raise XrpcError("InvalidRequest", "the query is too long", 404)
        sort = read_tab(asked, has_query=True)
        context = self._frame.context(request, request.url.path)
        answer = explain.METHOD.run(context, {"q": query, "uri": uri, "sort": sort})
        did, collection, rkey = answer["uri"].removeprefix("at://").split("/")
        return {
            "title": "Why is it here?" if answer["found"] else "Why is it not here?",
            "q": query,
            "tab": sort,
            "answer": answer,
            "back": "/" + page_link(sort, query),
            "post": f"/post/{did}/{rkey}" if collection == FEED_POST else None,
        }
