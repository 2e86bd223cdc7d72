"""Measures of a ranking: nDCG and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2


def ndcg(found: Sequence[str], grades: Mapping[str, int], depth: int) -> float:
    """Return the gain of the first results divided by the gain of the best order.

    A grade `g` has the gain 2^g - 1, discounted by the logarithm of the place.
    """
    best = _gain(sorted(grades.values(), reverse=True)[:depth])
    return _gain([grades.get(one, 0) for one in found[:depth]]) / best if best else 0.0


def recall(found: Sequence[str], grades: Mapping[str, int], depth: int) -> float:
    """Return the share of the posts with grade 2 or 3 among the first results."""
    wanted = {one for one, grade in grades.items() if grade > 1}
    return len(wanted & set(found[:depth])) / len(wanted) if wanted else 1.0


def mean(values: Sequence[float]) -> float:
    """Return the mean; 0 without values."""
    return sum(values) / len(values) if values else 0.0


def _gain(grades: Sequence[int]) -> float:
    return sum((float(2**g) - 1) / log2(place + 2) for place, g in enumerate(grades))
