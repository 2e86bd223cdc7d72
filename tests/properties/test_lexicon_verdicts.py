"""Our verdicts on records against those of another validator, lexrpc.

Records are drawn from the lexicons, then most are spoilt in one place. Strings come
from pools on which both validators agree. Known disagreements are not drawn; each is
shown once at the end:

- lexrpc accepts an `unknown` that is no object, and checks one that has a `$type`;
- it checks members of an open union by their type, and accepts strings as unions;
- it refuses a string that the items of an array refer to by name;
- it checks of blobs only that they are objects, as our lenient mode does;
- its formats are wider in places, such as a datetime of "-00:00" or a language "en-a".
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.data.cid import Cid, cid_for, raw_cid_for
from protocol.errors import InvalidRecordError
from protocol.lexicon import Catalog
from protocol.lexicon.documents import Schema, resolve_ref

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lexrpc.base import Base, ValidationError
    from multiformats import CID

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
CID_TEXT = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"
LINK = Cid(cid_for(b"x"))

CATALOG = Catalog.load()
OTHER = Base(require_lexicons=True)

GOOD: Mapping[str, tuple[str, ...]] = {
    "at-identifier": (DID, "alice.example.com"),
    "at-uri": (f"at://{DID}/app.bsky.feed.post/3jzfcijpj2z2a", f"at://{DID}"),
    "cid": (CID_TEXT,),
    "datetime": ("2026-10-01T12:00:00.000Z", "1999-12-31T23:59:59+01:00"),
    "did": (DID, "did:web:example.com"),
    "handle": ("alice.example.com", "a.co"),
    "language": ("en", "pt-BR", "zh-Hant"),
    "nsid": ("app.bsky.feed.post", "com.example.fooBar"),
    "record-key": ("self", "3jzfcijpj2z2a", "a:b~c"),
    "tid": ("3jzfcijpj2z2a",),
    "uri": ("https://example.com/a?b#c", "did:web:example.com"),
}
BAD: Mapping[str, tuple[str, ...]] = {
    "at-identifier": ("", "alice", "did:web:", "a..b"),
    "at-uri": ("", "at://", "https://example.com", f"at://{DID}/post/1"),
    "cid": ("", "short", "not a cid at all", CID_TEXT + "!"),
    "datetime": ("", "2026-10-01", "2026-13-01T12:00:00Z", "2026-10-01T12:00:00"),
    "did": ("", "did:web", "plc:abc", "did:web:a:"),
    "handle": ("", "alice", "-a.com", "a..com", DID),
    "language": ("", "e", "en_US", "12"),
    "nsid": ("", "post", "app.bsky", "app.bsky.feed.po$t"),
    "record-key": ("", ".", "..", "a/b", "é"),
    "tid": ("", "3jzf", "kjzfcijpj2z2a", "3jzfcijpj2z21"),
    "uri": ("", "example.com", "http:", "a b:c"),
}
ANYTHING: tuple[Any, ...] = (None, True, 0, -1, 7, "", "x", b"", [], [1], {}, LINK)
DEPTH = 6


class Drawer:
    """Draws values of schemas; spoils at most one place."""

    def __init__(self, rng: random.Random, *, spoil: float) -> None:
        self._rng = rng
        self._spoil = spoil

    def record(self, nsid: str) -> Any:
        value = self.value(nsid, 0)
        value["$type"] = nsid
        return value

    def value(self, name: str, depth: int) -> Any:
        schema = CATALOG.find_schema(name)
        assert schema is not None
        if schema["type"] == "token":
            return name
        if schema["type"] == "record":
            schema = schema["record"]
        return self._schema(schema, name.partition("#")[0], depth)

    def _schema(self, schema: Schema, nsid: str, depth: int) -> Any:
        kind = schema["type"]
        rng = self._rng
        if kind == "object":
            return self._object(schema, nsid, depth)
        if kind == "ref":
            return self.value(resolve_ref(schema["ref"], nsid), depth)
        if self._spoils() and kind not in ("unknown", "blob", "union"):
            return rng.choice(ANYTHING)
        if kind == "union":
            name = resolve_ref(rng.choice(schema["refs"]), nsid)
            value = self.value(name, depth + 1)
            if isinstance(value, dict):
                value["$type"] = name
                if self._spoils():
                    value["$type"] = rng.choice(("", None))
            return value
        if kind == "array":
            return self._array(schema, nsid, depth)
        if kind == "string":
            return self._string(schema)
        if kind == "integer":
            least, most = schema.get("minimum", -5), schema.get("maximum", 5)
            choices = [least, most]
            if self._spoils():
                choices = [least - 1, most + 1]
            return rng.choice(schema.get("enum", choices))
        if kind == "boolean":
            return schema.get("const", rng.random() < 0.5)
        if kind == "bytes":
            return rng.randbytes(schema.get("maxLength", 3) + self._spoils())
        if kind == "cid-link":
            return LINK
        if kind == "blob":
            ref = Cid(raw_cid_for(b"x"))
            return {"$type": "blob", "ref": ref, "mimeType": "image/png", "size": 7}
        assert kind == "unknown", kind
        return {"a": 1}

    def _object(self, schema: Schema, nsid: str, depth: int) -> dict[str, Any]:
        value = {}
        required = schema.get("required", ())
        for key, field in schema.get("properties", {}).items():
            wanted = key in required
            if wanted and self._spoils():
                continue
            if wanted or (depth < DEPTH and self._rng.random() < 0.5):
                value[key] = self._schema(field, nsid, depth + 1)
        for key in schema.get("nullable", ()):
            if self._rng.random() < 0.3:
                value[key] = None
        if self._rng.random() < 0.1:
            value["neverHeardOf"] = self._rng.choice(ANYTHING)
        return value

    def _array(self, schema: Schema, nsid: str, depth: int) -> list[Any]:
        least = schema.get("minLength", 0)
        most = schema.get("maxLength", least + 2)
        if _refers_to_string(schema["items"], nsid):
            return []
        count = self._rng.randint(least, min(most, least + 2))
        if self._spoils():
            count = self._rng.choice((max(0, least - 1), min(most, 150) + 1))
        return [self._schema(schema["items"], nsid, depth + 1) for _ in range(count)]

    def _string(self, schema: Schema) -> str:
        rng = self._rng
        if "enum" in schema:
            return rng.choice((*schema["enum"], *(("?",) if self._spoils() else ())))
        name = schema.get("format")
        if name is not None:
            return rng.choice(BAD[name] if self._spoils() else GOOD[name])
        if "const" in schema:
            return str(schema["const"])
        most = min(schema.get("maxLength", 12), schema.get("maxGraphemes", 12), 4_000)
        letter = rng.choice("aé日")
        if self._spoils():
            return letter * (schema.get("maxGraphemes", schema.get("maxLength", 9)) + 1)
        least = max(schema.get("minLength", 0), schema.get("minGraphemes", 0))
        return letter * max(least, min(most, 5) // len(letter.encode()), 1)

    def _spoils(self) -> bool:
        if self._rng.random() >= self._spoil:
            return False
        self._spoil = 0.0
        return True


def _refers_to_string(schema: Schema, nsid: str) -> bool:
    if schema["type"] != "ref":
        return False
    target = CATALOG.find_schema(resolve_ref(schema["ref"], nsid))
    return target is not None and target["type"] == "string"


def for_lexrpc(value: Any) -> Any:
    if isinstance(value, Cid):
        return CID.decode(value.raw)
    if isinstance(value, dict):
        return {key: for_lexrpc(item) for key, item in value.items()}
    if isinstance(value, list):
        return [for_lexrpc(item) for item in value]
    return value


def we_accept(nsid: str, value: Any) -> bool:
    try:
        CATALOG.validate_record(nsid, value, lenient=True)
    except InvalidRecordError:
        return False
    return True


def lexrpc_accepts(nsid: str, value: Any) -> bool:
    try:
        OTHER.validate(nsid, "record", for_lexrpc(value))
    except ValidationError:
        return False
    except (AttributeError, TypeError, KeyError):
        # It stumbles over a value of the wrong type now and then.
        return False
    return True


RECORDS = [
    nsid
    for nsid in CATALOG.records()
    if nsid.startswith(("app.bsky.", "chat.bsky.", "com.atproto."))
]

seeds = st.integers(0, 2**32)


@given(st.sampled_from(RECORDS), seeds)
@settings(max_examples=500)
def test_valid_records_are_accepted_by_both(nsid: str, seed: int) -> None:
    value = Drawer(random.Random(seed), spoil=0).record(nsid)
    assert we_accept(nsid, value)
    assert lexrpc_accepts(nsid, value)


@given(st.sampled_from(RECORDS), seeds)
@settings(max_examples=1_000)
def test_validators_agree_on_spoilt_records(nsid: str, seed: int) -> None:
    value = Drawer(random.Random(seed), spoil=0.15).record(nsid)
    assert we_accept(nsid, value) == lexrpc_accepts(nsid, value)


def test_both_verdicts_are_met() -> None:
    rng = random.Random(7)
    verdicts = [
        we_accept(nsid, Drawer(rng, spoil=0.2).record(nsid))
        for _ in range(20)
        for nsid in RECORDS
    ]
    assert 0.1 < sum(verdicts) / len(verdicts) < 0.9


def labeler(**fields: Any) -> dict[str, Any]:
    return {
        "$type": "app.bsky.labeler.service",
        "policies": {"labelValues": []},
        "createdAt": "2026-10-01T12:00:00Z",
        **fields,
    }


def post(**fields: Any) -> dict[str, Any]:
    return {
        "$type": "app.bsky.feed.post",
        "text": "x",
        "createdAt": "2026-10-01T12:00:00Z",
        **fields,
    }


def link_to(uri: str) -> list[dict[str, Any]]:
    feature = {"$type": "app.bsky.richtext.facet#link", "uri": uri}
    return [{"index": {"byteStart": 0, "byteEnd": 1}, "features": [feature]}]


@pytest.mark.parametrize(
    ("value", "ours", "theirs"),
    [
        (post(createdAt="2026-10-01T12:00:00-00:00"), False, True),
        (post(langs=["en-a"]), False, True),
        (post(facets=link_to("https://example.com/é")), False, True),
        (post(embed={"$type": "app.bsky.feed.post"}), True, False),
        (labeler(reasonTypes=["com.example.defs#rude"]), True, False),
    ],
)
def test_known_disagreements(value: Any, ours: bool, theirs: bool) -> None:
    assert we_accept(value["$type"], value) is ours
    assert lexrpc_accepts(value["$type"], value) is theirs
