"""The fixed corpus: posts written by hand, judged queries, and word lists.

A language is one TOML file. Its posts and judgments are our own sentences; nothing is
copied. A post is a text with parts after ` | `: `alt:`, `link:` (URL, title and
description separated by semicolons) and `by:` (a name). A judgment is the kind of the
query and the grades of posts: `word a3 b2 garden.c1`. A `+` gives grade 1 to the
generated posts that only mention the topic.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).with_name("corpus")
LANGUAGES: Final = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
KINDS: Final = (
    "word", "two", "three", "phrase", "form", "tag", "name", "alt", "typo", "operator",
)  # fmt: skip
_TAG: Final = re.compile(r"#(\w[\w\u0300-\u036f\u0900-\u097f\u0e00-\u0e7f]*)")
_GRADE: Final = re.compile(r"(?:(?P<topic>\w+)\.)?(?P<post>[a-z])(?P<grade>[123])")


@dataclass(frozen=True, slots=True)
class Post:
    """A post of the corpus; `name` is `language.topic.letter` or a number."""

    name: str
    lang: str
    author: str
    text: str
    alts: tuple[str, ...] = ()
    link: tuple[str, str, str] | None = None
    """URL, title and description of a link card."""
    words: tuple[str, ...] = ()
    """The words of a generated post, without hashtags."""
    topic: str | None = None
    """The topic that a generated post mentions."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Return the hashtags of the text, without #."""
        return tuple(_TAG.findall(self.text))


@dataclass(frozen=True, slots=True)
class Judged:
    """A query, and the grades (1 to 3) of the posts that answer it."""

    lang: str
    topic: str
    kind: str
    text: str
    grades: Mapping[str, int]
    mentions: bool
    """True if posts that mention the topic in passing have grade 1."""


@dataclass(frozen=True, slots=True)
class Coin:
    """A way to make rare words: `low` to `high` parts and an ending."""

    parts: tuple[str, ...]
    low: int
    high: int
    endings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Language:
    """Posts, queries and word lists of a language."""

    code: str
    space: str
    """The text between two words: empty in Chinese, Japanese and Thai."""
    common: tuple[str, ...]
    """Frequent words, the most frequent first."""
    coins: tuple[Coin, ...]
    keys: Mapping[str, str]
    """The word of each topic that generated posts mention."""
    posts: tuple[Post, ...]
    queries: tuple[Judged, ...] = field(repr=False)


@cache
def load_language(code: str) -> Language:
    """Read the file of a language."""
    data = tomllib.loads((FOLDER / f"{code}.toml").read_text())
    topics: dict[str, Any] = data["topics"]
    return Language(
        code=code,
        space=data.get("space", " "),
        common=tuple(data["common"].split()),
        coins=tuple(_read_coin(coin) for coin in data["coins"]),
        keys={name: topic["key"] for name, topic in topics.items()},
        posts=tuple(
            _read_post(code, name, topic["by"], letter, text)
            for name, topic in topics.items()
            for letter, text in topic["posts"].items()
        ),
        queries=tuple(
            query
            for name, topic in topics.items()
            for query in _read_queries(code, name, topic["queries"])
        ),
    )


def _read_coin(value: Mapping[str, Any]) -> Coin:
    return Coin(
        tuple(value["parts"].split()),
        value["low"],
        value["high"],
        tuple(value.get("endings", "").split()) or ("",),
    )


def _read_post(code: str, topic: str, by: str, letter: str, text: str) -> Post:
    body, *parts = text.split(" | ")
    alts: list[str] = []
    link = None
    for part in parts:
        label, _, value = part.partition(": ")
        if label == "alt":
            alts.append(value)
        elif label == "by":
            by = value
        elif label == "link":
            url, title, description = (one.strip() for one in value.split(";"))
            link = url, title, description
        else:
            raise ValueError(f"{code}.{topic}.{letter}: unknown part {label!r}")
    name = f"{code}.{topic}.{letter}"
    return Post(name, code, by, body, tuple(alts), link)


def _read_queries(
    code: str, topic: str, queries: Mapping[str, str]
) -> Iterator[Judged]:
    for text, judgment in queries.items():
        kind, *marks = judgment.split()
        if kind not in KINDS:
            raise ValueError(f"{code}.{topic}: unknown kind {kind!r}")
        grades: dict[str, int] = {}
        for mark in marks:
            if mark == "+":
                continue
            match = _GRADE.fullmatch(mark)
            if match is None:
                raise ValueError(f"{code}.{topic}: unknown judgment {mark!r}")
            name = f"{code}.{match['topic'] or topic}.{match['post']}"
            grades[name] = int(match["grade"])
        yield Judged(code, topic, kind, text, grades, "+" in marks)
