"""Relevance of every engine beside a plain BM25, over the fixed corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.index import open_index
from bench.metric import Metric, Progress
from bench.relevance.background import generate_posts
from bench.relevance.baseline import Baseline
from bench.relevance.corpus import LANGUAGES, load_language
from bench.relevance.engines import (
    BASELINE,
    make_engines,
    search_baseline,
    search_engine,
    settle,
)
from bench.relevance.filling import Placed, fill_engine, place_posts, store_posts
from bench.relevance.judging import Scores, Tasks, measure
from bench.relevance.known_items import FORMS, make_known_items
from bench.relevance.measures import mean
from bench.relevance.result_tables import replace_figures, to_failures, to_page
from storage.outbox import put_outbox
from storage.postgres.pool import Pool

BENCH: Final = "relevance"

POSTS: Final = 2_000
"""Generated posts of a language."""
KNOWN: Final = 100
"""Known items of a language; each gives a query of every form."""
_QUICK: Final = 20
"""Divisor of both in a quick run."""


def run(
    quick: bool,
    progress: Progress,
    *,
    page: Path | None = None,
    failures: Path | None = None,
) -> list[Metric]:
    """Measure every engine; write tables into `page`, failed queries to `failures`."""
    part = _QUICK if quick else 1
    with open_index() as index:
        scores = measure_all(
            index.pool,
            LANGUAGES[:2] if quick else LANGUAGES,
            posts=POSTS // part,
            known=KNOWN // part,
            progress=progress,
        )
    if page is not None:
        page.write_text(replace_figures(page.read_text(), to_page(scores)))
    if failures is not None:
        failures.write_text(to_failures(scores))
    return [*_metrics(scores)]


def measure_all(
    pool: Pool,
    languages: Sequence[str],
    *,
    posts: int,
    known: int,
    judged: int | None = None,
    progress: Progress,
) -> dict[str, Scores]:
    """Fill an empty index with the corpus; return the figures of each engine.

    `posts` are generated, `known` items drawn and `judged` queries taken for each
    language. The baseline comes first.
    """
    files = [load_language(code) for code in languages]
    texts = [p for one in files for p in (*one.posts, *generate_posts(one, posts))]
    placed = place_posts(texts)
    tasks = Tasks(
        [query for one in files for query in one.queries[:judged]],
        [item for one in files for item in make_known_items(one, placed, known)],
        placed,
    )
    handles = {p.handle: p.did for p in placed}
    with pool.connection() as conn:
        store_posts(conn, placed)
    scores: dict[str, Scores] = {}
    for engine in make_engines(pool):
        if scores:
            _queue_again(pool, placed)
        documents = fill_engine(pool, engine, len(placed), progress)
        settle(pool)
        if not scores:
            baseline = search_baseline(Baseline(documents), handles)
            scores[BASELINE] = measure(BASELINE, baseline, tasks, progress, ("top",))
        search = search_engine(engine, handles)
        scores[engine.name] = measure(engine.name, search, tasks, progress)
    return scores


def _queue_again(pool: Pool, placed: Sequence[Placed]) -> None:
    with pool.connection() as conn:
        put_outbox(conn, [p.address for p in placed])


def _metrics(scores: Mapping[str, Scores]) -> Iterator[Metric]:
    plain = scores[BASELINE]
    for name, one in scores.items():
        for lang, values in one.ndcg.items():
            floor = None if one is plain else mean(plain.ndcg[lang]) or None
            yield Metric(BENCH, f"{name}_{lang}_ndcg10", mean(values), "", floor)
            yield Metric(
                BENCH,
                f"{name}_{lang}_recall50",
                mean(one.recall[lang]),
                "",
                None if one is plain else mean(plain.recall[lang]) or None,
            )
            for form in FORMS:
                yield Metric(
                    BENCH,
                    f"{name}_{lang}_{form}_success10",
                    one.form(form, lang),
                    "",
                    None if one is plain else plain.form(form, lang) or None,
                )
        values = [value for found in one.ndcg.values() for value in found]
        yield Metric(BENCH, f"{name}_ndcg10", mean(values), "")
        yield Metric(BENCH, f"{name}_typo_time", one.typo_ratio, "x")
