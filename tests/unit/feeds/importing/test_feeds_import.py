from __future__ import annotations

import json
import random
import tomllib
from typing import Any

import pytest
from import_samples import (
    GRAZE_NODES,
    LIST,
    OWNER,
    POST,
    SKYFEED_BLOCKS,
    block,
    graze,
    skyfeed,
)

from feeds.importing.feed_import import Imported, InvalidImportError, import_feed
from feeds.importing.ledger import Result
from feeds.importing.pattern_texts import adapt_pattern
from feeds.recipes.compiling import compile_recipe
from feeds.recipes.parsing import parse_recipe
from feeds.recipes.patterns import Pattern
from feeds.recipes.recipe import MAX_PATTERNS

AND_OR = {"and", "or"}


def run(values: Any) -> Imported:
    imported = import_feed(json.dumps(values))
    # The recipe is valid and can be served.
    compile_recipe(parse_recipe(imported.text), {"gardener.example.com": OWNER})
    return imported


def table(values: Any) -> dict[str, Any]:
    return tomllib.loads(run(values).text)


def share(results: dict[str, Result]) -> float:
    mapped = [kind for kind, r in results.items() if r is not Result.LEFT_OUT]
    return len(mapped) / len(results)


def alone(kind: str, values: list[Any]) -> Result:
    other = {"regex_matches": ["text", "garden", True]}
    imported = run(graze(other, {kind: values}))
    return next(e.result for e in imported.entries if e.path.endswith(f"].{kind}"))


def test_four_fifths_of_the_kinds_of_graze_are_mapped_and_the_rest_named() -> None:
    either = run({"filter": {"or": [{"and": [{"embed_type": ["==", "video"]}]}]}})
    results = {kind: alone(kind, values) for kind, values in GRAZE_NODES.items()}
    results |= {kind: either.kinds[kind] for kind in AND_OR}
    assert share(results) >= 0.8
    left_out = {kind for kind, r in results.items() if r is Result.LEFT_OUT}
    nodes = [{kind: GRAZE_NODES[kind]} for kind in sorted(left_out)]
    imported = run(graze({"embed_type": ["==", "image"]}, *nodes))
    named = {e.path: e.reason for e in imported.remarks}
    for number, kind in enumerate(sorted(left_out), 1):
        path = f"filter.and[{number}].{kind}"
        assert named[path]
        assert f"#   {path}: {named[path]}" in imported.text


def test_nine_tenths_of_the_kinds_of_skyfeed_are_mapped_and_the_rest_named() -> None:
    results = {}
    for kind in SKYFEED_BLOCKS:
        blocks = [block("input/firehose"), block(kind)]
        if kind == "stash":
            blocks.append(block(kind, action="pop"))
        imported = run(skyfeed(*blocks))
        results[kind] = imported.kinds[kind]
        if results[kind] is Result.LEFT_OUT:
            (entry,) = [e for e in imported.remarks if e.kind == kind]
            assert entry.reason
            assert f"#   blocks[1]: {entry.reason}" in imported.text
    assert share(results) >= 0.9


def test_tree_of_graze_becomes_sources_and_a_filter() -> None:
    found = table(
        graze(
            {"entity_matches": ["hashtags", ["Gardening", "allotment"]]},
            {
                "or": [
                    {"embed_type": ["==", "video"]},
                    {"and": [{"embed_type": ["==", "image"]}, _words("bean")]},
                ]
            },
            {"regex_none": ["text", ["casino"], True, False]},
            {"attribute_compare": ["reply", "==", None]},
            {"list_member": [LIST, "not_in"]},
            display_name="Gärten & Beete",
            order="new",
        )
    )
    assert found["source"] == [{"tags": ["gardening", "allotment"]}]
    assert found["filter"] == {
        "any": [
            {"media": ["video"]},
            {"media": ["images"], "regex": [r"\b(?:bean)\b"]},
        ],
        "not_regex": [r"\b(?:casino)\b"],
        "replies": "no",
        "not_lists": [LIST],
    }
    assert (found["name"], found["title"]) == ("ga-rten-beete", "Gärten & Beete")
    assert found["rank"] == {"by": "latest"}


def _words(*words: str) -> dict[str, Any]:
    return {"regex_any": ["text", [*words], True, False]}


def test_accounts_or_words_become_several_sources() -> None:
    found = table(
        {"filter": {"or": [{"list_member": [LIST, "in"]}, _words("bean", "pea")]}}
    )
    assert found["source"] == [{"list": LIST}, {"search": "bean OR pea"}]
    assert "filter" not in found


def test_words_are_searched_for_and_matched_exactly() -> None:
    found = table(graze(_words("raised bed", "seedling")))
    assert found["source"] == [{"search": '"raised bed" OR seedling'}]
    assert found["filter"] == {"regex": [r"\b(?:raised bed|seedling)\b"]}


def test_long_list_of_words_becomes_searches() -> None:
    words = [f"herb{number}" for number in range(200)]
    imported = run(graze(_words(*words)))
    found = tomllib.loads(imported.text)
    searched = " OR ".join(source["search"] for source in found["source"])
    assert searched == " OR ".join(words)
    assert imported.kinds["regex_any"] is Result.ROUGH


def test_part_that_does_not_fit_is_named_and_the_rest_kept() -> None:
    nodes = [
        {"regex_matches": ["text", f"pattern{n}x", True]}
        for n in range(MAX_PATTERNS + 1)
    ]
    imported = run(graze(*nodes))
    (left_out,) = imported.remarks
    assert left_out.path == f"filter.and[{MAX_PATTERNS}].regex_matches"
    assert "regular expressions" in left_out.reason


def test_handle_of_a_list_is_resolved() -> None:
    page = "https://bsky.app/profile/gardener.example.com/lists/3kgarden"
    manifest = json.dumps(graze({"list_member": [page, "in"]}))
    found = import_feed(manifest, {"gardener.example.com": OWNER}.get)
    assert tomllib.loads(found.text)["source"] == [{"list": LIST}]
    (unknown,) = import_feed(manifest).remarks
    assert "gardener.example.com is not known" in unknown.reason


def test_blocks_of_skyfeed_filter_the_inputs_before_them() -> None:
    found = table(
        skyfeed(
            block("input/firehose"),
            block("regex", target="text"),
            block("input/did"),
            block("remove/item"),
            block("sort/hn"),
        )
    )
    assert found["source"] == [{"everything": True}, {"accounts": [OWNER]}]
    assert found["filter"] == {
        "replies": "no",
        "any": [{"regex": [r"\b(compost|mulch)\b"]}, {"authors": [OWNER]}],
    }
    assert found["rank"]["gravity"] == 1.8
    assert found["window"] == "168h"


def test_stash_joins_inputs_with_filters_of_their_own() -> None:
    found = table(
        skyfeed(
            block("input/tags"),
            block("remove/embed"),
            block("stash"),
            block("input/tags", tags=["seeds"]),
            block("stash", action="pop"),
            block("input/post"),
        )
    )
    assert found["source"] == [{"tags": ["seeds"]}, {"tags": ["gardening"]}]
    assert found["filter"]["any"] == [
        {"tags": ["seeds"]},
        {"tags": ["gardening"], "quotes": "no"},
    ]
    assert found["sticky"] == [POST]


def test_words_of_a_pattern_replace_the_firehose() -> None:
    found = table(skyfeed(block("input/firehose"), block("regex", target="text")))
    assert found["source"] == [{"search": "compost OR mulch"}]
    assert found["filter"] == {"regex": [r"\b(compost|mulch)\b"]}


def test_generator_record_with_blocks_is_imported() -> None:
    record = {
        "$type": "app.bsky.feed.generator",
        "displayName": "Beds",
        "description": "Raised beds",
        "skyfeedBuilder": skyfeed(block("input/tags")),
    }
    found = table({"uri": "at://…", "value": record})
    assert (found["title"], found["description"]) == ("Gardens", "Raised beds")


def test_large_pattern_is_divided() -> None:
    words = [f"plant{number:03}" for number in range(60)]
    patterns = adapt_pattern(rf"(?i)\b({'|'.join(words)})\b")
    assert len(patterns) > 1
    for word in words:
        assert any(Pattern(one).found_in(f"a {word.upper()}.") for one in patterns)
        assert not any(Pattern(one).found_in(f"x{word}") for one in patterns)


@pytest.mark.parametrize(
    "text",
    ["", "[", "{}", "3", '{"filter": 3}', '{"blocks": []}', "[" * 100_000],
)
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(InvalidImportError):
        import_feed(text)


def test_odd_files_become_valid_recipes() -> None:
    odd: list[Any] = [None, True, -1, 2.5, "", "\0\n#", "\ud800", [], {}, [[]], "x" * 9]
    draw = random.Random(19)

    def value(depth: int = 0) -> Any:
        if depth < 3 and draw.random() < 0.4:
            return [value(depth + 1) for _ in range(draw.randrange(4))]
        return draw.choice(odd)

    for _ in range(300):
        kind = draw.choice([*GRAZE_NODES])
        node = [draw.choice([old, value()]) for old in GRAZE_NODES[kind]]
        tree: Any = {kind: draw.choice([node, value()])}
        for _ in range(draw.randrange(3)):
            tree = {draw.choice(["and", "or", "each"]): [tree, value()]}
        run(graze({"embed_type": ["==", "image"]}, tree, name=value(), order=value()))
        name = draw.choice([*SKYFEED_BLOCKS])
        changed = {key: value() for key in SKYFEED_BLOCKS[name] if draw.random() < 0.5}
        run(skyfeed(block("input/tags"), block(name, **changed), value()))


def test_deep_tree_is_cut() -> None:
    tree: Any = {"embed_type": ["==", "image"]}
    for number in range(200):
        tree = {"or" if number % 2 else "and": [tree]}
    imported = run(graze({"embed_type": ["==", "video"]}, tree))
    assert "it is nested too deep" in [entry.reason for entry in imported.remarks]
