"""Made-up posts in ten languages, as documents of a search engine.

Words are made of syllables or signs of each script, and are drawn by Zipf's law. The
same seed gives the same posts. Times are those of one year, in no order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final

from search.documents import ActorDocument, RecordDocument
from storage.collections import COLLECTION_IDS, FEED_POST
from storage.records.addresses import Address

START: Final = datetime(2025, 11, 30, tzinfo=UTC)
AUTHORS: Final = 20_000
_YEAR_US: Final = 365 * 24 * 3600 * 1_000_000
_POST: Final = COLLECTION_IDS[FEED_POST]


@dataclass(frozen=True, slots=True)
class Script:
    """The signs of a language, and the shape of its words and posts."""

    share: float
    signs: tuple[str, ...]
    words: int = 9_000
    sizes: tuple[int, ...] = (2, 2, 3)
    mean: int = 20
    space: str = " "


def _range(first: str, last: str) -> tuple[str, ...]:
    return tuple(chr(n) for n in range(ord(first), ord(last) + 1))


def _syllables(heads: str, tails: str) -> tuple[str, ...]:
    return tuple(a + b for a in heads.split() for b in tails.split())


_LATIN: Final = _syllables("b c d f g h l m n p r s t v w st tr", "a e i o u er in ol")
SCRIPTS: Final = {
    "en": Script(0.47, _LATIN, 40_000, (1, 2, 2, 3, 4), 23),
    "pt": Script(0.12, _syllables("b c d f l m n p r s t", "ã é o a"), mean=22),
    "es": Script(0.07, _syllables("b c d l ñ m n p r s t", "a e o ía"), mean=22),
    "de": Script(0.06, _syllables("b d f g k l m n r s t", "ä en ü er"), mean=21),
    "ja": Script(0.12, _range("ぁ", "ん") + _range("一", "乿"), space=""),
    "zh": Script(0.04, _range("丐", "便"), sizes=(1, 2, 2, 3), space=""),
    "ko": Script(0.04, _range("가", "곿"), mean=13),
    "th": Script(0.02, _syllables("ก ข ค ง จ ช ด ต น ม", "า ี ู อ"), space=""),
    "ar": Script(0.03, _syllables("ب ت ج د ر س ع ف ك ل", "ا و ي م")),
    "hi": Script(0.03, _syllables("क ग च ज त द न प म र", "ा ि ी ो")),
}


class Posts:
    """Posts and their accounts."""

    def __init__(self, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        self.words = {lang: self._vocabulary(one) for lang, one in SCRIPTS.items()}
        self._weights = {
            lang: list(accumulate(1 / (rank + 4) for rank in range(len(words))))
            for lang, words in self.words.items()
        }

    def _vocabulary(self, script: Script) -> list[str]:
        rng = self._rng
        found: dict[str, None] = {}
        while len(found) < script.words:
            size = rng.choice(script.sizes)
            # Frequent words are short.
            size = min(size, 1 + len(found) // 20) if script.space else size
            found["".join(rng.choices(script.signs, k=size))] = None
        return [*found]

    def accounts(self) -> Iterator[ActorDocument]:
        """Yield the accounts, the most active first."""
        rng = random.Random(2)
        names = self.words["en"]
        for n in range(1, AUTHORS + 1):
            name = rng.choice(names) + rng.choice(names)
            followers = min(10**6, int(rng.paretovariate(0.7)) - 1)
            yield ActorDocument(
                n,
                f"did:plc:{n:024d}",
                f"{name}{n}.example.com",
                f"{name} {rng.choice(names)}".title(),
                " ".join(rng.choices(names, k=8)),
                None,
                followers,
                0,
                0,
            )

    def posts(self, first: int, last: int) -> Iterator[RecordDocument]:
        """Yield the posts of these numbers."""
        tags = self.words["en"][300:2_300]
        langs, shares = [*SCRIPTS], [one.share for one in SCRIPTS.values()]
        for n in range(first, last):
            rng = random.Random(n)
            lang = rng.choices(langs, shares)[0]
            script = SCRIPTS[lang]
            size = max(2, min(60, int(rng.gammavariate(2.2, script.mean / 2.2))))
            words = rng.choices(
                self.words[lang], cum_weights=self._weights[lang], k=size
            )
            author = min(AUTHORS, 1 + int(40 * (rng.paretovariate(0.9) - 1)))
            at = START + timedelta(microseconds=rng.randrange(_YEAR_US))
            yield RecordDocument(
                address=Address(author, _POST, n),
                uri=f"at://did:plc:{author:024d}/app.bsky.feed.post/{n}",
                collection=FEED_POST,
                rkey=str(n),
                did=f"did:plc:{author:024d}",
                handle=None,
                title="",
                text=script.space.join(words),
                langs=(lang,) if rng.random() < 0.95 else (),
                tags=(rng.choice(tags),) if rng.random() < 0.1 else (),
                mentions=(),
                domains=(),
                urls=(),
                features=(),
                quotes=(),
                reply_parent=None,
                reply_root=None,
                created_at=at,
                sort_at=at,
                likes=min(200_000, int(rng.paretovariate(0.8)) - 1),
                reposts=0,
                replies=0,
                quote_count=0,
            )
