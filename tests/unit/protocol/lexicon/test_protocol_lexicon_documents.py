"""Lexicon documents, which are untrusted."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from protocol.errors import InvalidLexiconError, InvalidRecordError
from protocol.lexicon import Catalog
from protocol.lexicon.documents import check_document, read_document, resolve_ref


def document(**definitions: Any) -> dict[str, Any]:
    return {"lexicon": 1, "id": "com.example.thing", "defs": definitions}


def record(**properties: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "key": "any",
        "record": {"type": "object", "properties": properties},
    }


def query(**parts: Any) -> dict[str, Any]:
    return {"type": "query", **parts}


def params(**properties: Any) -> dict[str, Any]:
    return {"type": "params", "properties": properties}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


WRONG: list[Any] = [
    [],
    {},
    {"lexicon": 2, "id": "a.b.c", "defs": {"x": {"type": "token"}}},
    {"lexicon": 1, "id": "a.b", "defs": {"x": {"type": "token"}}},
    {"lexicon": 1, "id": "a.b.c", "defs": {}},
    {"lexicon": 1, "id": "a.b.c", "defs": []},
    {"lexicon": 1, "id": "a.b.c"},
    document(**{"a b": {"type": "token"}}),
    document(**{"": {"type": "token"}}),
    document(x=[]),
    document(x={}),
    document(x={"type": 5}),
    document(x={"type": "nonsense"}),
    document(x={"type": "ref", "ref": "#y"}),
    document(x={"type": "union", "refs": []}),
    document(x={"type": "unknown"}),
    document(x={"type": "params"}),
    document(x=record()),
    document(x=query()),
    document(main={"type": "record", "key": "any"}),
    document(main={"type": "record", "record": {"type": "object"}}),
    document(main={**record(), "key": "some"}),
    document(main={**record(), "key": "literal:a/b"}),
    document(main={**record(), "record": {"type": "string"}}),
    document(main=record(a={"type": "token"})),
    document(main=record(a={"type": "record"})),
    document(main=record(a=5)),
    document(main={**record(), "record": {"type": "object", "properties": []}}),
    document(main={**record(), "record": {"type": "object", "required": "a"}}),
    document(main={**record(), "record": {"type": "object", "nullable": [5]}}),
    document(x={"type": "array"}),
    document(x={"type": "array", "items": {"type": "params"}}),
    document(x={"type": "array", "items": nested(32)}),
    document(x={"type": "array", "items": {"type": "string"}, "maxLength": "5"}),
    document(x={"type": "string", "maxLength": -1}),
    document(x={"type": "string", "maxLength": True}),
    document(x={"type": "string", "maxGraphemes": 1.5}),
    document(x={"type": "string", "format": 5}),
    document(x={"type": "string", "enum": "a"}),
    document(x={"type": "string", "enum": [1]}),
    document(x={"type": "string", "knownValues": [None]}),
    document(x={"type": "string", "const": 1}),
    document(x={"type": "string", "default": None}),
    document(x={"type": "integer", "minimum": "1"}),
    document(x={"type": "integer", "enum": [True]}),
    document(x={"type": "integer", "const": 1.0}),
    document(x={"type": "boolean", "const": 1}),
    document(x={"type": "bytes", "minLength": -5}),
    document(x={"type": "blob", "accept": "image/*"}),
    document(x={"type": "blob", "accept": [1]}),
    document(x={"type": "blob", "maxSize": "1"}),
    document(main=record(a={"type": "ref"})),
    document(main=record(a={"type": "ref", "ref": 5})),
    document(main=record(a={"type": "ref", "ref": ""})),
    document(main=record(a={"type": "ref", "ref": "#"})),
    document(main=record(a={"type": "ref", "ref": "#a#b"})),
    document(main=record(a={"type": "ref", "ref": "nonsense"})),
    document(main=record(a={"type": "union"})),
    document(main=record(a={"type": "union", "refs": [5]})),
    document(main=record(a={"type": "union", "refs": ["#a"] * 1_025})),
    document(main=record(a={"type": "union", "refs": ["#a"], "closed": "yes"})),
    document(main=query(parameters={"type": "object"})),
    document(main=query(parameters=params(a={"type": "object"}))),
    document(main=query(parameters=params(a={"type": "array"}))),
    document(main=query(parameters=params(a=nested(2)))),
    document(main=query(parameters={"type": "params", "required": 5})),
    document(main=query(input={"encoding": "application/json"})),
    document(main=query(output="application/json")),
    document(main=query(output={"schema": {"type": "object"}})),
    document(main=query(output={"encoding": "x", "schema": {"type": "string"}})),
    document(main=query(errors="Bad")),
    document(main=query(errors=[{}])),
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_invalid_document_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidLexiconError):
        check_document(wrong)
    with pytest.raises(InvalidLexiconError):
        read_document(json.dumps(wrong).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b'{"lexicon":1,"lexicon":1}',
        b"[" * 100_000,
        json.dumps(
            document(x={"type": "token", "description": "x" * 262_144})
        ).encode(),
        json.dumps(document(x=nested(300))).encode(),
    ],
)
def test_read_document_refuses_other_bytes(raw: bytes) -> None:
    with pytest.raises(InvalidLexiconError):
        read_document(raw)


def test_document_error_names_the_definition() -> None:
    with pytest.raises(InvalidLexiconError, match=r"com\.example\.thing#bad: "):
        check_document(document(ok={"type": "token"}, bad={"type": "array"}))


def test_valid_document() -> None:
    read = check_document(
        {
            **document(
                main=record(
                    a={"type": "ref", "ref": "#main"},
                    b={"type": "union", "refs": ["#x", "a.b.c", "a.b.c#d"]},
                    c={"type": "unknown"},
                ),
                x=nested(31),
            ),
            "description": "things",
            "revision": 4,
        }
    )
    assert read.nsid == "com.example.thing"
    assert read.description == "things"
    assert list(read.definitions) == ["main", "x"]
    for kind in ("permission-set", "space"):
        check_document(document(main={"type": kind}))


def test_resolve_ref() -> None:
    assert resolve_ref("#x", "a.b.c") == "a.b.c#x"
    assert resolve_ref("#main", "a.b.c") == "a.b.c"
    assert resolve_ref("d.e.f", "a.b.c") == "d.e.f"
    assert resolve_ref("d.e.f#main", "a.b.c") == "d.e.f"
    assert resolve_ref("d.e.f#x", "a.b.c") == "d.e.f#x"


def add(catalog: Catalog, **definitions: Any) -> None:
    catalog.add(json.dumps(document(**definitions)).encode())


def test_recursive_definitions() -> None:
    catalog = Catalog()
    link = {"type": "object", "properties": {"next": {"type": "ref", "ref": "#b"}}}
    back = {"type": "object", "properties": {"next": {"type": "ref", "ref": "#a"}}}
    add(catalog, a=link, b=back, main=record(next={"type": "ref", "ref": "#main"}))
    value: Any = {}
    for _ in range(31):
        value = {"next": value}
    catalog.validate("com.example.thing#a", value)
    catalog.validate("com.example.thing", value)
    bad: Any = 5
    for _ in range(31):
        bad = {"next": bad}
    for name in ("com.example.thing#a", "com.example.thing"):
        with pytest.raises(InvalidRecordError) as caught:
            catalog.validate(name, bad)
        assert caught.value.path == ".".join(["next"] * 31)


def test_long_chain_of_references() -> None:
    catalog = Catalog()
    chain = {
        f"d{n}": {
            "type": "object",
            "properties": {"x": {"type": "ref", "ref": f"#d{n + 1}"}},
        }
        for n in range(1_500)
    }
    add(catalog, **chain, d1500={"type": "object", "required": ["end"]})
    value: Any = {"end": 1}
    wrong: Any = {}
    for _ in range(100):
        value, wrong = {"x": value}, {"x": wrong}
    catalog.validate("com.example.thing#d1400", value)
    with pytest.raises(InvalidRecordError):
        catalog.validate("com.example.thing#d1400", wrong)
    catalog.validate("com.example.thing#d0", wrong)


def test_dense_references_compile_once() -> None:
    catalog = Catalog()
    names = [f"d{n}" for n in range(100)]
    refs = [f"#{name}" for name in names]
    web = {
        name: {
            "type": "object",
            "properties": {
                "x": {"type": "union", "refs": refs},
                "y": {"type": "array", "items": {"type": "union", "refs": refs}},
            },
        }
        for name in names
    }
    add(catalog, **web)
    started = time.process_time()
    value: Any = {}
    for _ in range(15):
        value = {"x": {**value, "$type": "com.example.thing#d7"}, "y": []}
    catalog.validate("com.example.thing#d0", value)
    assert time.process_time() - started < 2


def test_missing_reference_is_reported_each_time() -> None:
    catalog = Catalog()
    add(
        catalog,
        main=record(a={"type": "ref", "ref": "#ok"}, b={"type": "ref", "ref": "#no"}),
        ok={"type": "object", "properties": {"m": {"type": "ref", "ref": "#main"}}},
        alone={"type": "object", "properties": {"n": {"type": "ref", "ref": "#alone"}}},
    )
    catalog.validate("com.example.thing#alone", {"n": {}})
    for name in ("com.example.thing", "com.example.thing#ok") * 2:
        with pytest.raises(InvalidLexiconError, match="#no is unknown"):
            catalog.validate(name, {})
    # Definitions compiled before still work.
    catalog.validate("com.example.thing#alone", {"n": {"n": {}}})
    with pytest.raises(InvalidRecordError):
        catalog.validate("com.example.thing#alone", {"n": {"n": 5}})


def test_reference_to_a_later_document() -> None:
    catalog = Catalog()
    ref = {"type": "ref", "ref": "com.example.later#x"}
    add(catalog, main=record(a=ref))
    with pytest.raises(InvalidLexiconError, match=r"com\.example\.later#x"):
        catalog.validate("com.example.thing", {})
    later = document(x={"type": "integer"}) | {"id": "com.example.later"}
    catalog.add(json.dumps(later).encode())
    catalog.validate("com.example.thing", {"a": 1})
    with pytest.raises(InvalidRecordError):
        catalog.validate("com.example.thing", {"a": "x"})


def test_reference_to_a_method_is_refused() -> None:
    catalog = Catalog()
    add(catalog, main=query(), x={"type": "array", "items": {"type": "string"}})
    other = document(main=record(a={"type": "ref", "ref": "com.example.thing"}))
    catalog.add(json.dumps(other | {"id": "com.example.other"}).encode())
    with pytest.raises(InvalidLexiconError):
        catalog.validate("com.example.other", {})


def test_newer_document_replaces_the_older() -> None:
    catalog = Catalog()
    add(catalog, main=record(a={"type": "string"}))
    catalog.validate("com.example.thing", {"a": "x"})
    add(catalog, main=record(a={"type": "integer"}))
    catalog.validate("com.example.thing", {"a": 1})
    with pytest.raises(InvalidRecordError):
        catalog.validate("com.example.thing", {"a": "x"})
