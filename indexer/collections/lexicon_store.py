"""Lexicons as they become known: derived, stored, and their dependents derived anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Final

from indexer.collections.field_plan import Plan, derive_plan
from indexer.collections.registry import COLLECTIONS
from protocol.errors import InvalidLexiconError
from protocol.lexicon import Catalog, Schema
from protocol.lexicon.documents import MAIN, Document, read_document
from storage.jobs import put_jobs
from storage.lexicons import (
    FOLDER,
    fetch_lexicons,
    find_dependents,
    note_unknown,
    put_lexicon,
)
from storage.postgres.pool import Conn

LEXICON_JOB: Final = "lexicon"
"""Job kind: find a lexicon. Its key is the NSID."""
_MAX_DEPENDENTS: Final = 100
_MAX_NEW_REFS: Final = 50


@cache
def shipped() -> Catalog:
    """Return the official lexicons and ours, read once."""
    return Catalog.load()


@dataclass(slots=True)
class _Known:
    """Definitions of shipped and stored lexicons, for one derivation."""

    conn: Conn
    documents: dict[str, Document | None] = field(default_factory=dict)

    def find_schema(self, name: str) -> Schema | None:
        nsid, _, fragment = name.partition("#")
        if nsid not in self.documents:
            self.documents[nsid] = self._read(nsid)
        document = self.documents[nsid]
        if document is None:
            return shipped().find_schema(name)
        return document.definitions.get(fragment or MAIN)

    def _read(self, nsid: str) -> Document | None:
        held = fetch_lexicons(self.conn, [nsid]).get(nsid)
        if held is None or held.document is None:
            return None
        try:
            return read_document(held.document.encode())
        except InvalidLexiconError:
            return None


def store_lexicon(conn: Conn, raw: bytes, source: str, nsid: str | None = None) -> str:
    """Store an untrusted document with the plan derived from it; return its NSID.

    One from a folder is not replaced by one from the network. `nsid` is the one that it
    must have. Does not commit. Raises InvalidLexiconError.
    """
    document = read_document(raw)
    name = str(document.nsid)
    if nsid is not None and name != nsid:
        raise InvalidLexiconError(f"the document is {name}, not {nsid}")
    if "\\u0000" in raw.decode() or b"\0" in raw:
        raise InvalidLexiconError("the document holds a NUL character")
    held = fetch_lexicons(conn, [name]).get(name)
    if held is not None and held.source == FOLDER and source != FOLDER:
        return name
    _store(conn, document, raw, source)
    for other in find_dependents(conn, name, limit=_MAX_DEPENDENTS):
        stored = fetch_lexicons(conn, [other]).get(other)
        if other != name and stored is not None and stored.document is not None:
            again = stored.document.encode()
            _store(conn, read_document(again), again, stored.source)
    return name


def _store(conn: Conn, document: Document, raw: bytes, source: str) -> None:
    plan = derive_plan(document, _Known(conn).find_schema)
    if str(document.nsid) in COLLECTIONS:
        plan = None
    value = None if plan is None else plan.to_json()
    refs = _refs(plan)
    put_lexicon(conn, str(document.nsid), source, raw.decode(), value, refs)
    if plan is not None and plan.missing:
        missing = sorted(plan.missing)[:_MAX_NEW_REFS]
        put_jobs(conn, LEXICON_JOB, note_unknown(conn, missing))


def _refs(plan: Plan | None) -> list[str]:
    return [] if plan is None else sorted(plan.refs)[:_MAX_NEW_REFS]
