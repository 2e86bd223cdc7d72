"""app.bsky.embed.getEmbedExternalView: the card of a page from records behind it."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.site_standard import PREFIX, SitePages, find_pages, load_pages
from appview.hydration.state import State
from appview.pipeline import Params, SessionRead
from appview.session import Session
from appview.views.site_standard import card_of, choose_pair, references
from network.xrpc.server import XrpcError
from protocol.syntax import parse_at_uri

MAX_URIS: Final = 4


def _read(session: Session, params: Params) -> dict[str, Any]:
    uris: list[str] = params["uris"]
    if len(uris) > MAX_URIS:
        raise XrpcError("InvalidRequest", f"at most {MAX_URIS} records", 400)
    state = State(session)
    ours = [uri for uri in uris if str(parse_at_uri(uri).collection).startswith(PREFIX)]
    pages: SitePages = load_pages(state, find_pages(state, ours))
    session.context.check_client()
    pair = choose_pair(state, pages)
    card = card_of(state, pair, params["url"])
    if card is None:
        return {}
    return {
        "view": {"$type": "app.bsky.embed.external#view", "external": card},
        "associatedRefs": references(state, pair),
        "associatedRecords": [record.json for record in pair if record is not None],
    }


METHOD: Final = SessionRead(_read)
