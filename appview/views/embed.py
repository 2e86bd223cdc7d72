"""Embeds of posts: media, quoted records, and both together."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.actors import Actor
from appview.hydration.state import MAX_QUOTES, State, quoted_uri
from appview.views.common import datetime_text, label_views, present, self_labels
from appview.views.media import media_view
from appview.views.named import embedded_view
from appview.views.profile import profile_view_basic
from protocol.cbor import Value
from protocol.json_form import to_json
from storage.documents import Address

RECORD: Final = "app.bsky.embed.record"
RECORD_WITH_MEDIA: Final = "app.bsky.embed.recordWithMedia"
VIEW_RECORD: Final = f"{RECORD}#viewRecord"
VIEW_NOT_FOUND: Final = f"{RECORD}#viewNotFound"
VIEW_BLOCKED: Final = f"{RECORD}#viewBlocked"


def embed_view(
    state: State, actor: Actor, post: dict[str, Value], *, depth: int = 0
) -> dict[str, Any] | None:
    """Return the embed of a post record, or None if it has none that can be shown.

    `depth` counts the posts that quote this one in the same view.
    """
    embed = post.get("embed")
    if not isinstance(embed, dict):
        return None
    kind = embed.get("$type")
    if kind == RECORD:
        return _record(state, quoted_uri(post), depth)
    if kind == RECORD_WITH_MEDIA:
        media = media_view(state, actor, embed.get("media"))
        record = _record(state, quoted_uri(post), depth)
        if media is None or record is None:
            return None
        # A field of a known type is not marked with it.
        record.pop("$type")
        return {"$type": f"{kind}#view", "record": record, "media": media}
    return media_view(state, actor, embed)


def _record(state: State, uri: str | None, depth: int) -> dict[str, Any] | None:
    if uri is None:
        return None
    return {"$type": f"{RECORD}#view", "record": _quoted(state, uri, depth + 1)}


def _quoted(state: State, uri: str, depth: int) -> dict[str, Any]:
    address = state.by_uri.get(uri)
    missing = {"$type": VIEW_NOT_FOUND, "uri": uri, "notFound": True}
    if address is None or state.is_hidden(address.actor) or state.is_redacted(address):
        return missing
    actor = state.actors[address.actor]
    if state.is_blocked(address.actor):
        return {
            "$type": VIEW_BLOCKED,
            "uri": uri,
            "blocked": True,
            "author": {"did": actor.did},
        }
    if address in state.posts:
        return _quoted_post(state, address, depth)
    return embedded_view(state, address) or missing


def _quoted_post(state: State, address: Address, depth: int) -> dict[str, Any]:
    post, actor = state.posts[address], state.actors[address.actor]
    value, uri = post.record.value, state.uris[address]
    embeds = None
    if depth < MAX_QUOTES:
        inner = embed_view(state, actor, value, depth=depth)
        embeds = [inner] if inner else []
    return present(
        **{"$type": VIEW_RECORD},
        uri=uri,
        cid=post.record.cid,
        author=profile_view_basic(state, actor),
        value=to_json(value),
        labels=[
            *label_views(state, address, uri),
            *self_labels(actor.did, uri, post.record),
        ],
        replyCount=post.replies,
        repostCount=post.reposts,
        likeCount=post.likes,
        quoteCount=post.quotes,
        embeds=embeds,
        indexedAt=datetime_text(post.sort_at),
    )
