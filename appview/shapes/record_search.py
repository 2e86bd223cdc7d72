"""Searches of records other than posts: feed generators and starter packs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from appview.hydration.state import State
from appview.paging import Entry, Keyset, SearchPages, Source, Steps
from appview.pipeline import Params
from appview.rules import Place, shown_records
from appview.session import RequestContext
from appview.shapes.account_search import in_time
from appview.shapes.skeleton import Present
from network.xrpc.server import XrpcError
from search.query.nodes import AllOf, Node, Query, Words, required
from search.query.operators import InvalidQueryError
from search.query.parser import parse_query
from storage.records.addresses import Address, find_handles

HITS_TOTAL = "hitsTotal"
MENDED = "mended"


def found_records(
    context: RequestContext, query: Query, collection: int
) -> Source[Address]:
    """Return the records of a collection that an engine finds.

    The notes have the number of hits, hidden ones included, and the mended words, each
    if there are any. The number is exact if all hits were read, else the engine's.
    """
    notes: dict[str, Any] = {}
    from_start = False
    read = 0

    def fetch(after: Keyset | None, limit: int) -> list[Entry[Address]]:
        nonlocal from_start, read
        with in_time():
            page = context.app.engine.search_records(
                query, collections=[collection], limit=limit, after=after
            )
        from_start = from_start or after is None
        read += len(page.hits)
        if from_start and len(page.hits) < limit:
            notes[HITS_TOTAL] = read
        elif page.total is not None:
            notes[HITS_TOTAL] = max(page.total, read, notes.get(HITS_TOTAL, 0))
        if page.mended:
            notes.setdefault(MENDED, page.mended)
        return [Entry(hit.address, hit.keyset) for hit in page.hits]

    return Source(fetch, notes=notes)


def total_of(notes: Mapping[str, Any]) -> dict[str, int]:
    """Return the field of the number of hits, if it is known."""
    return {HITS_TOTAL: notes[HITS_TOTAL]} if HITS_TOTAL in notes else {}


def record_search(
    collection: int,
    term: str,
    present: Present,
    load: Callable[[State, list[Address]], None] = State.load_named,
) -> SearchPages[Address]:
    """Return pages of the records that the parameter `term` finds."""

    def source(context: RequestContext, params: Params) -> Source[Address]:
        return found_records(context, _read(context, params[term]), collection)

    return SearchPages(
        source,
        Steps(
            hydrate=lambda state, page: load(state, page.items),
            rules=lambda state, page: shown_records(state, Place.NAMED_HIT, page.items),
            present=present,
        ),
    )


def _read(context: RequestContext, text: str) -> Query:
    def resolve(handle: str) -> str | None:
        with context.session() as session:
            return find_handles(session.conn, [handle]).get(handle.lower())

    try:
        query = parse_query(
            text, resolve_handle=resolve, viewer=context.viewer_did, base=_BEST_FIRST
        )
        if query.within:
            raise InvalidQueryError("in: finds posts only")
    except InvalidQueryError as error:
        raise XrpcError("BadQueryString", str(error), 400) from error
    if query.is_empty and text.strip() != "*":
        raise XrpcError("BadQueryString", "the query holds no word", 400)
    return replace(query, where=_open_end(required(query.where)))


def _open_end(parts: Sequence[Node]) -> Node:
    """Let the last word of a query match longer words: names are typed in part."""
    *first, last = parts or (AllOf(),)
    if isinstance(last, Words):
        last = replace(last, prefix=True)
    return AllOf((*first, last)) if first else last


_BEST_FIRST = Query(sort="top")
