"""Rows and searchable text of posts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntFlag
from typing import Any, Final

from indexer.collections.source import (
    Names,
    RowOut,
    Source,
    Value,
    require_text,
    require_time,
    strings_of,
)
from indexer.links import Target, parse_link
from protocol.errors import InvalidRecordError
from protocol.syntax import is_did
from search.documents import RecordText
from search.text.tags import tags_in
from storage.postgres.text import clean_text
from storage.records.rows import POST

_MAX_LANGS: Final = 3
_MAX_LANG_CHARS: Final = 35
_MAX_TAGS: Final = 64
_MAX_TAG_CHARS: Final = 640
_MAX_MENTIONS: Final = 64
_MAX_URL_CHARS: Final = 2_048

EMBED_IMAGES: Final = "app.bsky.embed.images"
EMBED_VIDEO: Final = "app.bsky.embed.video"
EMBED_EXTERNAL: Final = "app.bsky.embed.external"
EMBED_GALLERY: Final = "app.bsky.embed.gallery"
EMBED_RECORD: Final = "app.bsky.embed.record"
EMBED_RECORD_WITH_MEDIA: Final = "app.bsky.embed.recordWithMedia"
FACET_MENTION: Final = "app.bsky.richtext.facet#mention"
FACET_LINK: Final = "app.bsky.richtext.facet#link"
FACET_TAG: Final = "app.bsky.richtext.facet#tag"


class Media(IntFlag):
    """Bits of `post.media`."""

    IMAGES = 1
    VIDEO = 2
    EXTERNAL = 4
    RECORD = 8


_NO_MEDIA: Final = Media(0)
_MEDIA_OF: Final[dict[str, Media]] = {
    EMBED_IMAGES: Media.IMAGES,
    EMBED_GALLERY: Media.IMAGES,
    EMBED_VIDEO: Media.VIDEO,
    EMBED_EXTERNAL: Media.EXTERNAL,
    EMBED_RECORD: Media.RECORD,
}


def to_rows(value: Value, source: Source, names: Names) -> list[RowOut]:
    """Return one row: times, the replied-to post and root, media and languages."""
    require_text(value, "text")
    created_at = require_time(value)
    parent_actor = parent_rkey = root_actor = root_rkey = None
    if "reply" in value:
        root, parent = _reply(value)
        root_actor, _, root_rkey = names.target(root)
        parent_actor, _, parent_rkey = names.target(parent)
    embed = value.get("embed")
    media = find_media(embed)
    row = (
        source.actor,
        source.rkey,
        min(created_at, source.indexed_at),
        created_at,
        source.indexed_at,
        parent_actor,
        parent_rkey,
        root_actor,
        root_rkey,
        int(media),
        _langs(value),
    )
    return [(POST, row)]


def to_text(value: Value) -> RecordText:
    """Return the text, alt texts, link card, tags, mentions and URLs."""
    embed = value.get("embed")
    features = list(_facet_features(value))
    text = require_text(value, "text")
    tags = [*strings_of(value.get("tags")), *_field(features, FACET_TAG, "tag")]
    tags = [*tags[:_MAX_TAGS], *tags_in(text)]
    urls = _field(features, FACET_LINK, "uri")
    alt: list[str] = []
    card: list[str] = []
    if isinstance(embed, dict):
        _read_embed(embed, alt, card, urls)
    reply = value.get("reply")
    return RecordText(
        text=text,
        langs=tuple(_langs(value) or ()),
        tags=tuple(dict.fromkeys(clean_text(tag, _MAX_TAG_CHARS) for tag in tags)),
        mentions=tuple(dict.fromkeys(_mentioned(features)))[:_MAX_MENTIONS],
        urls=tuple(
            dict.fromkeys(clean_text(u, _MAX_URL_CHARS) for u in urls[:_MAX_TAGS])
        ),
        features=tuple(_features(value, find_media(embed), bool(urls))),
        quotes=tuple(_quotes(value)),
        reply_parent=_uri(reply, "parent"),
        reply_root=_uri(reply, "root"),
        alt="\n".join(alt),
        card="\n".join(card),
    )


def _features(value: Value, media: Media, has_link: bool) -> Iterator[str]:
    if media & (Media.IMAGES | Media.VIDEO):
        yield "media"
    if media & Media.IMAGES:
        yield "images"
    if media & Media.VIDEO:
        yield "video"
    if has_link:
        yield "link"
    if "reply" in value:
        yield "reply"
    if media & Media.RECORD:
        yield "quote"


def find_media(embed: Any) -> Media:
    if not isinstance(embed, dict):
        return _NO_MEDIA
    kind = embed.get("$type")
    if kind == EMBED_RECORD_WITH_MEDIA:
        return Media.RECORD | find_media(embed.get("media"))
    return _MEDIA_OF.get(kind, _NO_MEDIA) if isinstance(kind, str) else _NO_MEDIA


def _reply(value: Value) -> tuple[Target, Target]:
    reply = value["reply"]
    targets: list[Target] = []
    for end in ("root", "parent"):
        reference = reply.get(end) if isinstance(reply, dict) else None
        uri = reference.get("uri") if isinstance(reference, dict) else None
        target = parse_link(uri) if isinstance(uri, str) else None
        if target is None or target[2] is None:
            raise InvalidRecordError(f"reply.{end}", "not a reference to a record")
        targets.append(target)
    return targets[0], targets[1]


def _langs(value: Value) -> list[str] | None:
    langs = [
        clean_text(lang, _MAX_LANG_CHARS)
        for lang in strings_of(value.get("langs"))[:_MAX_LANGS]
    ]
    return langs or None


def _facet_features(value: Value) -> Iterator[Mapping[str, Any]]:
    facets = value.get("facets")
    for facet in facets if isinstance(facets, list) else ():
        features = facet.get("features") if isinstance(facet, dict) else None
        for feature in features if isinstance(features, list) else ():
            if isinstance(feature, dict):
                yield feature


def _field(features: list[Mapping[str, Any]], kind: str, field: str) -> list[str]:
    values = (item.get(field) for item in features if item.get("$type") == kind)
    return [value for value in values if isinstance(value, str)]


def _mentioned(features: list[Mapping[str, Any]]) -> Iterator[str]:
    return filter(is_did, _field(features, FACET_MENTION, "did"))


def _read_embed(
    embed: Mapping[str, Any], alts: list[str], card: list[str], urls: list[str]
) -> None:
    """Append the texts and URLs of pictures, a video or a link card."""
    media = embed.get("media")
    if isinstance(media, dict):
        embed = {**media, **embed}
    alt = embed.get("alt")
    if isinstance(alt, str):
        alts.append(alt)
    for field in ("images", "items"):
        images = embed.get(field)
        for image in images if isinstance(images, list) else ():
            if isinstance(image, dict) and isinstance(image.get("alt"), str):
                alts.append(image["alt"])
    external = embed.get("external")
    if isinstance(external, dict):
        for field in ("title", "description"):
            if isinstance(external.get(field), str):
                card.append(external[field])
        if isinstance(external.get("uri"), str):
            urls.append(external["uri"])


def _quotes(value: Value) -> Iterator[str]:
    record = value.get("embed")
    for _ in range(2):  # a record, or a record within a recordWithMedia
        record = record.get("record") if isinstance(record, dict) else None
        uri = record.get("uri") if isinstance(record, dict) else None
        if isinstance(uri, str) and parse_link(uri) is not None:
            yield uri


def _uri(reply: Any, end: str) -> str | None:
    reference = reply.get(end) if isinstance(reply, dict) else None
    uri = reference.get("uri") if isinstance(reference, dict) else None
    return uri if isinstance(uri, str) else None
