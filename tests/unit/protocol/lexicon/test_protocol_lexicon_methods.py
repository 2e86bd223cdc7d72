"""Methods: parameters from text, and bodies in JSON form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protocol.errors import InvalidRecordError
from protocol.lexicon import Catalog, Method
from protocol.lexicon.methods import MethodError

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
TIMELINE = "app.bsky.feed.getTimeline"
POSTS = "app.bsky.feed.getPosts"
PROFILE = "app.bsky.actor.getProfile"
URI = f"at://{DID}/app.bsky.feed.post/3jzfcijpj2z2a"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def find(catalog: Catalog, nsid: str) -> Method:
    method = catalog.method(nsid)
    assert method is not None
    return method


def make(**parts: Any) -> Method:
    catalog = Catalog()
    main = {"type": "procedure", **parts}
    raw = {"lexicon": 1, "id": "a.b.c", "defs": {"main": main}}
    catalog.add(json.dumps(raw).encode())
    return find(catalog, "a.b.c")


def make_params(required: list[str] | None = None, **properties: Any) -> Method:
    return make(
        parameters={
            "type": "params",
            "required": required or [],
            "properties": properties,
        }
    )


def test_catalog_describes_methods(catalog: Catalog) -> None:
    timeline = find(catalog, TIMELINE)
    assert timeline.kind == "query"
    assert timeline.nsid == TIMELINE
    assert timeline.input is None
    assert timeline.output is not None
    assert timeline.output.encoding == "application/json"
    assert timeline.output.schema is not None
    assert "timeline" in timeline.description
    assert timeline is catalog.method(TIMELINE)
    repo = find(catalog, "com.atproto.sync.getRepo")
    assert MethodError("RepoTakendown", "") in repo.errors
    assert repo.output is not None
    assert repo.output.encoding == "application/vnd.ipld.car"
    assert repo.output.check is None
    create = find(catalog, "com.atproto.repo.createRecord")
    assert create.kind == "procedure"
    stream = find(catalog, "com.atproto.sync.subscribeRepos")
    assert stream.kind == "subscription"
    assert stream.message is not None
    assert stream.decode_params([("cursor", "7")]) == {"cursor": 7}


@pytest.mark.parametrize(
    ("nsid", "name"),
    [
        ("com.atproto.sync.subscribeRepos", "cursor"),
        ("com.atproto.repo.listRecords", "cursor"),
        ("com.atproto.sync.getRepo", "since"),
        ("app.bsky.feed.searchPosts", "since"),
        ("app.bsky.feed.searchPosts", "until"),
    ],
)
def test_empty_position_parameter_counts_as_absent(
    catalog: Catalog, nsid: str, name: str
) -> None:
    method = find(catalog, nsid)
    needed = [("q", "x"), ("did", "did:web:example.com"), ("repo", "example.com")]
    needed += [("collection", "app.bsky.feed.post")]
    given = method.decode_params([*needed, (name, "")])
    assert given == method.decode_params(needed)
    assert name not in given


def test_catalog_returns_none_for_other_names(catalog: Catalog) -> None:
    for nsid in ("app.bsky.feed.post", "app.bsky.feed.defs", "x.y.z", ""):
        assert catalog.method(nsid) is None
    methods = catalog.methods()
    assert methods == sorted(methods)
    assert "com.atproto.sync.getRepo" in methods
    assert "app.bsky.feed.post" not in methods


def test_decode_params_fills_in_defaults(catalog: Catalog) -> None:
    timeline = find(catalog, TIMELINE)
    assert timeline.decode_params([]) == {"limit": 50}
    assert timeline.decode_params(
        [("limit", "100"), ("cursor", ""), ("utm_source", "x"), ("utm_source", "y")]
    ) == {"limit": 100}
    posts = find(catalog, POSTS)
    assert posts.decode_params([("uris", URI)]) == {"uris": [URI]}
    assert posts.decode_params([("uris", URI), ("uris", URI)]) == {"uris": [URI, URI]}
    assert (
        find(catalog, "com.atproto.server.describeServer").decode_params([("x", "1")])
        == {}
    )


@pytest.mark.parametrize(
    ("nsid", "pairs", "path", "reason"),
    [
        *(
            (TIMELINE, [("limit", text)], "limit", "is not an integer")
            for text in ("x", "", "1.0", "１", "+1", "1\n", "9" * 5_000)
        ),
        (TIMELINE, [("limit", "0")], "limit", "is below 1"),
        (TIMELINE, [("limit", "101")], "limit", "is above 100"),
        (TIMELINE, [("limit", "1"), ("limit", "2")], "limit", "is repeated"),
        (POSTS, [], "uris", "is missing"),
        (POSTS, [("uris", "x")], "uris[0]", "is not a valid at-uri"),
        (POSTS, [("uris", URI)] * 26, "uris", "has more than 25 items"),
        (PROFILE, [("actor", "x")], "actor", "is not a valid at-identifier"),
    ],
)
def test_decode_params_refuses_invalid_values(
    catalog: Catalog, nsid: str, pairs: list[tuple[str, str]], path: str, reason: str
) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        find(catalog, nsid).decode_params(pairs)
    assert (caught.value.path, caught.value.reason) == (path, reason)


def test_decode_params_of_every_type() -> None:
    method = make_params(
        ["s"],
        s={"type": "string", "maxLength": 3},
        b={"type": "boolean", "default": False},
        ints={"type": "array", "items": {"type": "integer", "maximum": 9}},
        flags={"type": "array", "items": {"type": "boolean"}, "maxLength": 2},
        words={"type": "array", "items": {"type": "string"}},
    )
    assert method.decode_params([("s", "é")]) == {"s": "é", "b": False}
    pairs = [("ints", "1"), ("s", "abc"), ("ints", "-2"), ("b", "true")]
    pairs += [("flags", "true"), ("flags", "false"), ("words", "")]
    values = {"s": "abc", "b": True, "ints": [1, -2], "flags": [True, False]}
    assert method.decode_params(pairs) == values | {"words": [""]}
    for wrong, path in (
        ([], "s"),
        ([("s", "abcd")], "s"),
        ([("s", "a"), ("b", "yes")], "b"),
        ([("s", "a"), ("b", "")], "b"),
        ([("s", "a"), ("b", "True")], "b"),
        ([("s", "a"), ("ints", "1"), ("ints", "10")], "ints[1]"),
        ([("s", "a"), ("ints", "x")], "ints"),
        ([("s", "a")] + [("flags", "true")] * 3, "flags"),
    ):
        with pytest.raises(InvalidRecordError) as caught:
            method.decode_params(wrong)
        assert caught.value.path == path


def test_check_input(catalog: Catalog) -> None:
    method = find(catalog, "com.atproto.repo.createRecord")
    body = {"repo": DID, "collection": "app.bsky.feed.post", "record": {"a": 1}}
    method.check_input(body)
    for wrong, path in (
        (None, ""),
        ([], ""),
        ({**body, "repo": "x"}, "repo"),
        ({**body, "record": "x"}, "record"),
        ({**body, "record": None}, "record"),
        ({**body, "validate": 1}, "validate"),
        ({key: body[key] for key in ("repo", "record")}, "collection"),
        ({**body, "rkey": "a/b"}, "rkey"),
        ({**body, "record": {"a": 1.5}}, ""),
        ({**body, "record": {"a": {"$link": "x"}}}, ""),
    ):
        with pytest.raises(InvalidRecordError) as caught:
            method.check_input(wrong)
        assert caught.value.path == path


def test_check_of_absent_or_other_bodies(catalog: Catalog) -> None:
    upload = find(catalog, "com.atproto.repo.uploadBlob")
    upload.check_input(None)
    upload.check_input(b"bytes")
    describe = find(catalog, "com.atproto.server.describeServer")
    describe.check_input(None)
    with pytest.raises(InvalidRecordError):
        describe.check_input({})
    delete = find(catalog, "com.atproto.server.deleteSession")
    delete.check_output(None)
    with pytest.raises(InvalidRecordError):
        delete.check_output({})


def test_check_output(catalog: Catalog) -> None:
    method = find(catalog, "com.atproto.repo.getRecord")
    method.check_output({"uri": URI, "value": {"$type": "a.b.c"}})
    for wrong in (None, {"uri": URI}, {"uri": "x", "value": {}}):
        with pytest.raises(InvalidRecordError):
            method.check_output(wrong)


def thread(levels: int) -> dict[str, Any]:
    view: dict[str, Any] = {
        "$type": "app.bsky.feed.defs#notFoundPost",
        "uri": URI,
        "notFound": True,
    }
    post = {
        "uri": URI,
        "cid": "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq",
        "author": {"did": DID, "handle": "alice.test"},
        "record": {"text": "x"},
        "indexedAt": "2026-10-01T12:00:00.000Z",
    }
    for _ in range(levels):
        view = {
            "$type": "app.bsky.feed.defs#threadViewPost",
            "post": post,
            "replies": [view],
        }
    return {"thread": view}


def test_check_output_of_deep_threads(catalog: Catalog) -> None:
    method = find(catalog, "app.bsky.feed.getPostThread")
    method.check_output(thread(75))
    wrong = thread(75)
    view = wrong["thread"]
    for _ in range(74):
        view = view["replies"][0]
    view["post"] = {**view["post"], "uri": "x"}
    with pytest.raises(InvalidRecordError) as caught:
        method.check_output(wrong)
    assert caught.value.path == "thread" + ".replies[0]" * 74 + ".post.uri"
    with pytest.raises(InvalidRecordError, match="nested too deep"):
        method.check_output(thread(400))
