"""Cards of web pages from the site.standard records behind them."""

from __future__ import annotations

from math import ceil
from typing import Any, Final
from urllib.parse import urlsplit

from appview.hydration.records import Record
from appview.hydration.site_standard import DOCUMENT, PUBLICATION, SitePages, site_uri
from appview.hydration.state import State
from appview.rules import Place, shown_records
from appview.views.blob_url import image_url
from appview.views.checked import fits
from appview.views.common import label_views, present, text_of
from appview.views.profile import profile_view_basic
from protocol.data.blob import blob_cid
from protocol.data.cbor import Value
from storage.records.addresses import Address
from storage.records.web_urls import MAX_URL_CHARS, normalize_url

WORDS_PER_MINUTE: Final = 200
AUTHORS_OWN_PATHS: Final = ("pckt.blog", "leaflet.pub", "offprint.app")
"""Domains whose authors own all pages below the address of their document."""
COLOR: Final = "site.standard.theme.color#rgb"
_COLORS: Final = {
    "background": "backgroundRGB",
    "foreground": "foregroundRGB",
    "accent": "accentRGB",
    "accentForeground": "accentForegroundRGB",
}

Pair = tuple[Record | None, Record | None]
"""A document and its publication."""


def choose_pair(state: State, pages: SitePages) -> Pair:
    """Return the first document with its publication, else the first publication.

    Both are None if the document names a publication that is not among the pages.
    """
    documents = _shown(state, DOCUMENT, pages.documents)
    publications = _shown(state, PUBLICATION, pages.publications)
    if not documents:
        return None, publications[0] if publications else None
    document = documents[0]
    site = site_uri(document)
    if site is None:
        return document, None
    for publication in publications:
        if state.uris.get(publication.address) == site:
            return document, publication
    return None, None


def card_of(state: State, pair: Pair, url: str) -> dict[str, Any] | None:
    """Return the card of a page (viewExternal); None if the records are of another."""
    document, publication = pair
    shown = document or publication
    if shown is None or not _stands_behind(document, publication, url):
        return None
    title = text_of(shown.value, "title" if document else "name")
    if not title:
        return None
    records = [record for record in pair if record is not None]
    return present(
        uri=url,
        title=title,
        description=text_of(shown.value, "description") or "",
        **(_document_fields(state, document) if document else {}),
        labels=[
            label
            for record in records
            for label in label_views(state, record.address, _uri(state, record))
        ]
        or None,
        source=_source(state, publication) if publication else None,
        associatedProfiles=[
            profile_view_basic(state, state.actors[actor])
            for actor in dict.fromkeys(record.address.actor for record in records)
        ],
        associatedRefs=references(state, pair),
    )


def references(state: State, pair: Pair) -> list[dict[str, str]]:
    """Return strong references to the records of a pair."""
    return [
        {"uri": _uri(state, record), "cid": record.cid}
        for record in pair
        if record is not None
    ]


def _shown(state: State, nsid: str, addresses: list[Address]) -> list[Record]:
    held = [a for a in addresses if a in state.records and a in state.uris]
    shown = shown_records(state, Place.ANY_RECORD, held)
    return [record for a in shown if fits(nsid, (record := state.records[a]).value)]


def _uri(state: State, record: Record) -> str:
    return state.uris[record.address]


def _document_fields(state: State, document: Record) -> dict[str, Any]:
    value, actor = document.value, state.actors[document.address.actor]
    words = len((text_of(value, "textContent") or "").split())
    return {
        "thumb": image_url(
            state, actor, blob_cid(value.get("coverImage")), "feed_thumbnail"
        ),
        "createdAt": text_of(value, "publishedAt"),
        "updatedAt": text_of(value, "updatedAt"),
        "readingTime": ceil(words / WORDS_PER_MINUTE) or None,
    }


def _source(state: State, publication: Record) -> dict[str, Any]:
    value, actor = publication.value, state.actors[publication.address.actor]
    return present(
        uri=text_of(value, "url"),
        icon=image_url(state, actor, blob_cid(value.get("icon")), "avatar"),
        title=text_of(value, "name"),
        description=text_of(value, "description"),
        theme=_theme(value.get("basicTheme")),
    )


def _theme(theme: Value) -> dict[str, Any] | None:
    if not isinstance(theme, dict):
        return None
    found = {
        name: {part: color[part] for part in "rgb"}
        for field, name in _COLORS.items()
        if isinstance(color := theme.get(field), dict) and color.get("$type") == COLOR
    }
    return found or None


def _stands_behind(
    document: Record | None, publication: Record | None, url: str
) -> bool:
    """Return True if the records say that they are the page at `url`."""
    asked = _plain(url)
    if publication is not None:
        base = text_of(publication.value, "url")
    else:
        base = text_of(document.value, "site") if document else None
    path = text_of(document.value, "path") if document else None
    joined = f"{(base or '').rstrip('/')}/{path.lstrip('/')}" if path else base or ""
    own = _plain(joined)
    if asked is None or own is None:
        return False
    if asked == own:
        return True
    if document is None or not asked.startswith(f"{own}/"):
        return False
    host = urlsplit(asked).hostname or ""
    return any(host == each or host.endswith(f".{each}") for each in AUTHORS_OWN_PATHS)


def _plain(url: str) -> str | None:
    """Return a web address without query and fragment, None for any other."""
    plain = normalize_url(url.split("#", 1)[0].split("?", 1)[0])
    is_whole = len(plain) < MAX_URL_CHARS
    return plain if is_whole and plain.startswith(("http://", "https://")) else None
