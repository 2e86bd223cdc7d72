"""The search language: a query text parsed to a `PostQuery` for any engine.

Operators: words, "phrases", -negation of either, #tag, from: / author:, mentions: /
to:, @handle, domain:, url:, lang:, since:, until:, has:media|images|video|link,
is:reply, and `me` for the viewer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from protocol.syntax import is_did, is_handle
from search.tokens import is_cjk, tokenize
from storage.records.web_urls import normalize_domain, normalize_url

MAX_QUERY_BYTES = 1_024
"""Longer query strings are refused: they cost too much."""
MAX_CLAUSES = 32
_NOBODY = "did:plc:nobody"
"""A filter that matches nothing, for a handle that does not resolve."""

Sort = Literal["latest", "top"]
ResolveHandle = Callable[[str], str | None]


class InvalidQueryError(ValueError):
    """The query is malformed; the message is for its author."""


@dataclass(frozen=True, slots=True)
class Clause:
    """Adjacent tokens in order; one word is one token.

    `prefix` lets the last token match any longer word.
    """

    tokens: tuple[str, ...]
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class PostQuery:
    """Conditions on posts.

    All values of a field are required; of `authors` and `langs` one is enough.
    """

    required: tuple[Clause, ...] = ()
    excluded: tuple[Clause, ...] = ()
    authors: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    langs: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    """A subset of media, images, video, link, reply, quote."""
    excluded_authors: tuple[str, ...] = ()
    excluded_tags: tuple[str, ...] = ()
    excluded_features: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    sort: Sort = "latest"

    @property
    def is_empty(self) -> bool:
        """Return True if nothing narrows the search."""
        return self == PostQuery(sort=self.sort)


FEATURES = ("media", "images", "video", "link", "reply", "quote")
_PART = re.compile(
    r'(?P<neg>-)?(?:(?P<op>[a-z]+):)?(?:"(?P<phrase>[^"]*)"?|(?P<bare>\S+))'
)
_OPERATORS = {
    "from": "authors",
    "author": "authors",
    "mentions": "mentions",
    "to": "mentions",
    "domain": "domains",
    "url": "urls",
    "lang": "langs",
    "since": "since",
    "until": "until",
    "has": "features",
    "is": "features",
}
_NORMALIZE: dict[str, Callable[[str], str]] = {
    "langs": lambda value: value.lower().split("-")[0],
    "domains": normalize_domain,
    "urls": normalize_url,
}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_query(
    text: str,
    *,
    resolve_handle: ResolveHandle,
    viewer: str | None = None,
    base: PostQuery | None = None,
) -> PostQuery:
    """Parse a query text; `base` holds filters of other parameters.

    `resolve_handle` returns the DID of a handle or None. Raises `InvalidQueryError`.
    """
    if len(text.encode("utf-8", "replace")) > MAX_QUERY_BYTES:
        raise InvalidQueryError(f"the query is over {MAX_QUERY_BYTES} bytes")
    parser = _Parser(resolve_handle, viewer)
    for match in _PART.finditer(text):
        parser.read(match)
        if len(parser.required) + len(parser.excluded) > MAX_CLAUSES:
            raise InvalidQueryError(f"more than {MAX_CLAUSES} words and phrases")
    return parser.extend(base or PostQuery())


@dataclass(slots=True)
class _Parser:
    resolve_handle: ResolveHandle
    viewer: str | None
    required: list[Clause] = field(default_factory=list)
    excluded: list[Clause] = field(default_factory=list)
    lists: dict[str, list[str]] = field(default_factory=dict)
    times: dict[str, datetime] = field(default_factory=dict)

    def read(self, match: re.Match[str]) -> None:
        negated, operator = match["neg"] is not None, match["op"]
        phrase, bare = match["phrase"], match["bare"]
        value = phrase if phrase is not None else bare
        target = _OPERATORS.get(operator) if operator else None
        if operator and target is None:
            # `https://…`, `12:30` and the like are words.
            value = f"{operator}:{value}"
        if target is not None and value:
            self._add_filter(target, value, negated)
        elif phrase is None and len(value) > 1 and value[0] in "#＃":
            name = "excluded_tags" if negated else "tags"
            self._add(name, normalize_tag(value[1:]))
        elif phrase is None and value.startswith("@") and is_handle(value[1:]):
            self._add_filter("mentions", value[1:], negated)
        else:
            self._add_words(value, phrase is not None, negated)

    def extend(self, base: PostQuery) -> PostQuery:
        changes: dict[str, Any] = {
            name: (*getattr(base, name), *values) for name, values in self.lists.items()
        }
        changes |= self.times
        return replace(
            base,
            required=(*base.required, *self.required),
            excluded=(*base.excluded, *self.excluded),
            **changes,
        )

    def _add(self, name: str, value: str) -> None:
        self.lists.setdefault(name, []).append(value)

    def _add_words(self, value: str, quoted: bool, negated: bool) -> None:
        tokens = tokenize(value)
        if not tokens:
            return
        if quoted or negated or is_cjk(value):
            clauses = [Clause(tuple(tokens))]
        else:
            clauses = [Clause((token,)) for token in tokens]
        (self.excluded if negated else self.required).extend(clauses)

    def _add_filter(self, target: str, value: str, negated: bool) -> None:
        if target in ("since", "until"):
            if negated:
                raise InvalidQueryError(
                    f"-{target}: has no meaning; leave out the minus"
                )
            self.times[target] = parse_moment(value)
        elif target == "features":
            feature = value.lower()
            if feature not in FEATURES:
                known = ", ".join(FEATURES)
                raise InvalidQueryError(f"has:{value} is not known; try {known}")
            self._add("excluded_features" if negated else "features", feature)
        elif target == "authors":
            did = resolve_account(value, self.resolve_handle, self.viewer)
            self._add("excluded_authors" if negated else "authors", did)
        elif negated:
            raise InvalidQueryError(f"a minus before {target[:-1]}: is not supported")
        elif target == "mentions":
            self._add(target, resolve_account(value, self.resolve_handle, self.viewer))
        else:
            self._add(target, _NORMALIZE[target](value))


def resolve_account(
    value: str, resolve_handle: ResolveHandle, viewer: str | None
) -> str:
    """Return the DID of `me`, a DID or a handle (with or without @).

    An unknown handle gives a DID of no account: the answer is empty, not an error.
    """
    name = value.removeprefix("@")
    if name == "me":
        if viewer is None:
            raise InvalidQueryError("`me` needs a signed-in account")
        return viewer
    if is_did(name):
        return name
    if not is_handle(name):
        raise InvalidQueryError(f"{value!r} is neither a handle nor a DID")
    return resolve_handle(name.lower()) or _NOBODY


def parse_moment(text: str) -> datetime:
    """Parse a date (`2026-11-22`, midnight UTC) or a datetime of RFC 3339."""
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        if not timedelta(0) <= moment - datetime(1, 1, 3, tzinfo=UTC):
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidQueryError(
            f"{text!r} is not a date; write 2026-11-22 or 2026-11-22T10:00:00Z"
        ) from None


def normalize_tag(tag: str) -> str:
    """Return a tag as it is compared: case folded, without leading `#`."""
    return tag.lstrip("#＃").casefold()[:64]
