"""The format of recipes: bounds, lines in errors, one meaning for files and records."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.recipes.parsing import InvalidRecipeError, parse_recipe, read_recipe
from feeds.recipes.recipe import Filter, Kept, Mix, RankBy, SourceKind

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
FULL = f"""
name = "cats"
title = "Cats"
description = "Cats, and friends of cats."
window = "30d"
sticky = ["at://{DID}/app.bsky.feed.post/3kaaaaaaaaa2a"]

[[source]]
search = "cat OR kitten"
weight = 2

[[source]]
name = "friends"
follows = true
reposts = true
rank = "latest"

[[source]]
accounts = ["@Alice.Example", "{DID}"]

[[source]]
collections = ["org.example.review"]

[filter]
languages = ["en", "pt-BR"]
min_likes = 3
max_age = "12h"
regex = ['\\bcats?\\b']
not_labels = ["spam"]
replies = "no"

[[filter.any]]
media = "images"

[[filter.any]]
tags = [
  "#Cats", # a ] in a comment
  "kittens",
]

[rank]
by = "popular"
mix = "interleave"
gravity = 1.2
per_author = 2

[[section]]
for = "signed-out"
sources = ["source 1"]

[section.rank]
by = "latest"
"""
SMALL = 'name = "a"\ntitle = "A"\n[[source]]\neverything = true\n'


def fault(text: str) -> InvalidRecipeError:
    with pytest.raises(InvalidRecipeError) as caught:
        parse_recipe(text)
    return caught.value


def test_parse_recipe_reads_every_part() -> None:
    recipe = parse_recipe(FULL)
    assert (recipe.name, recipe.window) == ("cats", timedelta(days=30))
    kinds = [source.kind for source in recipe.sources]
    assert kinds == [
        SourceKind.SEARCH,
        SourceKind.FOLLOWS,
        SourceKind.ACCOUNTS,
        SourceKind.EVERYTHING,
    ]
    assert recipe.source("friends").rank is RankBy.LATEST
    assert recipe.sources[2].values == ("alice.example", DID)
    assert recipe.sources[3].collections == ("org.example.review",)
    assert recipe.handles == {"alice.example"}
    assert recipe.filter.languages == ("en", "pt")
    assert recipe.filter.replies is Kept.NO
    assert recipe.filter.any == (
        Filter(media=("images",)),
        Filter(tags=("cats", "kittens")),
    )
    assert (recipe.live.min_likes, recipe.live.max_age) == (3, timedelta(hours=12))
    assert (recipe.rank.mix, recipe.rank.gravity) == (Mix.INTERLEAVE, 1.2)
    assert recipe.rank.diversity.per_author == 2
    section = recipe.sections[0]
    assert section.sources == ("source 1",)
    assert section.rank is not None
    assert section.rank.by is RankBy.LATEST


def test_read_recipe_of_a_record_equals_the_file() -> None:
    values = tomllib.loads(FULL)
    values["rank"]["gravity"] = "1.2"  # records hold no fractions
    assert read_recipe(values) == parse_recipe(FULL)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("weight = 2", "wieght = 2", 10, "did you mean weight?"),
        ('title = "Cats"', 'titel = "Cats"', 3, "did you mean title?"),
        ('"kittens",', '"kittens", 3,', 36, "any 2, tags: write a text"),
        ('media = "images"', 'media = "sound"', 33, "images, video, link"),
        ('by = "latest"', 'by = "newest"', 52, "section 1, rank, by: write one of"),
        ("follows = true", 'follows = true\nlist = "x"', 12, "cannot stand in one"),
        ("bcats?", "bcats?(?=x)", 28, "(?…) is not supported"),
        ("[rank]", "[rank", 41, "not valid TOML"),
        ('"30d"', '"1000d"', 5, "at most 365 days"),
        ('"30d"', '"a month"', 5, "span of time"),
        ('["source 1"]', '["source 9"]', 49, "there is no source source 9"),
        ("cat OR kitten", "cat in:following", 9, "have no meaning"),
        ("cat OR kitten", "cat from:me", 9, "have no meaning"),
        ("cat OR kitten", "cat min_likes:3", 9, "use [filter]"),
        ("cat OR kitten", "since:2026-01-01", 9, "use max_age"),
        ("min_likes = 3", "min_likes = 3\nmax_likes = 2", 27, "below min_likes"),
        ("gravity = 1.2", "gravity = nan", 44, "from 0 to 5"),
        ("gravity = 1.2", "gravity = true", 44, "write a number"),
        ("weight = 2", "weight = 0", 10, "from 0.01 to 100"),
        ("per_author = 2", "per_author = 0", 45, "from 1 to 100"),
        ('"cats"', '"Cats!"', 2, "lower-case"),
        ('"Cats"', '"Ca\\u0000ts"', 3, "not allowed"),
        (f"at://{DID}/app.bsky.feed.post", "at://x/app.bsky.feed.post", 6, "no AT-URI"),
        ("app.bsky.feed.post/", "app.bsky.feed.like/", 6, "app.bsky.feed.post/KEY"),
        ("@Alice.Example", "alice", 19, "neither a handle nor a DID"),
        ("follows = true", "follows = false", 14, "leave the source out"),
    ],
)
def test_errors_name_line_and_reason(
    old: str, new: str, line: int, reason: str
) -> None:
    changed = FULL.replace(old, new, 1)
    assert changed != FULL
    error = fault(changed)
    assert error.line == line
    assert reason in error.reason or reason in str(error)


def test_weights_and_ranks_that_change_nothing_are_refused() -> None:
    assert fault(SMALL + "weight = 2\n").line == 5
    assert fault(SMALL + 'rank = "popular"\n').line == 5
    parse_recipe(SMALL + 'weight = 2\n[rank]\nby = "popular"\n')


def test_an_error_of_a_record_names_the_place() -> None:
    values = tomllib.loads(SMALL)
    values["source"][0] = {"tags": ["ok", ""]}
    with pytest.raises(InvalidRecipeError, match=r"^source 1, tags: the text is empty"):
        read_recipe(values)


def test_bounds_on_filters_and_patterns() -> None:
    nested: dict[str, object] = {"media": "images"}
    for _ in range(6):
        nested = {"any": [nested]}
    values = tomllib.loads(SMALL)
    with pytest.raises(InvalidRecipeError, match="more than 4 filters"):
        read_recipe({**values, "filter": nested})
    many = {"any": [{"regex": ["a"]}] * 9}
    with pytest.raises(InvalidRecipeError, match="at most 8 regular"):
        read_recipe({**values, "filter": many})
    wide = {"none": [{"any": [{"tags": ["a"]}] * 20}] * 2}
    with pytest.raises(InvalidRecipeError, match="at most 32 filters"):
        read_recipe({**values, "filter": wide})


@pytest.mark.parametrize(
    "text",
    [
        "x=" + "[" * 60_000,
        "a" + ".a" * 30_000 + "=1",
        "[" + "a." * 30_000 + "b]",
        'x={"a"' + '."a"' * 9_000 + "=1}",
        "x=" + "9" * 60_000,
        "x='''",
        '"""\\' * 10_000,
        "x={" * 20_000,
        "[[source]]\n" * 5_000,
        "\ud800",
        "#" * 70_000,
        "a-" * 30_000,
    ],
)
def test_hostile_files_are_refused(text: str) -> None:
    fault(text)


@given(st.integers(0, 2**32))
def test_damaged_files_are_read_or_refused(seed: int) -> None:
    random = Random(seed)
    text = FULL
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(text))
        end = min(len(text), at + random.randrange(12))
        piece = random.choice(
            (
                "",
                '"',
                "[",
                "]]",
                "=",
                "\n",
                "\0",
                "9" * 400,
                "'''",
                text[end : end + 30],
            )
        )
        text = text[:at] + piece + text[end:]
    lines: list[int | None] = []
    try:
        parse_recipe(text)
    except InvalidRecipeError as error:
        lines.append(error.line)
    assert all(n is None or 1 <= n <= text.count("\n") + 1 for n in lines)
