"""Roles of fields, from lexicons and from the shape of records."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from indexer.collections.field_plan import Plan, derive_plan, plan_from_json
from indexer.collections.generic import MAX_TEXT_CHARS, read_text
from protocol.lexicon import Catalog
from protocol.lexicon.documents import Schema, check_document

NSID = "org.example.thing"


def text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def lexicon(properties: dict[str, Any], *required: str, **defs: Any) -> dict[str, Any]:
    record = {"type": "object", "required": [*required], "properties": properties}
    main = {"type": "record", "key": "any", "record": record}
    return {"lexicon": 1, "id": NSID, "defs": {"main": main, **defs}}


def plan_of(document: dict[str, Any], *others: dict[str, Any]) -> Plan:
    catalog = {d["id"]: check_document(d) for d in others}

    def find(name: str) -> Schema | None:
        nsid, _, fragment = name.partition("#")
        known = catalog.get(nsid)
        return known.definitions.get(fragment or "main") if known else None

    plan = derive_plan(check_document(document), find)
    assert plan is not None
    again = plan_from_json(json.loads(json.dumps(plan.to_json())))
    assert (again.root, again.types) == (plan.root, plan.types)
    return plan


def roles(plan: Plan) -> dict[str, str]:
    return {key: item.role for key, item in plan.types[NSID].items() if item.role}


def test_formats_and_names_give_roles() -> None:
    plan = plan_of(
        lexicon(
            {
                "headline": text(maxGraphemes=90),
                "body": text(),
                "when": text(format="datetime"),
                "updatedAt": text(format="datetime"),
                "site": text(format="uri"),
                "owner": text(format="did"),
                "tongue": text(format="language"),
                "keywords": {"type": "array", "items": text()},
                "kind": text(knownValues=["a", "b"]),
                "picture": {"type": "blob"},
                "size": {"type": "integer"},
                "version": {"type": "cid-link"},
                "code": text(format="cid"),
                "alt": text(),
            },
            "when",
        )
    )
    assert roles(plan) == {
        **{"headline": "title", "body": "text", "when": "skip", "updatedAt": "date"},
        **{"site": "link", "owner": "link", "tongue": "lang", "keywords": "tag"},
        **{"kind": "tag", "picture": "skip", "size": "skip", "version": "skip"},
        **{"code": "skip", "alt": "alt"},
    }


def test_short_required_text_is_the_title() -> None:
    plan = plan_of(
        lexicon(
            {
                "intro": text(maxGraphemes=200),
                "sheershak": text(maxGraphemes=100),
                "kavita": text(),
            },
            "sheershak",
        )
    )
    read = read_text(
        {"intro": "पहला", "kavita": "मोर नाचता है", "sheershak": "बारिश"}, plan
    )
    assert (read.title, read.text) == ("बारिश", "पहला\nमोर नाचता है")


def test_recursive_references_and_unknown_lexicons_end() -> None:
    node = {
        "type": "object",
        "properties": {
            "words": text(),
            "children": {"type": "array", "items": {"type": "ref", "ref": "#node"}},
            "other": {"type": "ref", "ref": "org.example.unknown#part"},
            "card": {"type": "ref", "ref": "org.example.defs#card"},
        },
    }
    card = {"type": "object", "properties": {"title": text(), "id": text()}}
    other = {"lexicon": 1, "id": "org.example.defs", "defs": {"card": card}}
    plan = plan_of(lexicon({"root": {"type": "ref", "ref": "#node"}}, node=node), other)
    assert plan.missing == {"org.example.unknown"}
    assert plan.refs == {"org.example.unknown", "org.example.defs"}
    value = {
        "root": {
            "words": "one",
            "children": [{"words": "two", "other": {"phrase": "three"}}],
            "card": {"title": "four"},
        }
    }
    assert read_text(value, plan).text == "one\ntwo\nthree\nfour"


def test_large_lexicons_are_bounded() -> None:
    wide = {f"f{n}": {"type": "ref", "ref": f"#o{n}"} for n in range(1_500)}
    defs = {
        f"o{n}": {"type": "object", "properties": {f"g{m}": text() for m in range(9)}}
        for n in range(1_500)
    }
    plan = plan_of(lexicon(wide, **defs))
    assert len(plan.types) <= 200
    assert sum(map(len, plan.types.values())) <= 2_000


def test_record_of_another_shape_than_its_lexicon_is_read() -> None:
    plan = plan_of(lexicon({"title": text(), "at": text(format="datetime")}))
    value = {
        "title": {"not": "a string"},
        "at": "the day before",
        "more": ["unexpected words", 7, None, True, b"bytes"],
        "$type": NSID,
    }
    read = read_text(value, plan)
    assert read.text == "unexpected words"
    assert read.created_at is None


def test_shapes_without_a_lexicon() -> None:
    value = {
        "$type": NSID,
        "label": "Night train",
        "url": "https://example.org/a",
        "owner": "did:plc:" + "a" * 24,
        "subject": {"uri": "at://did:plc:x/a.b.c/d", "cid": "bafy" + "a" * 55},
        "blob": {"$type": "blob", "mimeType": "image/png", "size": 1},
        "departs": "2026-11-01T10:00:00Z",
        "lang": "de-AT",
        "tags": ["#rail", "sleep"],
        "notes": {"alt": "a berth", "stop": "Wien Hauptbahnhof"},
        "data": "A" * 5_000,
    }
    read = read_text(value)
    assert read.title == "Night train"
    assert set(read.text.split("\n")) == {"rail", "sleep", "Wien Hauptbahnhof"}
    assert read.alt == "a berth"
    assert (read.langs, read.tags) == (("de-AT",), ("rail", "sleep"))
    assert read.urls == ("https://example.org/a",)
    assert read.mentions == ("did:plc:" + "a" * 24,)
    assert read.features == ("link", "media", "images")
    assert read.created_at == datetime(2026, 11, 1, 10, tzinfo=UTC)


def test_longest_strings_are_kept() -> None:
    value = {"many": ["word"] * 3_990, "essay": "long words " * 1_000, "end": "tail"}
    read = read_text(value)
    assert len(read.text) <= MAX_TEXT_CHARS
    assert "long words" in read.text


def test_odd_values_are_bounded() -> None:
    deep: Any = "deep words"
    for _ in range(200):
        deep = {"a": [deep]}
    assert read_text({"deep": deep, "title": "shallow"}).title == "shallow"
    mega = read_text({"x": ["lorem ipsum " * 10] * 8_000, "nul": "a\0b"})
    assert len(mega.text) <= MAX_TEXT_CHARS
    assert read_text({"a": [[]] * 100_000, "z": "zebra stripes"}).text


def test_official_records_have_plans() -> None:
    catalog = Catalog.load()
    for nsid in catalog.records():
        document = catalog.documents()[nsid]
        plan = derive_plan(document, catalog.find_schema)
        assert plan is not None
        assert not plan.missing, nsid


_SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
_PLAN = plan_of(
    lexicon(
        {
            "title": text(),
            "tags": {"type": "array", "items": text()},
            "langs": {"type": "array", "items": text(format="language")},
            "createdAt": text(format="datetime"),
            "link": text(format="uri"),
            "part": {"type": "ref", "ref": "#part"},
        },
        part={"type": "object", "properties": {"title": text(), "text": text()}},
    )
)
_KEYS = st.sampled_from(["title", "tags", "langs", "createdAt", "link", "part", "x"])


@given(st.dictionaries(_KEYS, _VALUES), st.booleans())
def test_any_record_is_read(value: dict[str, Any], planned: bool) -> None:
    read = read_text(value, _PLAN if planned else None)
    assert len(read.text) <= MAX_TEXT_CHARS
    assert all(isinstance(tag, str) for tag in read.tags)
