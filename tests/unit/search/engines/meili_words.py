"""The `q` of Meilisearch, for the fake server: phrases, negation, typos, prefixes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from search.engines.spelling import edit_distance

_TERM = re.compile(r'(-)?(?:"([^"]*)"|([0-9a-z\u0080-\U0010ffff]+))')
MAX_TERMS = 10


@dataclass(frozen=True)
class Term:
    """A word or phrase of `q`."""

    tokens: tuple[str, ...]
    phrase: bool
    negative: bool
    last: bool


def parse_q(text: str) -> list[Term]:
    """Return the terms that the server reads: it stops after the tenth positive one."""
    terms: list[Term] = []
    rest = text
    for match in _TERM.finditer(text):
        rest = text[match.end() :]
        negative, phrase, word = match.groups()
        tokens = tuple((phrase if phrase is not None else word).split())
        terms.append(
            Term(tokens, phrase is not None, negative is not None, not rest.strip())
        )
        if sum(not term.negative for term in terms) >= MAX_TERMS:
            break
    return terms


def score_words(
    terms: list[Term], fields: list[str], strategy: str | None
) -> float | None:
    """Return how well a document matches, None if it does not."""
    texts = [field.split() for field in fields]
    positive = [term for term in terms if not term.negative]
    if any(_found(term, texts) for term in terms if term.negative):
        return None
    scores = [_found(term, texts) for term in positive]
    if not positive:
        return 1.0
    if strategy == "all":
        return sum(scores) / len(scores) if all(scores) else None
    assert strategy == "last"
    while scores and not all(scores):
        scores.pop()
    return sum(scores) / len(positive) if scores else None


def _found(term: Term, texts: list[list[str]]) -> float:
    """Return 1 for an exact match, less with typos, 0 without a match."""
    if term.phrase:
        # Phrases are found by pairs of neighbours, not by whole runs.
        return float(any(_pairs(term.tokens, tokens) for tokens in texts))
    word = term.tokens[0]
    reach = 0 if len(word) < 4 or word.isdigit() else 1 if len(word) < 8 else 2
    best = 0.0
    for tokens in texts:
        for token in tokens:
            if token == word or (term.last and token.startswith(word)):
                return 1.0
            distance = edit_distance(word, token, reach) if reach else 9
            if distance <= reach:
                best = max(best, 1 - distance / 4)
    return best


def _pairs(sought: tuple[str, ...], tokens: list[str]) -> bool:
    if len(sought) == 1:
        return sought[0] in tokens
    near = set(pairwise(tokens))
    far = near | set(zip(tokens, tokens[2:], strict=False))
    return all(pair in near for pair in pairwise(sought)) and all(
        pair in far for pair in zip(sought, sought[2:], strict=False)
    )
