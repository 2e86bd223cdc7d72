"""Embeds of posts: media, quoted records, and both together."""

from __future__ import annotations

from typing import Any, Final

from appview.hydration.records import Post
from appview.hydration.references import quoted_uri
from appview.hydration.state import MAX_QUOTES, State
from appview.rules import Effect, Place, decide_record
from appview.views.blocks import blocked_author
from appview.views.common import datetime_text, label_views, self_labels
from appview.views.link_card import post_media_view
from appview.views.named import embedded_view
from appview.views.profile import profile_view_basic
from storage.records.addresses import Address

RECORD: Final = "app.bsky.embed.record"
RECORD_WITH_MEDIA: Final = "app.bsky.embed.recordWithMedia"
VIEW_RECORD: Final = f"{RECORD}#viewRecord"
VIEW_NOT_FOUND: Final = f"{RECORD}#viewNotFound"
VIEW_BLOCKED: Final = f"{RECORD}#viewBlocked"
VIEW_DETACHED: Final = f"{RECORD}#viewDetached"


def embed_view(state: State, post: Post, *, depth: int = 0) -> dict[str, Any] | None:
    """Return the embed of a post, None if it has none to show.

    `depth` counts the posts that quote this one in the same view.
    """
    actor = state.actors[post.record.address.actor]
    embed = post.record.value.get("embed")
    if not isinstance(embed, dict):
        return None
    kind = embed.get("$type")
    if kind == RECORD:
        return _record(state, post, depth)
    if kind == RECORD_WITH_MEDIA:
        media = post_media_view(state, actor, embed.get("media"))
        record = _record(state, post, depth)
        if media is None or record is None:
            return None
        # A field of one possible type has no `$type`.
        record.pop("$type")
        return {"$type": f"{kind}#view", "record": record, "media": media}
    return post_media_view(state, actor, embed)


def _record(state: State, post: Post, depth: int) -> dict[str, Any] | None:
    uri = quoted_uri(post.record.value)
    if uri is None:
        return None
    record = _quoted(state, uri, post.record.address, depth + 1)
    return {"$type": f"{RECORD}#view", "record": record}


def _quoted(state: State, uri: str, by: Address, depth: int) -> dict[str, Any]:
    address = state.by_uri.get(uri)
    effect: Effect | None = Effect.NOT_FOUND
    if address is not None:
        effect = decide_record(
            state, Place.QUOTE, address, beside=by.actor, quoted_by=by
        )
    if effect is Effect.BLOCKED and address is not None:
        did = uri.removeprefix("at://").split("/", 1)[0]
        author = blocked_author(state, address.actor, did)
        return {"$type": VIEW_BLOCKED, "uri": uri, "blocked": True, "author": author}
    if effect is Effect.DETACH:
        return {"$type": VIEW_DETACHED, "uri": uri, "detached": True}
    if effect is None and address is not None:
        found = state.posts.get(address) or state.named.get(address)
        if found is None or not state.take_repeat(found.record):
            return {"$type": VIEW_NOT_FOUND, "uri": uri, "notFound": True}
        if address in state.posts:
            return _quoted_post(state, address, depth)
        view = embedded_view(state, address)
        if view is not None:
            return view
    return {"$type": VIEW_NOT_FOUND, "uri": uri, "notFound": True}


def _quoted_post(state: State, address: Address, depth: int) -> dict[str, Any]:
    post = state.posts[address]
    fields = post_fields(state, address)
    if depth < MAX_QUOTES:
        inner = embed_view(state, post, depth=depth)
        fields["embeds"] = [inner] if inner else []
    return {"$type": VIEW_RECORD, **fields, "value": post.record.json}


def post_fields(state: State, address: Address) -> dict[str, Any]:
    """Return the fields of a post that its quotes show too."""
    post, actor = state.posts[address], state.actors[address.actor]
    uri = state.uris[address]
    return {
        "uri": uri,
        "cid": post.record.cid,
        "author": profile_view_basic(state, actor),
        "labels": [
            *label_views(state, address, uri),
            *self_labels(actor.did, uri, post.record),
        ],
        "replyCount": max(0, post.replies - state.restrictions.uncounted(address)),
        "repostCount": post.reposts,
        "likeCount": post.likes,
        "quoteCount": post.quotes,
        "indexedAt": datetime_text(post.sort_at),
    }
