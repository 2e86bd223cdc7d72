"""The page of an account: posts, replies, media, followers and follows."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request

from appview.app_bsky.actor import get_profile
from appview.app_bsky.feed import get_author_feed
from appview.app_bsky.graph import get_followers, get_follows
from appview.session import RequestContext
from network.xrpc.server import XrpcError
from service.web.rendering import (
    PAGE_SIZE,
    PageFrame,
    account_name,
    cursor_of,
    next_page,
)
from storage.repos.repo_rows import find_repos

TABS: Final = {
    "posts": "Posts",
    "replies": "Replies",
    "media": "Media",
    "followers": "Followers",
    "follows": "Follows",
}
_FILTERS: Final = {
    "posts": "posts_no_replies",
    "replies": "posts_with_replies",
    "media": "posts_with_media",
}


class ProfilePage:
    """An account, and the state of its repo."""

    def __init__(self, frame: PageFrame) -> None:
        self._frame = frame

    def page(self, request: Request) -> dict[str, Any]:
        """Return the values of the template."""
        name = account_name(request)
        tab = request.query_params.get("tab", "posts")
        if tab not in TABS:
            raise XrpcError("InvalidRequest", f"there is no tab {tab[:80]!r}")
        context = self._frame.context(request, f"{request.url.path}#{tab}")
        profile = get_profile.METHOD.run(context, {"actor": name})
        params = {"actor": profile["did"], "limit": PAGE_SIZE} | cursor_of(request)
        answer = _list(context, tab, params)
        with context.session() as session:
            repo = find_repos(session.conn, [profile["did"]]).get(profile["did"])
        return {
            "title": profile.get("displayName") or profile["handle"],
            "profile": profile,
            "tab": tab,
            "tabs": TABS,
            "feed": answer.get("feed", []),
            "accounts": answer.get(tab, []),
            "repo": repo,
            "next": next_page(request, answer.get("cursor")),
        }


def _list(context: RequestContext, tab: str, params: dict[str, Any]) -> dict[str, Any]:
    if tab == "followers":
        return get_followers.METHOD.run(context, params)
    if tab == "follows":
        return get_follows.METHOD.run(context, params)
    return get_author_feed.METHOD.run(context, params | {"filter": _FILTERS[tab]})
