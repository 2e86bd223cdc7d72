"""Records against their lexicons."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from protocol.data.cid import Cid, cid_for, cid_to_text, raw_cid_for
from protocol.data.graphemes import count_graphemes, cut_text
from protocol.errors import InvalidLexiconError, InvalidRecordError
from protocol.lexicon import Catalog
from protocol.lexicon.catalog import shipped_folder

POST = "app.bsky.feed.post"
LINK = Cid(cid_for(b"x"))
BLOB = {
    "$type": "blob",
    "ref": Cid(raw_cid_for(b"x")),
    "mimeType": "image/png",
    "size": 7,
}
OLD_BLOB = {"cid": cid_to_text(raw_cid_for(b"x")), "mimeType": "image/png"}
# One grapheme, seven code points, 25 bytes.
FAMILY = "👨‍👩‍👧‍👦"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def post(**fields: Any) -> dict[str, Any]:
    return {
        "$type": POST,
        "text": "hello",
        "createdAt": "2026-10-01T12:00:00.000Z",
        **fields,
    }


def compile_field(schema: dict[str, Any], **others: Any) -> Catalog:
    catalog = Catalog()
    field = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    raw = {
        "lexicon": 1,
        "id": "a.b.c",
        "defs": {"main": {"type": "record", "key": "any", "record": field}, **others},
    }
    catalog.add(json.dumps(raw).encode())
    return catalog


def accepts(catalog: Catalog, value: Any, *, lenient: bool = False) -> bool:
    try:
        catalog.validate_record(
            "a.b.c", {"$type": "a.b.c", "x": value}, lenient=lenient
        )
    except InvalidRecordError as error:
        path = error.path
    else:
        return True
    assert path == "x" or path.startswith(("x.", "x["))
    return False


FIELDS: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"type": "boolean"}, [True, False], [0, 1, "true", None, []]),
    ({"type": "boolean", "const": True}, [True], [False, 1]),
    (
        {"type": "integer", "minimum": -1, "maximum": 5},
        [-1, 0, 5],
        [-2, 6, True, "1", 1.0, None],
    ),
    ({"type": "integer", "enum": [1, 2]}, [1, 2], [0, 3, True]),
    ({"type": "integer", "const": 0}, [0], [1, False]),
    ({"type": "integer", "const": 3, "enum": [1, 2]}, [], [1, 2, 3]),
    ({"type": "string"}, ["", "\0", "é" * 100_000], [5, None, b"", [], LINK]),
    (
        {"type": "string", "minLength": 3, "maxLength": 6},
        ["abc", "abcdef", "éé", "日日", "😀"],
        ["", "ab", "é", "abcdefg", "éééé", "日日日", "😀😀"],
    ),
    ({"type": "string", "maxLength": 0}, [""], ["a"]),
    (
        {"type": "string", "minGraphemes": 2, "maxGraphemes": 3},
        ["ab", "abc", FAMILY * 2, FAMILY * 3, "e\u0301e\u0301e\u0301", "\r\n" * 3],
        ["", "a", FAMILY, "abcd", FAMILY * 4, "e\u0301"],
    ),
    ({"type": "string", "maxGraphemes": 0}, [""], ["a"]),
    ({"type": "string", "enum": ["a", "b"]}, ["a", "b"], ["", "c", "A"]),
    ({"type": "string", "const": "a"}, ["a"], ["b"]),
    ({"type": "string", "knownValues": ["a"]}, ["a", "b"], [5]),
    ({"type": "string", "format": "tid"}, ["3jzfcijpj2z2a"], ["", "000"]),
    (
        {"type": "string", "format": "did", "maxLength": 10},
        ["did:a:b"],
        ["did:web:a.example", "nonsense"],
    ),
    ({"type": "string", "format": "of-the-future"}, ["", "x"], [5]),
    (
        {"type": "bytes", "minLength": 1, "maxLength": 2},
        [b"a", b"ab"],
        [b"", b"abc", "a", LINK, {"$bytes": "YQ"}],
    ),
    ({"type": "cid-link"}, [LINK], [LINK.raw, str(LINK), {"$link": str(LINK)}]),
    (
        {
            "type": "array",
            "items": {"type": "integer"},
            "minLength": 1,
            "maxLength": 2,
        },
        [[1], [1, 2]],
        [[], [1, 2, 3], ["1"], [None], (1,), {"0": 1}, "1"],
    ),
    (
        {
            "type": "object",
            "required": ["a"],
            "nullable": ["a", "c"],
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        },
        [{"a": 1}, {"a": None}, {"a": 1, "b": 2, "more": [None]}],
        [{}, {"b": 1}, {"a": "x"}, {"a": 1, "b": None}, [], None],
    ),
    (
        {"type": "unknown"},
        [{}, {"$type": "a.b.d", "x": [1]}, OLD_BLOB],
        [None, True, 1, "x", [], b"", LINK, BLOB],
    ),
    (
        {"type": "blob", "accept": ["image/*", "text/plain"], "maxSize": 7},
        [BLOB, {**BLOB, "mimeType": "text/plain"}, {**BLOB, "more": 1}],
        [
            {**BLOB, "mimeType": "text/html"},
            {**BLOB, "mimeType": "imagex/png"},
            {**BLOB, "mimeType": ""},
            {**BLOB, "mimeType": 1},
            {**BLOB, "size": 8},
            {**BLOB, "size": 0},
            {**BLOB, "size": -1},
            {**BLOB, "size": True},
            {**BLOB, "size": "7"},
            {**BLOB, "ref": BLOB["ref"].raw},  # type: ignore[attr-defined]
            {**BLOB, "$type": "image"},
            {key: BLOB[key] for key in ("ref", "mimeType", "size")},
            OLD_BLOB,
            [],
            None,
        ],
    ),
    ({"type": "blob", "accept": ["*/*"]}, [BLOB], [OLD_BLOB]),
    ({"type": "blob"}, [{**BLOB, "size": 10**12}], [OLD_BLOB]),
]


@pytest.mark.parametrize("field", FIELDS, ids=range(len(FIELDS)))
def test_field_types(field: tuple[dict[str, Any], list[Any], list[Any]]) -> None:
    schema, right, wrong = field
    catalog = compile_field(schema)
    for value in right:
        assert accepts(catalog, value), value
    for value in wrong:
        assert not accepts(catalog, value), value


def test_lenient_validation_of_blobs() -> None:
    catalog = compile_field({"type": "blob", "accept": ["image/*"], "maxSize": 7})
    changes = ({"size": 8}, {"size": -1}, {"mimeType": "text/html"})
    for value in (BLOB, OLD_BLOB, *({**BLOB, **change} for change in changes)):
        assert accepts(catalog, value, lenient=True)
    for wrong in (
        {**BLOB, "mimeType": ""},
        {**BLOB, "ref": None},
        {**BLOB, "size": "7"},
        {**OLD_BLOB, "cid": 5},
        {**OLD_BLOB, "mimeType": ""},
        {"cid": "x"},
        {},
        None,
        "x",
    ):
        assert not accepts(catalog, wrong, lenient=True)


OBJECT = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize("closed", [False, True])
def test_union_fields(closed: bool) -> None:
    catalog = compile_field(
        {"type": "union", "refs": ["#main", "a.b.c#o", "#tok"], "closed": closed},
        o=OBJECT,
        tok={"type": "token"},
        other=OBJECT,
    )
    assert accepts(catalog, {"$type": "a.b.c#o", "n": 1})
    assert not accepts(catalog, {"$type": "a.b.c#o", "n": "1"})
    for name in ("a.b.c", "a.b.c#main"):
        inner = {"$type": "a.b.c#o"}
        assert accepts(catalog, {"$type": name, "x": inner})
        assert not accepts(catalog, {"$type": name})
    # Types outside the union are unchecked, or refused if it is closed.
    assert accepts(catalog, {"$type": "a.b.c#other", "n": "1"}) is not closed
    assert accepts(catalog, {"$type": "x.y.z"}) is not closed
    for wrong in ({}, {"$type": None}, {"$type": ""}, {"$type": 5}, [], "a.b.c#tok"):
        assert not accepts(catalog, wrong)


def test_reference_to_every_named_type() -> None:
    cases: list[tuple[dict[str, Any], Any, Any]] = [
        ({"type": "token"}, "a.b.c#y", "a.b.c#z"),
        ({"type": "string", "maxLength": 1}, "a", "ab"),
        ({"type": "array", "items": {"type": "integer"}}, [1], ["1"]),
        (OBJECT, {"n": 1}, {"n": "1"}),
        ({"type": "blob"}, BLOB, {}),
        ({"type": "integer"}, 1, "1"),
    ]
    for definition, right, wrong in cases:
        catalog = compile_field({"type": "ref", "ref": "#y"}, y=definition)
        assert accepts(catalog, right)
        assert not accepts(catalog, wrong)


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"text": None}, "text", "is not a string"),
        ({"text": "a" * 301}, "text", "is longer than 300 graphemes"),
        ({"text": "é" * 1_501}, "text", "is longer than 3000 bytes"),
        ({"createdAt": "yesterday"}, "createdAt", "is not a valid datetime"),
        ({"langs": ["en", "??"]}, "langs[1]", "is not a valid language"),
        ({"langs": ["en"] * 4}, "langs", "has more than 3 items"),
        ({"reply": {}}, "reply.root", "is missing"),
        (
            {"facets": [{"index": {"byteStart": 0, "byteEnd": -1}, "features": []}]},
            "facets[0].index.byteEnd",
            "is below 0",
        ),
        (
            {
                "embed": {
                    "$type": "app.bsky.embed.images",
                    "images": [{"alt": "", "image": BLOB}, {"alt": 5, "image": BLOB}],
                }
            },
            "embed.images[1].alt",
            "is not a string",
        ),
        ({"$type": "app.bsky.feed.like"}, "$type", "is not app.bsky.feed.post"),
        ({"$type": None}, "$type", "is not app.bsky.feed.post"),
    ],
)
def test_validation_error_has_path_and_reason(
    catalog: Catalog, fields: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        catalog.validate_record(POST, post(**fields))
    assert (caught.value.path, caught.value.reason) == (path, reason)
    assert str(caught.value) == f"{path}: {reason}"


def test_validate_record_of_posts(catalog: Catalog) -> None:
    catalog.validate_record(POST, post())
    catalog.validate_record(POST, post(text=FAMILY * 100, unknownField=[None]))
    catalog.validate_record(POST, post(embed={"$type": "x.y.z", "a": 1}))
    for value in (None, [], "x", {}):
        with pytest.raises(InvalidRecordError):
            catalog.validate_record(POST, value)


def test_unknown_record_types_are_refused(catalog: Catalog) -> None:
    for nsid in ("a.b.c", "app.bsky.feed.getPosts", "app.bsky.feed.defs", ""):
        assert not catalog.has_record(nsid)
        with pytest.raises(InvalidLexiconError):
            catalog.validate_record(nsid, {"$type": nsid})


def test_every_shipped_definition_compiles(catalog: Catalog) -> None:
    records = catalog.records()
    assert POST in records
    assert records == sorted(records)
    for nsid, document in catalog.documents().items():
        for name, schema in document.definitions.items():
            if schema["type"] in ("query", "procedure", "subscription"):
                assert catalog.method(nsid) is not None
            elif schema["type"] not in ("permission-set", "space"):
                with pytest.raises(InvalidRecordError):
                    catalog.validate(f"{nsid}#{name}".removesuffix("#main"), object())


def test_is_key_of(catalog: Catalog) -> None:
    assert catalog.is_key_of(POST, "3jzfcijpj2z2a")
    assert not catalog.is_key_of(POST, "self")
    assert catalog.is_key_of("app.bsky.actor.profile", "self")
    assert not catalog.is_key_of("app.bsky.actor.profile", "other")
    assert catalog.is_key_of("app.bsky.feed.generator", "whats-hot")
    assert catalog.is_key_of("com.atproto.lexicon.schema", "a.b.c")
    assert not catalog.is_key_of("com.atproto.lexicon.schema", "abc")
    assert catalog.is_key_of("x.y.z", "anything")
    assert not catalog.is_key_of("x.y.z", "any/thing")


def test_catalog_loads_extra_folders(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    document = {
        "lexicon": 1,
        "id": "org.example.note",
        "defs": {"main": {"type": "record", "key": "tid", "record": OBJECT}},
    }
    file = folder / "note.json"
    file.write_text(json.dumps(document))
    catalog = Catalog.load([tmp_path])
    assert catalog.has_record("org.example.note")
    assert catalog.has_record(POST)
    file.write_text("{}")
    with pytest.raises(InvalidLexiconError, match=r"note\.json"):
        Catalog.load([tmp_path])


def test_catalog_does_not_import_the_shipped_package() -> None:
    program = (
        "import sys; from protocol.lexicon import Catalog; Catalog.load();"
        "sys.exit('lexrpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 0
    assert (shipped_folder() / "com" / "atproto").is_dir()


def test_shipped_folder_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.lexicon.catalog.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="lexrpc"):
        shipped_folder()


def test_count_graphemes() -> None:
    assert count_graphemes(FAMILY * 3, 10) == 3
    assert count_graphemes("a" * 1_000, 10) == 11
    assert count_graphemes("", 5) == 0
    started = time.process_time()
    # A single cluster has to be read to its end.
    assert count_graphemes("e" + "\u0301" * 1_000_000, 300) == 1
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "graphemes", "size", "cut"),
    [
        ("กำ" * 290, 300, 3000, "กำ" * 290),
        ("กำ" * 310, 300, 3000, "กำ" * 300),
        (FAMILY * 9, 3, 10_000, FAMILY * 3),
        (FAMILY * 9, 300, len(FAMILY.encode()) * 2 + 5, FAMILY * 2),
        ("e" + "\u0301" * 5_000, 64, 640, ""),
        ("plain", 5, 5, "plain"),
        ("é" * 40, 64, 64, "é" * 32),
        ("", 3, 3, ""),
    ],
)
def test_cut_text_keeps_whole_clusters(
    text: str, graphemes: int, size: int, cut: str
) -> None:
    assert cut_text(text, graphemes=graphemes, size=size) == cut
