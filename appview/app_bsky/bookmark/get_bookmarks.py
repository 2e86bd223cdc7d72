"""app.bsky.bookmark.getBookmarks: the viewer's bookmarks, the latest first.

Posts of muted accounts are included. A bookmark of a post that is not shown has a
placeholder.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from appview.hydration.state import State
from appview.paging import Page, SearchPages, Steps
from appview.rules import Place, decide_record
from appview.shapes.private.private_pages import private_source
from appview.views.common import datetime_text
from appview.views.post import NOT_FOUND_POST, POST_VIEW, gap_view, post_view
from storage.private.private_items import Item, Kind
from storage.records.addresses import find_addresses


class _Bookmark(NamedTuple):
    uri: str
    cid: str
    created_at: str


def _read(item: Item) -> _Bookmark:
    return _Bookmark(item.value["subject"], item.value["cid"], datetime_text(item.at))


def _load(state: State, page: Page[_Bookmark]) -> None:
    uris = [bookmark.uri for bookmark in page.items]
    state.by_uri |= find_addresses(state.session.conn, uris)
    found = [state.by_uri[uri] for uri in uris if uri in state.by_uri]
    state.load_posts(found)
    state.name(found)
    state.load_actors(address.actor for address in found)


def _view(state: State, bookmark: _Bookmark) -> dict[str, Any]:
    subject = {"uri": bookmark.uri, "cid": bookmark.cid}
    item = _item(state, bookmark.uri)
    return {"subject": subject, "createdAt": bookmark.created_at, "item": item}


def _item(state: State, uri: str) -> dict[str, Any]:
    address = state.by_uri.get(uri)
    if address is None:
        return {"$type": NOT_FOUND_POST, "uri": uri, "notFound": True}
    effect = decide_record(state, Place.ANCHOR, address)
    if effect is not None:
        return gap_view(state, effect, address, uri)
    return {"$type": POST_VIEW, **post_view(state, address)}


METHOD: Final[SearchPages[_Bookmark]] = SearchPages(
    private_source(Kind.BOOKMARK, _read),
    Steps(
        hydrate=_load,
        rules=lambda state, page: page.items,
        present=lambda state, page, _: {
            "bookmarks": [_view(state, bookmark) for bookmark in page.items]
        },
    ),
    auth="required",
)
