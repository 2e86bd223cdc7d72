"""Settings of Meilisearch indexes. They are set before the first document."""

from __future__ import annotations

from typing import Any, Final

from search.terms import FIELDS

_NEUTRAL_LOCALE: Final = "eng"
"""Text arrives as our tokens; this locale has no segmentation of its own, so that
results depend neither on language guesses nor on how the server was built."""
LOCALES: Final = [_NEUTRAL_LOCALE]
_VALUES: Final = (
    "actor",
    "collection",
    "did",
    "langs",
    "tags",
    "mentions",
    "domains",
    "urls",
    "features",
    "quotes",
    "parent",
    "root",
)
MAX_HITS: Final = 1_000
"""Hits of one search; the next ones begin after a keyset."""


def _filterable(values: tuple[str, ...], ordered: tuple[str, ...]) -> list[Any]:
    return [
        {
            "attributePatterns": list(names),
            "features": {
                "facetSearch": False,
                "filter": {"equality": True, "comparison": comparison},
            },
        }
        for names, comparison in ((values, False), (ordered, True))
    ]


_COMMON: Final = {
    "displayedAttributes": ["*"],
    "distinctAttribute": None,
    "stopWords": [],
    "synonyms": {},
    "rankingRules": ["sort", "words", "typo", "proximity", "attribute", "exactness"],
    "proximityPrecision": "byWord",
    "typoTolerance": {
        "enabled": True,
        "minWordSizeForTypos": {"oneTypo": 4, "twoTypos": 8},
        "disableOnNumbers": True,
    },
    "faceting": {"maxValuesPerFacet": 1},
    "facetSearch": False,
    "prefixSearch": "indexingTime",
    "pagination": {"maxTotalHits": MAX_HITS},
    # A search that is cut off would lose hits in silence; our own limit ends it.
    "searchCutoffMs": 30_000,
}
RECORD_SETTINGS: Final[dict[str, Any]] = {
    **_COMMON,
    "searchableAttributes": [*FIELDS],
    "filterableAttributes": _filterable(_VALUES, ("id", "ts", "tier", "score")),
    "sortableAttributes": ["ts", "id", "tier", "score"],
    "localizedAttributes": [{"attributePatterns": [*FIELDS], "locales": LOCALES}],
}
ACTOR_SETTINGS: Final[dict[str, Any]] = {
    **_COMMON,
    "searchableAttributes": ["text"],
    "filterableAttributes": _filterable(
        ("handle",), ("actor", "names", "words", "followers")
    ),
    "sortableAttributes": ["followers", "actor"],
    "localizedAttributes": [{"attributePatterns": ["text"], "locales": LOCALES}],
}
