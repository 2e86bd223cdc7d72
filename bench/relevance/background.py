"""Generated posts: word frequencies as in a natural language, many rare words.

Every draw is seeded, so that a corpus is the same in every run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from bench.relevance.corpus import Language, Post

_COINED: Final = 4_000
"""Rare words of a language."""
_AUTHORS: Final = 40
_MENTIONS: Final = 8
"""Generated posts that mention a topic."""
_LONGEST: Final = 30
_SHORTEST: Final = 5
_TAG_SHARE: Final = 0.12
_ALT_SHARE: Final = 0.1
_LINK_SHARE: Final = 0.08


def generate_posts(language: Language, count: int) -> Iterator[Post]:
    """Yield `count` posts of a language, some of which mention a topic."""
    draw = random.Random(f"{language.code} posts")
    vocabulary = make_vocabulary(language)
    shares = [*accumulate(1 / (rank + 2) for rank in range(len(vocabulary)))]
    topics = [name for name in language.keys for _ in range(_MENTIONS)]
    for number in range(count):
        size = min(_LONGEST, _SHORTEST + int(draw.expovariate(0.12)))
        words = draw.choices(vocabulary, cum_weights=shares, k=size)
        topic = topics[number] if number < len(topics) else None
        if topic is not None:
            words.insert(draw.randrange(len(words)), language.keys[topic])
        yield _make_post(language, draw, vocabulary, number, words, topic)


def make_vocabulary(language: Language) -> list[str]:
    """Return the words of a language, the most frequent first."""
    draw = random.Random(f"{language.code} words")
    coined: dict[str, None] = {}
    while len(coined) < _COINED:
        coin = draw.choice(language.coins)
        parts = draw.choices(coin.parts, k=draw.randint(coin.low, coin.high))
        coined["".join(parts) + draw.choice(coin.endings)] = None
    return [*dict.fromkeys([*language.common, *coined])]


def _make_post(
    language: Language,
    draw: random.Random,
    vocabulary: list[str],
    number: int,
    words: list[str],
    topic: str | None,
) -> Post:
    rare = vocabulary[len(language.common) :]
    text = language.space.join(words)
    text = text[0].upper() + text[1:]
    if draw.random() < _TAG_SHARE:
        text += f" #{rare[int(len(rare) * draw.random() ** 3)]}"
    alts: tuple[str, ...] = ()
    link = None
    kind = draw.random()
    if kind < _ALT_SHARE:
        alts = (language.space.join(draw.choices(rare, k=4)),)
    elif kind < _ALT_SHARE + _LINK_SHARE:
        title = language.space.join(draw.choices(vocabulary, k=5))
        link = f"https://site{draw.randrange(30)}.example/{number}", title, ""
    return Post(
        f"{language.code}.{number}",
        language.code,
        f"writer{int(_AUTHORS * draw.random() ** 2)}",
        text,
        alts,
        link,
        tuple(words),
        topic,
    )
