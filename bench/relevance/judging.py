"""Figures of one engine over the judged and the known-item queries."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.metric import Progress
from bench.relevance.corpus import Judged
from bench.relevance.engines import Search
from bench.relevance.filling import Placed
from bench.relevance.known_items import KnownItem
from bench.relevance.measures import mean, ndcg, recall
from search.engines.contract import TooCostlyError
from search.query.nodes import Sort
from storage.records.addresses import Address

NDCG_DEPTH: Final = 10
RECALL_DEPTH: Final = 50
_TRIES: Final = 4
_PAUSE_S: Final = 1.0
SORTS: Final[tuple[Sort, ...]] = ("top", "latest")


@dataclass(frozen=True, slots=True)
class Failure:
    """A query with a low figure, and the names of the posts that were found."""

    lang: str
    kind: str
    text: str
    value: float
    found: tuple[str, ...]
    wanted: tuple[str, ...]


@dataclass(slots=True)
class Scores:
    """Figures of an engine by language."""

    ndcg: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    recall: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    known: dict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By language and form."""
    kinds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """nDCG by kind of query."""
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Time of known-item queries by form."""
    failures: list[Failure] = field(default_factory=list)

    def form(self, name: str, lang: str | None = None) -> float:
        """Return the success of a form, in one language or in all."""
        return mean(
            [
                value
                for (code, form), values in self.known.items()
                if form == name and lang in (None, code)
                for value in values
            ]
        )

    @property
    def typo_ratio(self) -> float:
        """Return the time of misspelt queries in units of the time of right ones."""
        right = mean(self.seconds["rare"])
        return mean(self.seconds["typo"]) / right if right else 0.0


@dataclass(frozen=True, slots=True)
class Tasks:
    """The queries, and the posts that they are about."""

    judged: Sequence[Judged]
    known: Sequence[KnownItem]
    placed: Sequence[Placed]


def measure(
    name: str,
    search: Search,
    tasks: Tasks,
    progress: Progress,
    sorts: Sequence[Sort] = SORTS,
) -> Scores:
    """Run all queries; known items in every order of `sorts`."""
    scores = Scores()
    names = {p.address: p.post.name for p in tasks.placed}
    mentions = _mentions(tasks.placed)
    total = len(tasks.judged) + len(tasks.known)
    for done, query in enumerate(tasks.judged, 1):
        found = _own(
            query.lang,
            [names[a] for a in _try(search, query.text, "top", 2 * RECALL_DEPTH)],
        )
        grades = dict(query.grades)
        if query.mentions:
            passing = mentions.get((query.lang, query.topic), ())
            grades = dict.fromkeys(passing, 1) | grades
        value = ndcg(found, grades, NDCG_DEPTH)
        scores.ndcg[query.lang].append(value)
        scores.kinds[query.kind].append(value)
        scores.recall[query.lang].append(recall(found, grades, RECALL_DEPTH))
        if value < 0.65:
            wanted = tuple(f"{post}={grade}" for post, grade in query.grades.items())
            scores.failures.append(
                Failure(
                    query.lang, query.kind, query.text, value, (*found[:10],), wanted
                )
            )
        progress.count(f"queries of {name}", done, total)
    for done, item in enumerate(tasks.known, len(tasks.judged) + 1):
        for sort in sorts:
            started = time.perf_counter()
            addresses = _try(search, item.text, sort, NDCG_DEPTH)
            scores.seconds[item.form].append(time.perf_counter() - started)
            value = float(item.wanted.address in addresses)
            scores.known[item.lang, item.form].append(value)
            if not value:
                texts = tuple(names[a] for a in addresses)
                wanted = (item.wanted.post.text,)
                scores.failures.append(
                    Failure(
                        item.lang,
                        f"{item.form}/{sort}",
                        item.text,
                        value,
                        texts,
                        wanted,
                    )
                )
        progress.count(f"queries of {name}", done, total)
    return scores


def _own(lang: str, found: Sequence[str]) -> list[str]:
    """Leave out posts of other languages, which share words but have no grades."""
    return [name for name in found if name.startswith(f"{lang}.")][:RECALL_DEPTH]


def _try(search: Search, text: str, sort: Sort, limit: int) -> Sequence[Address]:
    for _ in range(_TRIES):
        try:
            return search(text, sort, limit)
        except TooCostlyError:
            # Another program may keep the machine busy.
            time.sleep(_PAUSE_S)
    return ()


def _mentions(placed: Sequence[Placed]) -> Mapping[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for p in placed:
        if p.post.topic is not None:
            found[p.post.lang, p.post.topic].append(p.post.name)
    return found
