"""app.bsky.feed.getPosts."""

from __future__ import annotations

from typing import Final

from appview.hydration.state import State
from appview.pipeline import Params, Pipeline
from appview.rules import Place, shown_records
from appview.session import Session
from appview.views.post import post_view
from network.xrpc.server import XrpcError
from storage.records.addresses import Address, find_addresses

MAX_URIS: Final = 25


def _find_posts(session: Session, params: Params) -> list[Address]:
    uris: list[str] = params["uris"]
    if len(uris) > MAX_URIS:
        raise XrpcError("InvalidRequest", f"at most {MAX_URIS} uris", 400)
    found = find_addresses(session.conn, uris)
    return list(dict.fromkeys(found[uri] for uri in uris if uri in found))


METHOD: Final[Pipeline[list[Address]]] = Pipeline(
    skeleton=_find_posts,
    hydrate=State.load_posts,
    rules=lambda state, posts: shown_records(state, Place.POST, posts),
    present=lambda state, posts, _: {"posts": [post_view(state, a) for a in posts]},
)
