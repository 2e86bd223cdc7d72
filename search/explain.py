"""Explanations: the parts of a query that a document fulfills, and in which fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from search.documents import RecordDocument
from search.query.nodes import Filter, Kind, Query, Words, required, words_of
from search.query.render import render_node
from search.terms import fields_with, holds, read_terms


@dataclass(frozen=True, slots=True)
class PartReport:
    """A condition of a query, compared with one document."""

    part: str
    holds: bool
    fields: tuple[str, ...] = ()
    note: str = ""


def explain_parts(query: Query, document: RecordDocument) -> list[PartReport]:
    """Return a report for each condition that must hold."""
    terms = read_terms(document)
    reports = [
        PartReport(
            render_node(node),
            holds(node, terms),
            tuple(
                dict.fromkeys(
                    name for w in words_of(node) for name in fields_with(w, terms)
                )
            ),
            _note(node, document) if isinstance(node, Words | Filter) else "",
        )
        for node in required(query.where)
    ]
    return [*reports, *_explain_bounds(query, document)]


def _note(node: Words | Filter, document: RecordDocument) -> str:
    if isinstance(node, Filter) and node.kind is Kind.LANG:
        declared = ", ".join(document.langs) or "none"
        return f"languages declared: {declared}; detected: {document.detected}"
    if isinstance(node, Words) and len(node.tokens) > 1:
        return "these words stand side by side in this order, or it is not a match"
    return ""


def _explain_bounds(query: Query, document: RecordDocument) -> Iterator[PartReport]:
    at = document.sort_at
    if query.since is not None:
        yield PartReport(f"since:{query.since.isoformat()}", at >= query.since)
    if query.until is not None:
        yield PartReport(f"until:{query.until.isoformat()}", at < query.until)
    if query.min_likes:
        yield PartReport(
            f"min_likes:{query.min_likes}", document.likes >= query.min_likes
        )


def score_of(document: RecordDocument) -> int:
    """Return the reactions of a record as `top` counts them."""
    return (
        document.likes
        + 2 * document.reposts
        + document.replies
        + 2 * document.quote_count
    )
