"""Stored figures that a later run must reach, in `expected.json`.

`python -m bench.relevance.expected short` (or `whole`) measures and stores them anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.index import open_index
from bench.relevance.corpus import LANGUAGES
from bench.relevance.engines import BASELINE
from bench.relevance.judging import Scores
from bench.relevance.known_items import FORMS
from bench.relevance.measures import mean
from bench.relevance.run import KNOWN, POSTS, measure_all
from storage.postgres.pool import Pool

TOLERANCE: Final = 0.02
_PATH: Final = Path(__file__).with_name("expected.json")

Figures = dict[str, float]
"""Figures by `engine.language.measure`."""


@dataclass(frozen=True, slots=True)
class Size:
    """A part of the corpus."""

    languages: Sequence[str]
    posts: int
    known: int
    judged: int | None


SIZES: Final = {
    "short": Size(("de", "ja"), posts=200, known=12, judged=30),
    "whole": Size(LANGUAGES, posts=POSTS, known=KNOWN, judged=None),
}


class Silence:
    """A receiver that ignores progress."""

    def count(self, what: str, done: int, total: int) -> None:
        """Ignore progress."""


def measure_size(pool: Pool, name: str) -> dict[str, Scores]:
    """Measure a part of the corpus in an empty index."""
    size = SIZES[name]
    return measure_all(
        pool,
        size.languages,
        posts=size.posts,
        known=size.known,
        judged=size.judged,
        progress=Silence(),
    )


def to_figures(scores: Mapping[str, Scores]) -> Figures:
    """Return the figures that are stored."""
    return dict(_figures(scores))


def falls(found: Figures, name: str) -> list[str]:
    """Return the figures that are too far below the stored ones.

    Engines without stored figures are ignored.
    """
    stored: Figures = json.loads(_PATH.read_text())[name]
    return [
        f"{key}: {found[key]:.3f}, stored {value:.3f}"
        for key, value in stored.items()
        if key in found and found[key] < value - TOLERANCE
    ]


def store(found: Figures, name: str) -> None:
    """Replace the stored figures of the measured engines."""
    known = json.loads(_PATH.read_text()) if _PATH.exists() else {}
    stored: Figures = known.get(name, {})
    stored |= {key: round(value, 4) for key, value in found.items()}
    known[name] = dict(sorted(stored.items()))
    _PATH.write_text(json.dumps(known, indent=1) + "\n")


def _figures(scores: Mapping[str, Scores]) -> Iterator[tuple[str, float]]:
    for engine, one in scores.items():
        if engine == BASELINE:
            continue
        for lang, values in one.ndcg.items():
            yield f"{engine}.{lang}.ndcg10", mean(values)
            for form in FORMS:
                yield f"{engine}.{lang}.{form}", one.form(form, lang)


if __name__ == "__main__":
    with open_index() as index:
        store(to_figures(measure_size(index.pool, sys.argv[1])), sys.argv[1])
