"""The JSON form of values, and the strict reader of JSON."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.data.cid import Cid, cid_for, cid_to_text, raw_cid_for
from protocol.data.json_form import from_json, loads, record_from_json, to_json
from protocol.errors import InvalidEncodingError, LimitExceededError

LINK = cid_for(b"x")
TEXT = cid_to_text(LINK)
BLOB = {
    "$type": "blob",
    "ref": {"$link": cid_to_text(raw_cid_for(b"x"))},
    "mimeType": "image/png",
    "size": 7,
}


def test_json_form_round_trip() -> None:
    value = {
        "null": None,
        "list": [True, 1, -(2**63), 2**63 - 1, "a\0b"],
        "link": Cid(LINK),
        "bytes": b"\xff\xfe",
        "empty": b"",
        "blob": {**BLOB, "ref": Cid(raw_cid_for(b"x"))},
        "$odd": {"$type": "a.b.c"},
    }
    obj = value | {
        "link": {"$link": TEXT},
        "bytes": {"$bytes": "//4"},
        "empty": {"$bytes": ""},
        "blob": BLOB,
    }
    assert to_json(value) == obj
    assert from_json(obj) == value


@pytest.mark.parametrize(
    ("text", "raw"),
    [("", b""), ("YQ", b"a"), ("YQ==", b"a"), ("YR", b"a"), ("YWI", b"ab")],
)
def test_json_bytes_with_and_without_padding(text: str, raw: bytes) -> None:
    assert from_json({"$bytes": text}) == raw


def test_from_json_reads_whole_floats_as_integers() -> None:
    assert from_json([1.0, -0.0, 2.0**53 - 1]) == [1, 0, 2**53 - 1]
    assert all(type(item) is int for item in from_json([1.0, -0.0]))


@pytest.mark.parametrize(
    "obj",
    [
        *(1.5, 2.0**53, float("inf"), float("nan"), 2**63, -(2**63) - 1),
        *({"$link": link} for link in (5, ".", TEXT[:-1], "Qm" + "a" * 44)),
        *({"$bytes": raw} for raw in (5, "Y", "YWJjZ", "-_", "YQ\n", "YQ===", "é")),
        *({"$type": name} for name in (None, 5, "")),
        {"$link": TEXT, "x": 1},
        {"$bytes": "YQ", "x": 1},
        {key: item for key, item in BLOB.items() if key != "ref"},
        {**BLOB, "size": "7"},
        {**BLOB, "size": True},
        {**BLOB, "mimeType": 1},
        {**BLOB, "ref": TEXT},
        {5: 1},
        {1},
        b"bytes",
    ],
)
def test_from_json_refuses_other_objects(obj: Any) -> None:
    with pytest.raises(InvalidEncodingError):
        from_json(obj)
    with pytest.raises(InvalidEncodingError):
        from_json([{"a": obj}])


def test_record_from_json_requires_an_object() -> None:
    assert record_from_json({"a": 1}) == {"a": 1}
    for obj in ("text", [], None, {"$bytes": ""}, {"$link": TEXT}):
        with pytest.raises(InvalidEncodingError):
            record_from_json(obj)


def nest(levels: int) -> Any:
    obj: Any = 0
    for level in range(levels):
        obj = [obj] if level % 2 else {"a": obj}
    return obj


def test_from_json_limits_depth_and_width() -> None:
    assert from_json(nest(32)) == nest(32)
    with pytest.raises(LimitExceededError):
        from_json(nest(33))
    assert from_json(nest(40), max_depth=40) == nest(40)
    # A link is a container only in its JSON form.
    assert from_json([{"$link": TEXT}], max_depth=1) == [Cid(LINK)]
    for obj in ([0] * 131_073, dict.fromkeys(map(str, range(131_073)))):
        with pytest.raises(LimitExceededError):
            from_json(obj)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "NaN", "Infinity", "[-Infinity]", "1e400", '{"a":1e999}'),
        *('{"a":1,"a":1}', '{"a":{"b":1,"c":2,"b":3}}', '{"a":1,"\\u0061":2}'),
        *('"\\ud800"', '"\\udc00\\ud800"', '{"\\ud800":1}', "\ud800"),
        *(b'"\xff"', b'"\xed\xa0\x80"', "\ufeff1"),
        *("9" * 5_000, "[" * 2_000 + "]" * 2_000, "[" * 100_000),
        *("01", "+1", ".5", "1.", "0x10", "nul"),
        *("'a'", '"a', '"\t"', '"\\x41"'),
        *("[1,]", '{"a":1,}', "{a:1}", "[1] [2]", "// 1\n1"),
    ],
)
def test_loads_refuses_other_text(text: str | bytes) -> None:
    with pytest.raises(InvalidEncodingError):
        loads(text)


def test_loads() -> None:
    text = ' {"a": [1, -2.5, true, null, "\\u0000\\ud83d\\ude00é"]} '
    expected = {"a": [1, -2.5, True, None, "\0😀é"]}
    assert loads(text) == expected
    assert loads(text.encode()) == expected
    assert loads("18446744073709551616") == 2**64


def test_loads_whole_as_int() -> None:
    assert type(loads("1.0")) is float
    assert loads("[1.0,1e3,-0.0,1.5]", whole_as_int=True) == [1, 1_000, 0, 1.5]
    assert type(loads("1e3", whole_as_int=True)) is int
    assert type(loads("1e300", whole_as_int=True)) is float


def test_loads_limits_size_and_depth() -> None:
    assert loads("[" * 128 + "]" * 128)
    for text in (
        "[" * 129 + "]" * 129,
        "[" * 1_020 + "]" * 1_020,
        '{"a":' * 129 + "1" + "}" * 129,
    ):
        with pytest.raises(LimitExceededError):
            loads(text)
    assert loads("[[]]", max_depth=2) == [[]]
    with pytest.raises(LimitExceededError):
        loads("[[]]", max_depth=1)
    assert loads('"aa"', max_bytes=4) == "aa"
    # The bound counts bytes, also of a str.
    for text in ('"aaa"', '"éa"'):
        with pytest.raises(LimitExceededError):
            loads(text, max_bytes=4)
        with pytest.raises(LimitExceededError):
            loads(text.encode(), max_bytes=4)


def test_loads_limits_values_before_parsing() -> None:
    for text in (
        b"[" + b"1," * 50 + b"1]",
        b"[" * 60 + b"]" * 60,
        b"[" + b"{}," * 50 + b"{}]",
        b'{"a":"' + b"x" * 10 + b'","b":[' + b'"y",' * 50 + b'"y"]}',
    ):
        assert loads(text, max_items=110) is not None
        with pytest.raises(LimitExceededError):
            loads(text, max_items=50)
    # Strings do not count.
    for text in ('{"a":"' + "[,{" * 100 + '"}', '["\\"' + ',\\"' * 100 + '"]'):
        assert loads(text, max_items=10) is not None
    # An unclosed string of escaped quotes is scanned once.
    with pytest.raises((InvalidEncodingError, LimitExceededError)):
        loads(b'"' + b'\\"' * 500_000 + b"," * 100 + b"\\", max_items=10)
