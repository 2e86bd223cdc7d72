"""Link cards of posts, with what the records behind their pages tell."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.actors import Actor
from appview.hydration.state import State
from appview.views.media import EXTERNAL, media_view
from appview.views.site_standard import card_of, choose_pair
from protocol.data.cbor import Value

_AUTHORS_OWN: Final = ("thumb", "associatedRefs")
"""Fields in which the post comes before the records."""


def post_media_view(state: State, actor: Actor, embed: Value) -> dict[str, Any] | None:
    """Return the view of an embed without a quote, with records behind a card."""
    view = media_view(state, actor, embed)
    if view is None or view["$type"] != f"{EXTERNAL}#view":
        return view
    external = embed["external"] if isinstance(embed, dict) else None
    if isinstance(external, dict):
        card = view["external"]
        pair = choose_pair(state, state.cards.pages(state, external))
        told = card_of(state, pair, card["uri"]) or {}
        own = {name: card[name] for name in _AUTHORS_OWN if name in card}
        view["external"] = card | told | own
    return view
