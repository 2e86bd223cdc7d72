"""Media below a post's text: images, galleries, video, link cards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from appview.hydration.actors import Actor
from appview.hydration.state import State
from appview.views.blob_url import PLAYLIST, THUMBNAIL, image_url, video_url
from appview.views.checked import ASPECT_RATIO, STRONG_REF, list_of, part_of
from appview.views.common import present, text_of
from protocol.data.blob import blob_cid
from protocol.data.cbor import Value
from protocol.data.cid import cid_to_text
from protocol.syntax import is_uri

IMAGES: Final = "app.bsky.embed.images"
VIDEO: Final = "app.bsky.embed.video"
GALLERY: Final = "app.bsky.embed.gallery"
EXTERNAL: Final = "app.bsky.embed.external"
MAX_IMAGES: Final = 4
MAX_GALLERY_ITEMS: Final = 10
"""Images of a gallery that clients show; the lexicon lets a record hold 20."""

Embed = dict[str, Value]


def media_view(state: State, actor: Actor, embed: Value) -> dict[str, Any] | None:
    """Return the view of an embed without a quote; None for unknown kinds."""
    if not isinstance(embed, dict):
        return None
    kind = embed.get("$type")
    make = _MAKERS.get(kind) if isinstance(kind, str) else None
    return make(state, actor, embed) if make else None


def _images(state: State, actor: Actor, embed: Embed) -> dict[str, Any] | None:
    views = []
    for item in _items(embed, "images")[:MAX_IMAGES]:
        urls = _image_urls(state, actor, item)
        if urls is not None:
            thumb, fullsize = urls
            views.append(
                present(
                    thumb=thumb,
                    fullsize=fullsize,
                    alt=text_of(item, "alt") or "",
                    aspectRatio=part_of(item, "aspectRatio", ASPECT_RATIO),
                )
            )
    return {"$type": f"{IMAGES}#view", "images": views} if views else None


def _gallery(state: State, actor: Actor, embed: Embed) -> dict[str, Any] | None:
    views = []
    for item in _items(embed, "items")[:MAX_GALLERY_ITEMS]:
        urls = _image_urls(state, actor, item)
        ratio = part_of(item, "aspectRatio", ASPECT_RATIO)
        if item.get("$type") != f"{GALLERY}#image" or urls is None or ratio is None:
            continue
        thumb, fullsize = urls
        views.append(
            {
                "$type": f"{GALLERY}#viewImage",
                "thumbnail": thumb,
                "fullsize": fullsize,
                "alt": text_of(item, "alt") or "",
                "aspectRatio": ratio,
            }
        )
    return {"$type": f"{GALLERY}#view", "items": views} if views else None


def _video(state: State, actor: Actor, embed: Embed) -> dict[str, Any] | None:
    cid = blob_cid(embed.get("video"))
    playlist = video_url(state, actor, cid, PLAYLIST) if cid else None
    if cid is None or playlist is None:
        return None
    return present(
        **{"$type": f"{VIDEO}#view"},
        cid=cid_to_text(cid),
        playlist=playlist,
        thumbnail=video_url(state, actor, cid, THUMBNAIL),
        alt=text_of(embed, "alt"),
        aspectRatio=part_of(embed, "aspectRatio", ASPECT_RATIO),
        presentation=text_of(embed, "presentation"),
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
            associatedRefs=list_of(external, "associatedRefs", STRONG_REF),
        ),
    }


_MAKERS: Final[dict[str, Callable[[State, Actor, Embed], dict[str, Any] | None]]] = {
    IMAGES: _images,
    GALLERY: _gallery,
    VIDEO: _video,
    EXTERNAL: _external,
}


def _items(embed: Embed, field: str) -> list[Embed]:
    items = embed.get(field)
    return [i for i in (items if isinstance(items, list) else []) if type(i) is dict]


def _image_urls(state: State, actor: Actor, item: Embed) -> tuple[str, str] | None:
    cid = blob_cid(item.get("image"))
    thumb = image_url(state, actor, cid, "feed_thumbnail")
    fullsize = image_url(state, actor, cid, "feed_fullsize")
    return (thumb, fullsize) if thumb and fullsize else None
