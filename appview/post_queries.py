"""Parameters of the methods that search posts, as queries for an engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from appview.pipeline import Params
from appview.session import RequestContext
from appview.skeletons.places import resolve_within
from network.xrpc.server import XrpcError
from protocol.syntax import is_did, parse_at_uri
from search.query.nodes import (
    Kind,
    Node,
    Not,
    Place,
    Query,
    Sort,
    Within,
    all_of,
    any_of,
    filters,
    record_key,
)
from search.query.operators import (
    InvalidQueryError,
    parse_moment,
    read_language,
    resolve_account,
)
from search.query.parser import parse_query
from search.text.tags import normalize_tag
from storage.records.addresses import find_addresses, find_handles
from storage.records.web_urls import normalize_domain, normalize_url

EVERYTHING_TEXT: Final = "*"
MAX_VALUES: Final = 200
"""Values of all filters of a request together."""
REPLIES: Final = ("excludeReplies", "repliesOnly")
_SCRIPTS: Final = {
    "ja": re.compile(r"[\u3041-\u30ff\uff66-\uff9d]"),
    "ko": re.compile(r"[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]"),
    "zh": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]"),
    "th": re.compile(r"[\u0e01-\u0e5b]"),
    "ar": re.compile(r"[\u0620-\u064a\u0671-\u06d3]"),
}
"""Languages that analyzers treat apart, by their letters."""
_V2_LISTS: Final = {
    "Authors": Kind.AUTHOR,
    "Mentions": Kind.MENTION,
    "Domains": Kind.DOMAIN,
    "Urls": Kind.URL,
    "EmbeddedAtUris": Kind.QUOTE,
    "Hashtags": Kind.TAG,
    "Languages": Kind.LANG,
}


def read_v1(context: RequestContext, params: Params) -> Query:
    """Return the query of searchPosts. Raises XrpcError."""
    with _as_error():
        reader = _Reader(context)
        reader.learn(params.get(name) for name in ("author", "mentions"))
        given = {
            Kind.AUTHOR: params.get("author"),
            Kind.MENTION: params.get("mentions"),
            Kind.DOMAIN: params.get("domain"),
            Kind.URL: params.get("url"),
            Kind.LANG: params.get("lang"),
        }
        nodes = [
            node
            for kind, value in given.items()
            if value
            for node in reader.filters(kind, [value])
        ]
        nodes += reader.filters(Kind.TAG, params.get("tag", ()))
        sort: Sort = "top" if params.get("sort") == "top" else "latest"
        return reader.query(params["q"], all_of(*nodes), params, sort)


def read_v2(context: RequestContext, params: Params) -> Query:
    """Return the query of searchPostsV2, sorted by rank unless it names recency.

    Raises XrpcError.
    """
    with _as_error():
        reader = _Reader(context)
        lists = {
            (kind, is_out): params.get(_v2_name(name, is_out)) or []
            for name, kind in _V2_LISTS.items()
            for is_out in (False, True)
        }
        if sum(map(len, lists.values())) > MAX_VALUES:
            raise InvalidQueryError(f"more than {MAX_VALUES} values of filters")
        uris = {name: params.get(name) for name in ("replyParentUri", "threadRootUri")}
        reader.learn(_accounts(lists, uris.values()))
        nodes: list[Node] = []
        for (kind, is_out), values in lists.items():
            if values:
                node = any_of(*reader.filters(kind, values))
                nodes.append(Not(node) if is_out else node)
        nodes += _flags(params)
        if parent := uris["replyParentUri"]:
            nodes += reader.filters(Kind.PARENT, [parent])
        if root := uris["threadRootUri"]:
            nodes.append(reader.thread(root))
        sort: Sort = "latest" if params.get("sort") == "recent" else "top"
        text = params.get("query") or ""
        return reader.query(
            text, all_of(*nodes), params, sort, following=params.get("following", False)
        )


def query_languages(text: str, hint: str | None) -> list[str]:
    """Return the language of a query if its script names one, `hint` between those of
    a script."""
    scripts = {lang for lang, script in _SCRIPTS.items() if script.search(text)}
    if hint in scripts or (hint == "ja" and "zh" in scripts):
        return [hint]
    # Kana and Hangul decide: Han characters stand beside them.
    return [next(lang for lang in _SCRIPTS if lang in scripts)] if scripts else []


def _v2_name(name: str, is_out: bool) -> str:
    return f"exclude{name}" if is_out else name[0].lower() + name[1:]


def _flags(params: Params) -> list[Node]:
    if all(params.get(name) for name in REPLIES):
        raise InvalidQueryError("excludeReplies and repliesOnly exclude each other")
    [reply] = filters(Kind.FEATURE, ["reply"])
    nodes: list[Node] = []
    for name, feature in (("hasMedia", "media"), ("hasVideo", "video")):
        if params.get(name):
            nodes += filters(Kind.FEATURE, [feature])
    if params.get("excludeReplies"):
        nodes.append(Not(reply))
    if params.get("repliesOnly"):
        nodes.append(reply)
    return nodes


def _accounts(
    lists: dict[tuple[Kind, bool], list[str]], uris: Iterable[str | None]
) -> list[str]:
    """Return the accounts that parameters name, those of AT-URIs included."""
    found = [
        value
        for (kind, _), values in lists.items()
        for value in values
        if kind in (Kind.AUTHOR, Kind.MENTION)
    ]
    quoted = [u for (kind, _), us in lists.items() if kind is Kind.QUOTE for u in us]
    return found + [str(parse_at_uri(uri).authority) for uri in (*uris, *quoted) if uri]


@contextmanager
def _as_error() -> Iterator[None]:
    """Answer 400 for a malformed query."""
    try:
        yield
    except InvalidQueryError as error:
        raise XrpcError("BadQueryString", str(error), 400) from error


@dataclass
class _Reader:
    """The values of one request. Handles are resolved at once."""

    context: RequestContext

    def __post_init__(self) -> None:
        self._dids: dict[str, str] = {}

    def learn(self, accounts: Iterable[str | None]) -> None:
        handles = [name for name in accounts if name and not is_did(name)]
        if handles:
            with self.context.session() as session:
                self._dids |= find_handles(session.conn, handles)

    def _resolve(self, handle: str) -> str | None:
        if handle not in self._dids:
            self.learn([handle])
        return self._dids.get(handle)

    def filters(self, kind: Kind, values: Sequence[str]) -> tuple[Node, ...]:
        """Return a filter for each value."""
        read: dict[Kind, Callable[[str], str]] = {
            Kind.AUTHOR: self._account,
            Kind.MENTION: self._account,
            Kind.DOMAIN: normalize_domain,
            Kind.URL: normalize_url,
            Kind.TAG: normalize_tag,
            Kind.LANG: read_language,
            Kind.QUOTE: self._uri,
            Kind.PARENT: self._uri,
        }
        return filters(kind, map(read[kind], values))

    def thread(self, uri: str) -> Node:
        """Return the posts of a thread, its root included."""
        uri = self._uri(uri)
        with self.context.session() as session:
            address = find_addresses(session.conn, [uri]).get(uri)
        root = filters(Kind.RECORD, [record_key(address)] if address else [])
        return any_of(*filters(Kind.ROOT, [uri]), *root)

    def query(
        self,
        text: str,
        where: Node,
        params: Params,
        sort: Sort,
        *,
        following: bool = False,
    ) -> Query:
        """Parse the text beside the filters, and look up sets of records."""
        viewer = self.context.viewer_did
        base = Query(
            where, _moment(params, "since"), _moment(params, "until"), sort=sort
        )
        if following:
            if viewer is None:
                raise InvalidQueryError("following needs a signed-in account")
            base = replace(base, within=(Within(Place.FOLLOWING, viewer),))
        is_everything = text.strip() == EVERYTHING_TEXT
        query = parse_query(
            "" if is_everything else text,
            resolve_handle=self._resolve,
            viewer=viewer,
            base=base,
        )
        if query.is_empty and not is_everything:
            raise InvalidQueryError("the query holds no word; `*` finds everything")
        return resolve_within(self.context, query)

    def _account(self, name: str) -> str:
        return resolve_account(name, self._resolve, None)

    def _uri(self, uri: str) -> str:
        """Return an AT-URI by DID, as records hold it."""
        parsed = parse_at_uri(uri)
        path = uri.removeprefix("at://").partition("/")[2]
        return f"at://{self._account(str(parsed.authority))}/{path}"


def _moment(params: Params, name: str) -> datetime | None:
    given = params.get(name)
    return parse_moment(given) if given else None
