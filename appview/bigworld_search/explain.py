"""bigworld.search.explain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from appview.hydration.records import POST
from appview.hydration.state import State
from appview.pipeline import BlockingMethod, Params
from appview.rule_checks import Case, Condition
from appview.rules import Place, find_rule
from appview.session import RequestContext, Session
from appview.shapes.account_search import in_time
from indexer.collections.texts import TEXTS
from network.xrpc.server import AuthMode, XrpcError
from protocol.syntax import is_did, parse_at_uri
from search.documents import RecordDocument
from search.explain import PartReport, explain_parts, score_of
from search.query.nodes import Filter, Kind, Query, all_of, record_key
from search.query.operators import InvalidQueryError
from search.query.parser import parse_query
from search.record_documents import read_document
from storage.outbox import is_waiting
from storage.records.addresses import Address, find_addresses, find_handles
from storage.records.record_rows import fetch_records

FIRST_RESULTS: Final = 100
"""Results among which the place of a record is sought."""
_STATES: Final = {
    "unknown": "The index does not hold this record: it was deleted, never seen, or is"
    " outside the scope of this provider.",
    "waiting": "The record waits to be written to the search index.",
    "noText": "The record has no text that is searched, or its form is invalid.",
    "accountHidden": "The account is not active, or its repo is not indexed.",
}
_RULES: Final = {
    Condition.GONE: "the account is not active or was taken down",
    Condition.REDACTED: "this service, or a labeler that you accept, has taken it down",
    Condition.OPTED_OUT: "the account asks to be shown to signed-in people only",
    Condition.LABELLED: "a label hides it",
    Condition.VIEWER_BLOCK: "you and the author block each other",
}


@dataclass(frozen=True, slots=True)
class _Subject:
    """The record that is explained."""

    uri: str
    state: str
    address: Address | None = None
    document: RecordDocument | None = None
    hidden_by: Condition | None = None


class _Explain(BlockingMethod):
    auth: AuthMode = "optional"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        query = _read_query(context, params)
        with context.session() as session:
            subject = _find_subject(session, params["uri"])
        answer: dict[str, Any] = {
            "uri": subject.uri,
            "state": subject.state,
            "found": False,
            "reasons": [],
            "parts": [],
        }
        if subject.document is None or subject.address is None:
            return answer | {"reasons": [_STATES[subject.state]]}
        parts = explain_parts(query, subject.document)
        engine_finds, place = _search(context, query, subject.address)
        is_found = engine_finds and subject.hidden_by is None
        answer |= {
            "found": is_found,
            "parts": [_part(part) for part in parts],
            "signals": _signals(subject.document),
            "reasons": [*_reasons(subject, parts, query, engine_finds)],
        }
        return answer | ({"place": place} if place and is_found else {})


METHOD: Final = _Explain()


def _read_query(context: RequestContext, params: Params) -> Query:
    def resolve(handle: str) -> str | None:
        with context.session() as session:
            return find_handles(session.conn, [handle]).get(handle.lower())

    base = Query(sort="top" if params.get("sort") == "top" else "latest")
    try:
        return parse_query(
            params["q"], resolve_handle=resolve, viewer=context.viewer_did, base=base
        )
    except InvalidQueryError as error:
        raise XrpcError("BadQueryString", str(error), 400) from error


def _find_subject(session: Session, text: str) -> _Subject:
    uri = parse_at_uri(text)
    if uri.rkey is None:
        raise XrpcError("InvalidRequest", f"{text} names no record", 400)
    owner: str | None = uri.authority
    if not is_did(uri.authority):
        owner = find_handles(session.conn, [uri.authority]).get(uri.authority.lower())
    full = f"at://{owner or uri.authority}/{uri.collection}/{uri.rkey}"
    address = find_addresses(session.conn, [full]).get(full)
    if address is None or not fetch_records(session.conn, [address]):
        return _Subject(full, "unknown")
    document, is_shown = read_document(session.conn, TEXTS, address)
    if not is_shown:
        return _Subject(full, "accountHidden")
    if document is None:
        return _Subject(full, "noText")
    if is_waiting(session.conn, address):
        return _Subject(full, "waiting", address)
    hidden_by = None
    if address.collection == POST:
        state = State(session)
        state.load_posts([address])
        rule = find_rule(state, Place.POST, Case(address.actor, address))
        hidden_by = rule[0] if rule else None
    return _Subject(full, "searchable", address, document, hidden_by)


def _search(
    context: RequestContext, query: Query, address: Address
) -> tuple[bool, int | None]:
    """Return True if the engine finds the record, and its place among the first."""
    own = Filter(Kind.RECORD, record_key(address))
    alone = replace(query, where=all_of(query.where, own))
    collections = [address.collection]
    engine = context.app.engine
    with in_time():
        hits = engine.search_records(alone, collections=collections, limit=1).hits
        if not hits:
            return False, None
        first = engine.search_records(
            query, collections=collections, limit=FIRST_RESULTS
        ).hits
    places = {hit.address: n for n, hit in enumerate(first, 1)}
    return True, places.get(address)


def _reasons(
    subject: _Subject, parts: list[PartReport], query: Query, engine_finds: bool
) -> list[str]:
    if subject.hidden_by is not None:
        why = _RULES.get(subject.hidden_by, subject.hidden_by.name.lower())
        return [f"It is left out: {why}."]
    missed = [part for part in parts if not part.holds]
    reasons = [
        f"{part.part} does not hold" + (f" ({part.note})." if part.note else ".")
        for part in missed
    ]
    if engine_finds and missed:
        return [*reasons, "It is found after the records that match every part."]
    if not engine_finds:
        return reasons or ["The search index does not hold its present text yet."]
    assert subject.document is not None
    if query.sort == "top":
        score = score_of(subject.document)
        return [f"It matches every part; its reactions count {score}."]
    return ["It matches every part; the newest come first."]


def _part(part: PartReport) -> dict[str, Any]:
    return {"part": part.part, "holds": part.holds, "fields": [*part.fields]}


def _signals(document: RecordDocument) -> dict[str, Any]:
    at = document.sort_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "score": score_of(document),
        "sortAt": at,
        "languages": [*document.langs],
        "detectedLanguage": document.detected,
    }
