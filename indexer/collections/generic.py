"""Searchable parts of records of any lexicon.

A plan (indexer.collections.field_plan) gives the roles of fields. Fields without one
have the role that their name and the shape of their value suggest. Everything is
bounded: depth, values, characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from indexer.collections.field_plan import (
    ALT,
    DATE,
    DATES,
    LANG,
    LANGS,
    LINK,
    NEST,
    SKIP,
    TAG,
    TAGS,
    TEXT,
    TITLE,
    TITLES,
    FieldPlan,
    Plan,
)
from indexer.collections.source import Value, optional_time
from indexer.links import is_web_url
from protocol.syntax import is_datetime, is_did
from search.documents import RecordText

MAX_TEXT_CHARS: Final = 16_000
"""Maximum text gathered from one record; the longest strings come first."""
MAX_TITLE_CHARS: Final = 256
_MAX_DEPTH: Final = 32
_MAX_VALUES: Final = 20_000
_MAX_STRINGS: Final = 4_000
_MAX_FOUND: Final = 64
_MAX_TAG_CHARS: Final = 128
_MAX_LANG_CHARS: Final = 35
_MAX_LANGS: Final = 3
_MAX_WORD_CHARS: Final = 200
_NOT_TEXT: Final = frozenset(
    [
        "$type",
        "mimeType",
        "cid",
        "rkey",
        "ref",
        "sig",
        "signature",
        "hash",
        "key",
        "color",
        "colour",
        "updatedAt",
        "indexedAt",
    ]
)
_LANG: Final = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*", re.ASCII)
_CID: Final = re.compile(r"(bafy|bafk|bafz|Qm)[A-Za-z0-9]{40,}", re.ASCII)
_OTHER_URI: Final = re.compile(r"[a-z][a-z0-9+.-]{1,15}:[^\s]*", re.ASCII)
_NO_FIELDS: Final[Mapping[str, FieldPlan]] = {}


def read_text(value: Value, plan: Plan | None = None) -> RecordText:
    """Return the searchable parts of a record."""
    reader = _Reader(plan)
    reader.read(value, plan.root if plan else None, 0)
    return reader.result()


def to_text(value: Value) -> RecordText:
    """Return the searchable parts of a record of an unknown lexicon."""
    return read_text(value)


class _Reader:
    """The parts of one record, as they are found."""

    def __init__(self, plan: Plan | None) -> None:
        self._types = plan.types if plan else {}
        self._planned = plan is not None
        self._left = _MAX_VALUES
        self._texts: list[str] = []
        self._titles: dict[str, str] = {}
        self._planned_title = ""
        self._alts: list[str] = []
        self._tags: dict[str, None] = {}
        self._langs: dict[str, None] = {}
        self._urls: dict[str, None] = {}
        self._mentions: dict[str, None] = {}
        self._times: dict[str, str] = {}
        self._features: dict[str, None] = {}

    def read(self, value: Mapping[str, Any], kind: str | None, depth: int) -> None:
        """Take every field of an object of a type of the plan."""
        if value.get("$type") == "blob" or "mimeType" in value:
            self._take_blob(value)
            return
        fields = self._types.get(kind, _NO_FIELDS) if kind else _NO_FIELDS
        items = [*value.items()]
        if depth == 0:
            # Titles and times are not lost behind a very long list.
            items.sort(key=lambda pair: type(pair[1]) is not str)
        for key, item in items:
            self._take(key, item, fields.get(key), depth)

    def _take(self, key: str, item: Any, plan: FieldPlan | None, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            return
        kind = type(item)
        if kind is str:
            self._take_string(key, item, plan, depth)
        elif kind is dict:
            if plan is None or plan.role == NEST or "mimeType" in item:
                self.read(item, _type_of(item, plan), depth + 1)
        elif kind is list:
            for part in item:
                self._take(key, part, plan, depth + 1)
                if self._left < 0:
                    return

    def _take_string(
        self, key: str, text: str, plan: FieldPlan | None, depth: int
    ) -> None:
        role = plan.role if plan is not None else NEST
        if role == NEST:
            role = _guess_role(key, text)
        if role == SKIP or key == "$type":
            return
        if role == LINK:
            self._take_link(text)
        elif role == DATE:
            if is_datetime(text):
                self._times.setdefault(key, text)
        elif role == LANG:
            if _LANG.fullmatch(text) and len(text) <= _MAX_LANG_CHARS:
                self._put(self._langs, text)
        elif role == TAG:
            word = text.partition("#")[2] or text
            if word and len(word) <= _MAX_TAG_CHARS:
                self._put(self._tags, word)
            self._put_text(word)
        elif role == ALT:
            self._put_alt(text)
        elif role == TITLE and not self._planned_title:
            self._planned_title = text
        else:
            put = self._put_text(text)
            short = put and len(text) <= MAX_TITLE_CHARS
            if depth == 0 and (short or key in TITLES):
                self._titles.setdefault(key, text)

    def _put(self, found: dict[str, None], text: str) -> None:
        if len(found) < _MAX_FOUND:
            found[text] = None

    def _put_text(self, text: str) -> bool:
        if text.strip() and len(self._texts) < _MAX_STRINGS and _is_readable(text):
            self._texts.append(text[:MAX_TEXT_CHARS])
            return True
        return False

    def _put_alt(self, text: str) -> None:
        if text.strip() and len(self._alts) < _MAX_FOUND:
            self._alts.append(text[:MAX_TEXT_CHARS])

    def _take_link(self, text: str) -> None:
        if is_web_url(text):
            self._put(self._urls, text)
            self._features["link"] = None
        elif is_did(text):
            self._put(self._mentions, text)

    def _take_blob(self, value: Mapping[str, Any]) -> None:
        kind = value.get("mimeType")
        if isinstance(kind, str) and kind.startswith(("image/", "video/")):
            self._features["media"] = None
            self._features["images" if kind.startswith("image/") else "video"] = None

    def result(self) -> RecordText:
        """Return what was found."""
        title = self._planned_title or self._guess_title()
        texts = [text for text in self._texts if text != title]
        return RecordText(
            text=_longest(texts),
            title=title[:MAX_TITLE_CHARS],
            langs=tuple(self._langs)[:_MAX_LANGS],
            tags=tuple(self._tags),
            mentions=tuple(self._mentions),
            urls=tuple(self._urls),
            features=tuple(self._features),
            alt=_longest(self._alts),
            created_at=self._time(),
        )

    def _guess_title(self) -> str:
        named = next((self._titles[k] for k in TITLES if k in self._titles), "")
        if named or self._planned:
            return named
        first = next(iter(self._titles.values()), "")
        # A short text before a longer one.
        longest = max(map(len, self._texts), default=0)
        return first if longest >= 2 * len(first) else ""

    def _time(self) -> datetime | None:
        key = next((key for key in DATES if key in self._times), None)
        key = key or next(iter(self._times), None)
        return None if key is None else optional_time(self._times, key)


def _type_of(item: Mapping[str, Any], plan: FieldPlan | None) -> str | None:
    """Return the type of an object in a field: its `$type`, or the only one."""
    if plan is None or not plan.types:
        return None
    named = item.get("$type")
    if isinstance(named, str) and named.removesuffix("#main") in plan.types:
        return named.removesuffix("#main")
    return plan.types[0] if len(plan.types) == 1 else None


def _guess_role(key: str, text: str) -> str:
    """Return the role of a string by its field's name and its shape."""
    if key in _NOT_TEXT:
        return SKIP
    if text.startswith(("http://", "https://", "at://", "did:")):
        # A text may begin with an address.
        return TEXT if " " in text else LINK
    if key in LANGS:
        return LANG
    if key in TAGS:
        return TAG
    if key == "alt":
        return ALT
    if text[:1].isdigit() and len(text) < 64 and is_datetime(text):
        return DATE
    if _CID.fullmatch(text) or _OTHER_URI.fullmatch(text):
        return SKIP
    return TEXT


def _is_readable(text: str) -> bool:
    """Return False for data in the form of text: long, ASCII, without a space."""
    return not (len(text) > _MAX_WORD_CHARS and text.isascii() and " " not in text)


def _longest(texts: list[str]) -> str:
    """Join texts in their order; beyond the limit the longest are kept."""
    if sum(map(len, texts)) + len(texts) <= MAX_TEXT_CHARS:
        return "\n".join(texts)
    kept: set[int] = set()
    left = MAX_TEXT_CHARS
    for place in sorted(range(len(texts)), key=lambda at: -len(texts[at])):
        left -= len(texts[place]) + 1
        kept.add(place)
        if left <= 0:
            break
    joined = "\n".join(text for at, text in enumerate(texts) if at in kept)
    return joined[:MAX_TEXT_CHARS]
