"""Views of local records: no counts, labels or viewer state, which the indexer adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from pds.read_after_write.local_records import LocalPost, LocalRecords
from protocol.syntax import INVALID_HANDLE

EMBED: Final = "app.bsky.embed"
_IMAGES: Final = f"{EMBED}.images"
_EXTERNAL: Final = f"{EMBED}.external"
_RECORD: Final = f"{EMBED}.record"
_WITH_MEDIA: Final = f"{EMBED}.recordWithMedia"

View = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LocalViews:
    """Views of one account's records.

    `pattern` makes image URLs of {preset}, {did} and {cid}. `quoted` has the views of
    embedded records by AT-URI.
    """

    local: LocalRecords
    pattern: str
    quoted: Mapping[str, View]

    @property
    def did(self) -> str:
        """Return the account's DID."""
        return self.local.account.did

    def show_post(self, post: LocalPost) -> View:
        """Return the view of a post."""
        view: View = {
            "uri": post.uri,
            "cid": post.cid,
            "author": self._author(),
            "record": post.record,
            "likeCount": 0,
            "replyCount": 0,
            "repostCount": 0,
            "quoteCount": 0,
            "indexedAt": post.indexed_at,
        }
        embed = self._embed(post.record.get("embed"))
        return view if embed is None else view | {"embed": embed}

    def update_author(self, view: View) -> View:
        """Return the view of an account with the fields of the new profile, if it is
        this account's."""
        profile = self.local.profile
        if view["did"] != self.did or not self.local.has_new_profile or profile is None:
            return view
        fields = {
            "displayName": profile.get("displayName"),
            "avatar": self._image("avatar", profile.get("avatar")),
        }
        return _replaced(view, fields)

    def update_profile(self, view: View) -> View:
        """Return a detailed view as `update_author` does."""
        profile = self.local.profile
        updated = self.update_author(view)
        if updated is view or profile is None:
            return view
        fields = {
            "description": profile.get("description"),
            "banner": self._image("banner", profile.get("banner")),
        }
        return _replaced(updated, fields)

    def _author(self) -> View:
        profile = self.local.profile or {}
        fields = {
            "did": self.did,
            "handle": self.local.account.handle or INVALID_HANDLE,
            "displayName": profile.get("displayName"),
            "avatar": self._image("avatar", profile.get("avatar")),
        }
        return _replaced({}, fields)

    def _image(self, preset: str, blob: Mapping[str, Any] | None) -> str | None:
        if blob is None:
            return None
        did = quote(self.did, safe=":")
        return self.pattern.format(preset=preset, did=did, cid=blob["ref"]["$link"])

    def _embed(self, embed: Mapping[str, Any] | None) -> View | None:
        kind = None if embed is None else embed["$type"]
        if embed is None or kind not in _SHOWN:
            return None
        if kind == _RECORD:
            return self._quote(embed)
        if kind != _WITH_MEDIA:
            return self._media(embed)
        media = self._media(embed["media"])
        if media is None:
            return None
        record = self._quote(embed["record"])
        return {"$type": f"{_WITH_MEDIA}#view", "record": record, "media": media}

    def _media(self, embed: Mapping[str, Any]) -> View | None:
        if embed["$type"] == _IMAGES:
            images = [self._picture(item) for item in embed["images"]]
            return {"$type": f"{_IMAGES}#view", "images": images}
        if embed["$type"] == _EXTERNAL:
            card = dict(embed["external"])
            thumb = self._image("feed_thumbnail", card.pop("thumb", None))
            shown = {name: card[name] for name in ("uri", "title", "description")}
            external = _replaced(shown, {"thumb": thumb})
            return {"$type": f"{_EXTERNAL}#view", "external": external}
        return None

    def _picture(self, item: Mapping[str, Any]) -> View:
        fields = {
            "thumb": self._image("feed_thumbnail", item["image"]),
            "fullsize": self._image("feed_fullsize", item["image"]),
            "alt": item["alt"],
            "aspectRatio": item.get("aspectRatio"),
        }
        return _replaced({}, fields)

    def _quote(self, embed: Mapping[str, Any]) -> View:
        uri = embed["record"]["uri"]
        absent = {"$type": f"{_RECORD}#viewNotFound", "uri": uri, "notFound": True}
        return {"$type": f"{_RECORD}#view", "record": self.quoted.get(uri, absent)}


_SHOWN: Final = frozenset({_IMAGES, _EXTERNAL, _RECORD, _WITH_MEDIA})


def quoted_uri(post: LocalPost) -> str | None:
    """Return the AT-URI of the record that a post embeds."""
    embed = post.record.get("embed")
    if embed is not None and embed["$type"] == _WITH_MEDIA:
        embed = embed["record"]
    elif embed is None or embed["$type"] != _RECORD:
        return None
    uri: str = embed["record"]["uri"]
    return uri


def _replaced(view: View, fields: Mapping[str, Any]) -> View:
    """Return a view with these fields; those that are None are removed."""
    whole = {**view, **fields}
    return {name: value for name, value in whole.items() if value is not None}
