"""Normal forms of the values in recipes. A ValueError says what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from feeds.recipes.patterns import Pattern
from protocol.errors import InvalidSyntaxError
from protocol.syntax import is_did, is_handle, is_nsid, parse_at_uri
from search.query.nodes import Filter, Node, Not, Words
from search.query.operators import InvalidQueryError, read_language
from search.query.parser import parse_query
from search.text.tags import normalize_tag
from storage.collections import FEED_POST, GRAPH_LIST, GRAPH_STARTERPACK
from storage.records.web_urls import normalize_domain

MEDIA: Final = ("images", "video", "link")
_LABEL: Final = re.compile(r"!?[a-z0-9-]{1,100}")
_DOMAIN: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_ANY_DID: Final = "did:plc:unresolved"
_VIEWER: Final = "did:plc:viewer"


class Checks:
    """The checks of one recipe, with the handles, patterns and filters in it."""

    def __init__(self) -> None:
        self.handles: set[str] = set()
        self.patterns = 0
        self.filters = 0

    def search(self, text: str) -> str:
        """Check a query text of the search language."""
        # A viewer is needed to read `in:` and `me`, which are refused.
        query = parse_query(text, resolve_handle=self._note_handle, viewer=_VIEWER)
        if query.within or _VIEWER in {f.value for f in _filters(query.where)}:
            raise InvalidQueryError(
                "in: and `me` have no meaning here; use a source of accounts"
            )
        if query.min_likes:
            raise InvalidQueryError("min_likes: has no meaning here; use [filter]")
        if query.since or query.until:
            raise InvalidQueryError("since: and until: have no meaning; use max_age")
        if query.is_empty:
            raise InvalidQueryError("the query holds no word")
        return text

    def pattern(self, text: str) -> str:
        """Check a regular expression."""
        self.patterns += 1
        Pattern(text)
        return text

    def account(self, text: str) -> str:
        """Return a DID, or a handle in lower case."""
        name = text.removeprefix("@")
        if is_did(name):
            return name
        if not is_handle(name):
            raise ValueError(f"{text} is neither a handle nor a DID")
        self.handles.add(name.lower())
        return name.lower()

    def tag(self, text: str) -> str:
        """Return a tag as documents hold it."""
        tag = normalize_tag(text)
        if not tag:
            raise ValueError(f"{text} is no tag")
        return tag

    def domain(self, text: str) -> str:
        """Return a domain as documents hold it."""
        domain = normalize_domain(text)
        if not _DOMAIN.fullmatch(domain):
            raise ValueError(f"{text} is no domain; write example.com")
        return domain

    def language(self, text: str) -> str:
        """Return the primary subtag of a language."""
        return read_language(text)

    def media(self, text: str) -> str:
        """Check a kind of media."""
        if text not in MEDIA:
            raise ValueError(f"write one of {', '.join(MEDIA)}")
        return text

    def label(self, text: str) -> str:
        """Check the value of a label."""
        if not _LABEL.fullmatch(text):
            raise ValueError(f"{text} is no label; write spam or !warn")
        return text

    def collection(self, text: str) -> str:
        """Check the NSID of a collection."""
        if not is_nsid(text):
            raise ValueError(f"{text} is no collection; write {FEED_POST}")
        return text

    def post(self, text: str) -> str:
        """Check the AT-URI of a post."""
        return _record_of(text, FEED_POST)

    def list(self, text: str) -> str:
        """Check the AT-URI of a list."""
        return _record_of(text, GRAPH_LIST)

    def starter_pack(self, text: str) -> str:
        """Check the AT-URI of a starter pack."""
        return _record_of(text, GRAPH_STARTERPACK)

    def record(self, text: str) -> str:
        """Check the AT-URI of any record."""
        return _record_of(text, None)

    def _note_handle(self, handle: str) -> str:
        self.handles.add(handle)
        return _ANY_DID


def _filters(node: Node) -> Iterator[Filter]:
    if isinstance(node, Filter):
        yield node
    elif isinstance(node, Not):
        yield from _filters(node.item)
    elif not isinstance(node, Words):
        for item in node.items:
            yield from _filters(item)


def _record_of(text: str, collection: str | None) -> str:
    try:
        uri = parse_at_uri(text)
    except InvalidSyntaxError:
        raise ValueError(f"{text} is no AT-URI") from None
    wanted = collection or "COLLECTION"
    if (
        uri.rkey is None
        or not is_did(str(uri.authority))
        or (collection is not None and uri.collection != collection)
    ):
        raise ValueError(f"write at://DID/{wanted}/KEY")
    return text
