"""Tables of the documentation, generated from the figures of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from bench.relevance.engines import BASELINE
from bench.relevance.judging import Scores
from bench.relevance.known_items import FORMS
from bench.relevance.measures import mean

BEGIN: Final = "<!-- figures -->"
END: Final = "<!-- end of figures -->"
_HEADS: Final = (
    "engine", "nDCG@10", "recall@50", "three rare words", "one typo", "operator",
    "first words", "time of a typo",
)  # fmt: skip


def to_page(scores: Mapping[str, Scores]) -> str:
    """Return the tables: engines, languages, kinds of queries."""
    parts = [_table(_HEADS, (_engine_row(*one) for one in scores.items()))]
    for name, one in scores.items():
        if name == BASELINE:
            continue
        heads = ("language", "nDCG@10", "BM25", "recall@50", *_HEADS[3:-1])
        parts.append(
            f"### {name}, by language\n\n" + _table(heads, _languages(scores, one))
        )
    kinds = scores[BASELINE].kinds
    rows = (
        (
            kind,
            str(len(kinds[kind])),
            *(_text(mean(s.kinds[kind])) for s in scores.values()),
        )
        for kind in kinds
    )
    parts.append(
        "### nDCG@10 by kind of query\n\n" + _table(("kind", "queries", *scores), rows)
    )
    return "\n\n".join(parts) + "\n"


def replace_figures(page: str, tables: str) -> str:
    """Return a page with new tables between its two marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def to_failures(scores: Mapping[str, Scores]) -> str:
    """Return the failed queries of each engine, one a line."""
    lines: list[str] = []
    for name, one in scores.items():
        for f in sorted(one.failures, key=lambda f: (f.lang, f.kind, f.value)):
            lines.append(
                f"{name}\t{f.lang}\t{f.kind}\t{f.value:.2f}\t{f.text}"
                f"\tfound {' '.join(f.found)}\twanted {' '.join(f.wanted)}"
            )
    return "\n".join(lines) + "\n"


def _engine_row(name: str, one: Scores) -> list[str]:
    return [
        name,
        _text(mean([v for values in one.ndcg.values() for v in values])),
        _text(mean([v for values in one.recall.values() for v in values])),
        *(_text(one.form(form)) for form in FORMS),
        f"x{one.typo_ratio:.1f}",
    ]


def _languages(scores: Mapping[str, Scores], one: Scores) -> Iterator[list[str]]:
    for lang, values in one.ndcg.items():
        yield [
            lang,
            _text(mean(values)),
            _text(mean(scores[BASELINE].ndcg[lang])),
            _text(mean(one.recall[lang])),
            *(_text(one.form(form, lang)) for form in FORMS),
        ]


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = [*heads]
    lines = [heads, ["---"] * len(heads), *([*row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: float) -> str:
    return f"{value:.3f}"
