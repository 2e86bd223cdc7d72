"""What stands below a post's text: images, video, link cards, quoted records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appview.hydration.actors import Actor
from appview.hydration.records import Post
from appview.hydration.state import State, quoted_uri
from appview.rules import Effect, Place, decide_record
from appview.views.blocks import blocked_author
from appview.views.common import (
    blob_cid,
    datetime_text,
    image_url,
    label_views,
    present,
    text_of,
)
from appview.views.named import embedded_view
from appview.views.profile import profile_view_basic
from protocol.cbor import Value
from protocol.json_form import to_json
from protocol.syntax import is_uri
from storage.documents import Address

IMAGES = "app.bsky.embed.images"
VIDEO = "app.bsky.embed.video"
EXTERNAL = "app.bsky.embed.external"
RECORD = "app.bsky.embed.record"
RECORD_WITH_MEDIA = "app.bsky.embed.recordWithMedia"
VIEW_RECORD = f"{RECORD}#viewRecord"
VIEW_NOT_FOUND = f"{RECORD}#viewNotFound"
VIEW_BLOCKED = f"{RECORD}#viewBlocked"
VIEW_DETACHED = f"{RECORD}#viewDetached"

Embed = dict[str, Value]


def embed_view(
    state: State, post: Post, *, quotes: bool = True
) -> dict[str, Any] | None:
    """The embed of a post, or None if it has none that can be shown.

    `quotes` False leaves quoted records out: a quote within a quote is not loaded.
    """
    address = post.record.address
    actor = state.actors[address.actor]
    embed = post.record.value.get("embed")
    if not isinstance(embed, dict):
        return None
    kind = embed.get("$type")
    if kind == RECORD:
        return _record(state, post) if quotes else None
    if kind == RECORD_WITH_MEDIA:
        media = _media(state, actor, embed.get("media"))
        if not quotes:
            return media
        record = _record(state, post)
        if media is None or record is None:
            return record or media
        return {"$type": f"{kind}#view", "record": record, "media": media}
    return _media(state, actor, embed)


def _media(state: State, actor: Actor, embed: Value) -> dict[str, Any] | None:
    if not isinstance(embed, dict):
        return None
    makers: dict[Value, Callable[[State, Actor, Embed], dict[str, Any] | None]] = {
        IMAGES: _images,
        VIDEO: _video,
        EXTERNAL: _external,
    }
    make = makers.get(embed.get("$type"))
    return make(state, actor, embed) if make else None


def _images(state: State, actor: Actor, embed: Embed) -> dict[str, Any] | None:
    items = embed.get("images")
    views = []
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, dict):
            continue
        cid = blob_cid(item.get("image"))
        thumb = image_url(state, actor, cid, "feed_thumbnail")
        if thumb is not None:
            views.append(
                present(
                    thumb=thumb,
                    fullsize=image_url(state, actor, cid, "feed_fullsize"),
                    alt=text_of(item, "alt") or "",
                    aspectRatio=_aspect_ratio(item),
                )
            )
    return {"$type": f"{IMAGES}#view", "images": views} if views else None


def _video(state: State, actor: Actor, embed: Embed) -> dict[str, Any] | None:
    cid = blob_cid(embed.get("video"))
    playlist = image_url(state, actor, cid, "video")
    if playlist is None:
        return None
    return present(
        **{"$type": f"{VIDEO}#view"},
        cid=cid,
        playlist=playlist,
        alt=text_of(embed, "alt"),
        aspectRatio=_aspect_ratio(embed),
    )


def _external(state: State, actor: Actor, embed: Embed) -> dict[str, Any] | None:
    external = embed.get("external")
    if not isinstance(external, dict):
        return None
    uri = text_of(external, "uri")
    if uri is None or not is_uri(uri):
        return None
    thumb = blob_cid(external.get("thumb"))
    return {
        "$type": f"{EXTERNAL}#view",
        "external": present(
            uri=uri,
            title=text_of(external, "title") or "",
            description=text_of(external, "description") or "",
            thumb=image_url(state, actor, thumb, "feed_thumbnail"),
        ),
    }


def _record(state: State, post: Post) -> dict[str, Any] | None:
    uri = quoted_uri(post.record.value)
    if uri is None:
        return None
    record = _quoted(state, uri, post.record.address)
    return {"$type": f"{RECORD}#view", "record": record}


def _quoted(state: State, uri: str, by: Address) -> dict[str, Any]:
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
        if address in state.posts:
            return _quoted_post(state, address)
        view = embedded_view(state, address)
        if view is not None:
            return view
    return {"$type": VIEW_NOT_FOUND, "uri": uri, "notFound": True}


def _quoted_post(state: State, address: Address) -> dict[str, Any]:
    post, actor = state.posts[address], state.actors[address.actor]
    value, uri = post.record.value, state.uris[address]
    inner = embed_view(state, post, quotes=False)
    return {
        "$type": VIEW_RECORD,
        "uri": uri,
        "cid": post.record.cid,
        "author": profile_view_basic(state, actor),
        "value": to_json(value),
        "labels": label_views(state, address, uri, actor.did, value),
        "replyCount": max(0, post.replies - state.standing.uncounted(address)),
        "repostCount": post.reposts,
        "likeCount": post.likes,
        "quoteCount": post.quotes,
        "embeds": [inner] if inner else [],
        "indexedAt": datetime_text(post.indexed_at),
    }


def _aspect_ratio(item: Embed) -> dict[str, int] | None:
    ratio = item.get("aspectRatio")
    if not isinstance(ratio, dict):
        return None
    width, height = ratio.get("width"), ratio.get("height")
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return {"width": width, "height": height}
    return None
