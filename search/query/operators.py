"""Operators of the search language: names, and the values that each takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from protocol.syntax import is_did, is_handle
from search.query.nodes import Kind, Place
from search.text.languages import primary_language
from search.text.tags import normalize_tag as normalize_tag
from storage.records.web_urls import normalize_domain, normalize_url

ResolveHandle = Callable[[str], str | None]
NOBODY: Final = "did:plc:nobody"
"""A DID of no account, for a handle that does not resolve."""

FILTERS: Final[dict[str, Kind]] = {
    "from": Kind.AUTHOR,
    "author": Kind.AUTHOR,
    "mentions": Kind.MENTION,
    "to": Kind.MENTION,
    "domain": Kind.DOMAIN,
    "url": Kind.URL,
    "lang": Kind.LANG,
    "has": Kind.FEATURE,
    "is": Kind.FEATURE,
}
ACCOUNT_KINDS: Final = frozenset({Kind.AUTHOR, Kind.MENTION})
TIMES: Final = ("since", "until")
PLACES: Final = "in"
LIKES: Final = ("min_likes", "min-likes", "minlikes")
OPERATORS: Final = frozenset({*FILTERS, *TIMES, *LIKES, PLACES})
_FEATURE_NAMES: Final = {
    "media": "media",
    "image": "images",
    "images": "images",
    "video": "video",
    "videos": "video",
    "link": "link",
    "links": "link",
    "reply": "reply",
    "replies": "reply",
    "quote": "quote",
    "quotes": "quote",
}
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LANG: Final = re.compile(r"[a-z]{2,3}")
_FIRST_MOMENT: Final = datetime(1, 1, 3, tzinfo=UTC)


class InvalidQueryError(ValueError):
    """The query is malformed; the message is for its author."""


def read_value(
    operator: str,
    value: str,
    resolve_handle: ResolveHandle,
    viewer: str | None,
) -> str:
    """Return the value of a filter as documents hold it. Raises InvalidQueryError."""
    kind = FILTERS[operator]
    if kind in ACCOUNT_KINDS:
        return resolve_account(value, resolve_handle, viewer)
    if kind is Kind.FEATURE:
        return _read_feature(operator, value)
    if kind is Kind.LANG:
        return read_language(value)
    if kind is Kind.URL:
        return normalize_url(value)
    return normalize_domain(value)


def _read_feature(operator: str, value: str) -> str:
    feature = _FEATURE_NAMES.get(value.lower())
    if feature is None:
        known = ", ".join(dict.fromkeys(_FEATURE_NAMES.values()))
        raise InvalidQueryError(f"{operator}:{value} is not known; try {known}")
    return feature


def read_language(value: str) -> str:
    """Return the primary subtag of a language tag. Raises InvalidQueryError."""
    primary = primary_language(value)
    if not _LANG.fullmatch(primary):
        raise InvalidQueryError(
            f"lang:{value} is not a language code; write lang:ja or lang:pt-BR"
        )
    return primary


def resolve_account(
    value: str, resolve_handle: ResolveHandle, viewer: str | None
) -> str:
    """Return the DID of `me`, a DID or a handle (with or without @).

    An unknown handle gives a DID of no account: the answer is empty, not an error.
    """
    name = value.removeprefix("@")
    if name.lower() == "me":
        if viewer is None:
            raise InvalidQueryError("`me` needs a signed-in account")
        return viewer
    if is_did(name):
        return name
    if not is_handle(name):
        raise InvalidQueryError(f"{value!r} is neither a handle nor a DID")
    return resolve_handle(name.lower()) or NOBODY


def parse_moment(text: str) -> datetime:
    """Parse a date (`2026-11-22`, midnight UTC) or a datetime of RFC 3339."""
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        if not timedelta(0) <= moment - _FIRST_MOMENT:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidQueryError(
            f"{text!r} is not a date; write 2026-11-22 or 2026-11-22T10:00:00Z"
        ) from None


def read_likes(text: str) -> int:
    """Return the number of a `min_likes:`. Raises InvalidQueryError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidQueryError(f"min_likes:{text} is not a number; write min_likes:10")
    return int(text)


def read_place(value: str, viewer: str | None) -> tuple[Place, str]:
    """Return the place of an `in:` and the account or list that it belongs to.

    `in:list` stands for all lists of the viewer. Raises InvalidQueryError.
    """
    if value.startswith("at://"):
        return Place.LIST, value
    try:
        place = Place(value.lower())
    except ValueError:
        raise InvalidQueryError(
            f"in:{value} is not known; try in:following, in:likes, in:list "
            "or in: with the AT-URI of a list"
        ) from None
    if viewer is None:
        raise InvalidQueryError(f"in:{value} needs a signed-in account")
    return place, viewer
