from __future__ import annotations

import json
from typing import Any

import pytest

from protocol.lexicon import Catalog
from protocol.lexicon.sizes import largest_json

CATALOG = Catalog.load()


def size(schema: dict[str, Any]) -> int | None:
    return largest_json(schema, "a.b.c", CATALOG.find_schema)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "maxLength": 10}, "é" * 5),
        ({"type": "string", "format": "did"}, "did:plc:" + "a" * 24),
        ({"type": "integer"}, -(2**63)),
        (
            {
                "type": "object",
                "properties": {
                    "flag": {"type": "boolean"},
                    "names": {
                        "type": "array",
                        "maxLength": 3,
                        "items": {"type": "string", "maxLength": 4},
                    },
                },
            },
            {"flag": False, "names": ["aaaa"] * 3},
        ),
        (
            {"type": "ref", "ref": "com.atproto.repo.strongRef"},
            {"uri": "at://did:plc:x/a.b.c/1", "cid": "bafy"},
        ),
    ],
)
def test_largest_json_holds_any_fitting_value(
    schema: dict[str, Any], value: Any
) -> None:
    bound = size(schema)
    assert bound is not None
    assert len(json.dumps(value, separators=(",", ":"))) <= bound < 20_000


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "unknown"},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "union", "refs": ["com.atproto.repo.strongRef"]},
        {"type": "object", "properties": {"x": {"type": "unknown"}}},
        {"type": "ref", "ref": "app.bsky.feed.defs#threadViewPost"},
    ],
)
def test_largest_json_is_unknown_where_the_lexicon_sets_no_bound(
    schema: dict[str, Any],
) -> None:
    assert size(schema) is None


def test_input_sizes_of_all_methods() -> None:
    methods = [CATALOG.method(nsid) for nsid in CATALOG.methods()]
    bounds = {m.nsid: m.input.largest for m in methods if m and m.input}
    assert bounds["com.atproto.repo.applyWrites"] is None
    assert 0 < (bounds["com.atproto.sync.requestCrawl"] or 0) < 8_192
