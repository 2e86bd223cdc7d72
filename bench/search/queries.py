"""Queries of the search benchmark, by kind, from the words of an index."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from bench.index import Index
from bench.search.posts import Posts
from search.engines.postgres.tsvector import encode_clause
from search.query.nodes import Words
from search.text.tokens import query_tokens

_MANY: Final = 60
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def _lexical(text: str) -> str:
    """Return the tsquery of words, phrases and languages."""
    parts = []
    for part in text.split():
        if part.startswith("lang:"):
            parts.append(f"'l:{part[5:]}'")
        else:
            parts += [
                encode_clause(Words(c.tokens, c.prefix)) for c in query_tokens(part)
            ]
    return " & ".join(parts)


def _phrase(text: str) -> str:
    return encode_clause(Words(tuple(text.strip('"').split())))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of query; `plain` is its tsquery in the plain form."""

    name: str
    sort: Literal["latest", "top", "accounts"] = "latest"
    plain: Callable[[str], str] | None = _lexical


Workload = Mapping[Kind, list[str]]


def make_workload(index: Index, made: Posts) -> Workload:
    """Return queries of each kind."""
    rng = random.Random(7)
    total = index.ask("SELECT sum(documents)::int8 FROM search_slice")
    english = set(made.words["en"])
    with index.pool.connection() as conn:
        rows = conn.execute(
            "SELECT word, documents FROM search_word WHERE word !~ ':'"
            " ORDER BY documents DESC, word"
        ).fetchall()
    words = [(word, n) for word, n in rows if word in english]

    def between(low: float, high: float) -> list[str]:
        found = [word for word, n in words if low <= n <= high and len(word) > 3]
        rng.shuffle(found)
        return found[:_MANY] or [words[-1][0]]

    common = [word for word, _ in words[:20]]
    mid = between(0.002 * total, 0.01 * total)
    rare = between(2, max(50, total / 20_000))
    known = between(20, 0.001 * total)
    three = [" ".join(rng.sample(common, 3)) for _ in range(_MANY)]
    spanish = [*islice(made.words["es"], 50, 110)]
    japanese = [word for word in made.words["ja"][20:400] if len(word) == 2][:_MANY]
    texts = [d.text.split() for d in made.posts(1, 400) if d.langs == ("en",)]
    phrases = [
        f'"{" ".join(t[i : i + 3])}"'
        for t in texts
        if len(t) > 4
        for i in [len(t) // 3]
    ]
    authors = [f"did:plc:{n:024d}" for n in range(100, 160)]
    names = [made.words["en"][rng.randrange(2_000)] for _ in range(_MANY)]
    return {
        Kind("latest_rare"): rare,
        Kind("latest_common"): common,
        Kind("latest_mid"): mid,
        Kind("latest_three_common"): three,
        Kind("latest_phrase", plain=_phrase): phrases[:_MANY],
        Kind("latest_word_lang"): [f"{word} lang:es" for word in spanish],
        Kind("latest_absent_pair"): [f"{word} lang:hi" for word in common],
        Kind("latest_word_author", plain=None): [
            f"{rng.choice(common)} from:{did}" for did in authors
        ],
        Kind("latest_ja_two"): japanese,
        Kind("latest_typo", plain=None): [_misspell(rng, word) for word in known],
        Kind("latest_begun", plain=None): [word[:-1] for word in known],
        Kind("top_common", "top"): common,
        Kind("top_mid", "top"): mid,
        Kind("top_rare", "top"): rare,
        Kind("top_three_common", "top"): three,
        Kind("typeahead_letter", "accounts", None): [*_LETTERS[:20]],
        Kind("typeahead_two", "accounts", None): [name[:2] for name in names],
        Kind("typeahead_name", "accounts", None): [name[:6] for name in names],
    }


def _misspell(rng: random.Random, word: str) -> str:
    i = rng.randrange(1, len(word) - 1)
    other = rng.choice(_LETTERS)
    return rng.choice(
        [
            word[:i] + word[i + 1 :],
            word[:i] + other + word[i + 1 :],
            word[:i] + other + word[i:],
            word[: i - 1] + word[i] + word[i - 1] + word[i + 1 :],
        ]
    )
