"""Answers of an indexer, with what the user wrote since: read after write.

An indexer says in `Atproto-Repo-Rev` up to which revision it has the user's repo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from pds.context import PdsContext, now_us
from pds.proxy import ProxyAnswer
from pds.read_after_write.feeds import (
    Query,
    update_author_feed,
    update_likes,
    update_profile,
    update_profiles,
    update_timeline,
)
from pds.read_after_write.local_records import LocalPost, LocalRecords, read_local
from pds.read_after_write.quoted_views import load_quoted
from pds.read_after_write.simple_views import LocalViews, View
from pds.read_after_write.threads import find_post, make_thread, update_thread
from pds.server.accounts import Account
from pds.upstream import Upstream
from protocol.errors import ProtocolError
from protocol.syntax import Tid, is_tid

REPO_REV: Final = "atproto-repo-rev"
UPSTREAM_LAG: Final = "atproto-upstream-lag"
GET_POST_THREAD: Final = "app.bsky.feed.getPostThread"
_OK: Final = 200
_NOT_FOUND: Final = "NotFound"

_UPDATES: Final[Mapping[str, Callable[[LocalViews, View, Query], View]]] = {
    "app.bsky.actor.getProfile": update_profile,
    "app.bsky.actor.getProfiles": update_profiles,
    "app.bsky.feed.getActorLikes": update_likes,
    "app.bsky.feed.getAuthorFeed": update_author_feed,
    "app.bsky.feed.getTimeline": update_timeline,
    GET_POST_THREAD: update_thread,
}


class ReadAfterWrite:
    """The update of answers for accounts of one server."""

    def __init__(self, host: PdsContext) -> None:
        self._host = host
        settings = host.settings
        self._pattern = settings.cdn_url_pattern or (
            f"{settings.origin}/xrpc/com.atproto.sync.getBlob?did={{did}}&cid={{cid}}"
        )

    async def update(
        self,
        account: Account,
        upstream: Upstream,
        nsid: str,
        query_text: str,
        answer: ProxyAnswer,
    ) -> ProxyAnswer:
        """Return an answer with the user's newest records, or unchanged.

        It is unchanged if the indexer is not behind, or does not follow the lexicon.
        """
        rev = answer.headers.get(REPO_REV, "")
        if nsid not in _UPDATES or not is_tid(rev):
            return answer
        local = await self._host.run(self._read, account, Tid(rev))
        if local is None:
            return answer
        query = dict(parse_qsl(query_text))
        try:
            body = await self._make_body(upstream, nsid, query, answer, local)
        except (orjson.JSONEncodeError, RecursionError):
            return answer  # nested too deep
        if body is None:
            return answer
        lag_ms = max(0, (now_us() - local.oldest_us) // 1000)
        headers = dict(answer.headers) | {UPSTREAM_LAG: str(lag_ms)}
        return replace(answer, status=_OK, headers=headers, body=body)

    async def _make_body(
        self,
        upstream: Upstream,
        nsid: str,
        query: Query,
        answer: ProxyAnswer,
        local: LocalRecords,
    ) -> bytes | None:
        """Return the updated body, None for an answer that stays."""
        updated = await self._host.run(self._parse, nsid, answer)
        if updated is not None:
            views = await self._views(upstream, local, local.posts)
            updated = _UPDATES[nsid](views, updated, query)
        elif nsid == GET_POST_THREAD and _is_not_found(answer):
            updated = await self._find_thread(upstream, local, query)
        if updated is None:
            return None
        return await self._host.run(orjson.dumps, updated)

    def _read(self, account: Account, rev: Tid) -> LocalRecords | None:
        with self._host.reading() as conn:
            return read_local(conn, self._host.catalog, account, rev)

    def _parse(self, nsid: str, answer: ProxyAnswer) -> Any | None:
        """Return the JSON of a successful answer that follows the lexicon."""
        method = self._host.catalog.method(nsid)
        if method is None or answer.status != _OK:
            return None
        try:
            value = orjson.loads(answer.body)
            method.check_output(value)
        except (orjson.JSONDecodeError, ProtocolError):
            return None
        return value

    async def _views(
        self, upstream: Upstream, local: LocalRecords, posts: tuple[LocalPost, ...]
    ) -> LocalViews:
        quoted = await load_quoted(upstream.read_json, posts)
        return LocalViews(local, self._pattern, quoted)

    async def _find_thread(
        self, upstream: Upstream, local: LocalRecords, query: Query
    ) -> View | None:
        post = find_post(local.posts, _own_uri(local.account, query.get("uri", "")))
        if post is None:
            return None
        parent = None
        if post.parent is not None:
            params: dict[str, Any] = {"uri": post.parent, "depth": 0}
            if "parentHeight" in query:
                params["parentHeight"] = query["parentHeight"]
            above = await upstream.read_json(GET_POST_THREAD, params)
            parent = above.get("thread") if isinstance(above, dict) else None
        views = await self._views(upstream, local, local.posts)
        return make_thread(views, post, parent)


def _is_not_found(answer: ProxyAnswer) -> bool:
    try:
        value = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and value.get("error") == _NOT_FOUND


def _own_uri(account: Account, uri: str) -> str:
    """Return an AT-URI with the account's DID in place of its handle."""
    prefix = f"at://{account.handle}/"
    if uri.lower().startswith(prefix):
        return f"at://{account.did}/{uri[len(prefix) :]}"
    return uri
