"""bigworld.search.searchRecords."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appview.hydration.state import State
from appview.paging import Entry, Keyset, SearchPages, Source, Steps
from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.account_search import in_time
from appview.shapes.any_record import (
    RecordsPage,
    load_any,
    record_views,
    shown_any,
)
from indexer.collections.texts import TEXTS
from network.xrpc.server import AuthMode, XrpcError
from protocol.errors import ProtocolError
from protocol.syntax import is_nsid
from search.query.nodes import Kind, Query, all_of, filters, words_of
from search.query.operators import (
    InvalidQueryError,
    parse_moment,
    read_language,
    resolve_account,
)
from search.query.parser import parse_query
from search.text.snippets import byte_spans, find_spans, snippet
from search.text.tokens import Clause
from storage.collection_names import find_named, name_collections
from storage.records.addresses import Address, find_handles

FACET_HITS: Final = 500
"""First results that are counted by collection."""
SNIPPET_CHARS: Final = 200


def _search(context: RequestContext, params: Params) -> _Search:
    """Read the parameters; raises XrpcError."""
    try:
        query = _read_query(context, params)
    except InvalidQueryError as error:
        raise XrpcError("BadQueryString", str(error), 400) from error
    with context.session() as session:
        wanted = _read_collections(params)
        collections = find_named(session.conn, wanted, without=TEXTS.unsearched)
    return _Search(context, query, collections)


@dataclass(frozen=True, slots=True)
class _Search:
    """A query over some collections."""

    context: RequestContext
    query: Query
    collections: Sequence[int]

    def fetch(
        self, after: Keyset | None, limit: int
    ) -> Sequence[Entry[Address | None]]:
        """Return the next hits."""
        if not self.collections:
            return []
        with in_time():
            page = self.context.app.engine.search_records(
                self.query, collections=self.collections, limit=limit, after=after
            )
        return [Entry(hit.address, hit.keyset) for hit in page.hits]

    def facets(self) -> dict[str, Any]:
        """Return the numbers of the first hits by collection."""
        hits = self.fetch(None, FACET_HITS)
        counts = Counter(hit.item.collection for hit in hits if hit.item is not None)
        with self.context.session() as session:
            names = name_collections(session.conn, counts)
        return {
            "counted": len(hits),
            "complete": len(hits) < FACET_HITS,
            "collections": [
                {"collection": names[number], "count": count}
                for number, count in counts.most_common()
                if number in names
            ],
        }


def _read_collections(params: Params) -> list[str]:
    """Return NSIDs, and prefixes that end with a dot. Raises XrpcError."""
    found: list[str] = []
    for text in params.get("collection", ()):
        prefix = text.removesuffix("*")
        good = is_nsid(text)
        if prefix != text:
            # A prefix of two parts: all that an authority may publish.
            good = prefix.endswith(".") and is_nsid(f"{prefix}a.b".replace("..", "."))
        if not good:
            raise XrpcError(
                "InvalidRequest",
                f"{text[:80]!r} is neither an NSID nor a prefix such as com.example.*",
                400,
            )
        found.append(prefix)
    return found


def _read_query(context: RequestContext, params: Params) -> Query:
    viewer = context.viewer_did

    def resolve(handle: str) -> str | None:
        with context.session() as session:
            return find_handles(session.conn, [handle]).get(handle.lower())

    def given(name: str, read: Callable[[str], Any]) -> Any:
        text = params.get(name)
        return read(text) if text else None

    author = given("author", lambda name: resolve_account(name, resolve, viewer))
    lang = given("lang", read_language)
    where = all_of(
        *filters(Kind.AUTHOR, [author] if author else ()),
        *filters(Kind.LANG, [lang] if lang else ()),
    )
    base = Query(
        where=where,
        since=given("since", parse_moment),
        until=given("until", parse_moment),
        sort="top" if params.get("sort") == "top" else "latest",
    )
    text = params.get("q", "")
    query = parse_query(
        "" if text.strip() == "*" else text,
        resolve_handle=resolve,
        viewer=viewer,
        base=base,
    )
    if query.within:
        raise InvalidQueryError("in: is not served for records of any collection")
    return query


def _clauses(params: Params) -> list[Clause]:
    """Return the words that are highlighted."""
    try:
        query = parse_query(
            params.get("q", ""), resolve_handle=lambda handle: None, viewer=_NOBODY
        )
    except InvalidQueryError:
        return []
    return [Clause(words.tokens, words.prefix) for words in words_of(query.where)]


_NOBODY: Final = "did:plc:nobody"


def _present(state: State, page: RecordsPage, params: Params) -> dict[str, Any]:
    clauses = _clauses(params)
    views = record_views(state, page)
    TEXTS.prepare(state.session.conn, {view["uri"].split("/")[3] for view in views})
    for view, address in zip(views, filter(None, page.items), strict=True):
        nsid = view["uri"].split("/")[3]
        found = _snippet(nsid, state.records[address].value, clauses)
        if found is not None:
            view["snippet"] = found
    return {"records": views}


def _snippet(nsid: str, value: Any, clauses: list[Clause]) -> dict[str, Any] | None:
    try:
        read = TEXTS.read(nsid, value)
    except ProtocolError:
        return None
    parts = (read.title, read.text, read.alt, read.card) if read else ()
    text = "\n".join(filter(None, parts))
    if not text:
        return None
    part = snippet(text, find_spans(text, clauses), SNIPPET_CHARS)
    spans = byte_spans(part.text, part.spans)
    return {
        "text": part.text,
        "highlights": [{"byteStart": start, "byteEnd": end} for start, end in spans],
    }


_PAGES: Final[SearchPages[Address | None]] = SearchPages(
    lambda context, params: Source(_search(context, params).fetch),
    Steps(hydrate=load_any, rules=shown_any, present=_present),
)


@dataclass(frozen=True, slots=True)
class _SearchRecords(BlockingMethod):
    """Pages of hits; the first may have counts beside it."""

    auth: AuthMode = "optional"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        answer = _PAGES.run(context, params)
        if params.get("facets") and not params.get("cursor"):
            answer["facets"] = _search(context, params).facets()
        return answer


METHOD: Final = _SearchRecords()
