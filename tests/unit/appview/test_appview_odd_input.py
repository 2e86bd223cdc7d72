"""Malformed input to every method: a named error, never a crash."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from appview_world import Provider, serve_world
from small_world import SERVICE, did

from protocol.lexicon import Catalog, Method

CATALOG = Catalog.load()
ALICE = did("alice")
POST = f"at://{ALICE}/app.bsky.feed.post/3kaaaaaaaaa22"

# Refused in any parameter, already escaped.
UNREADABLE = ("a%00b", "%00", "%ff", "%ed%a0%80", "a" * 20_000, "%E9" * 3)
# Odd, and perhaps valid: anything but a crash.
ODD_TEXTS = (
    "",
    " ",
    "%00",
    "\u0001",
    "\ufffe\uffff",
    "\U0010ffff",
    "e\u0301\u200d\u200f",
    "'\";--",
    "\\",
    "%",
    "((((((",
    '"""""',
    "-" * 200,
    "a " * 2_000,
    "x" * 9_999,
    "from: to: since: lang: #",
    "-from:alice.test -#tag -lang:en",
    "since:0000-00-00 until:9999-99-99",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "2026-11-30T00:00:00+99:99",
    "\u0130\u0131\u1e9e\ufb03",
)
ODD_NAMES = (
    "alice.test.",
    "ALICE.TEST",
    "b\u00fccher.example",
    "xn--bcher-kva.example",
    "@alice.test",
    "a" * 250 + ".com",
    "handle.invalid",
    "did:web:localhost%253A1",
    "did:web:localhost%3A1",
    "did:plc:" + "a" * 2_000,
    "did:plc:%00",
    "DID:PLC:x",
    "did:x:y",
)
ODD_URIS = (
    "at://alice.test/app.bsky.feed.post/3kaaaaaaaaa22",
    f"at://{ALICE}",
    f"at://{ALICE}/app.bsky.feed.post",
    f"at://{ALICE}/space/app.bsky.feed.post/1",
    f"at://{ALICE}/app.bsky.feed.post/..",
    f"at://{ALICE}/app.bsky.feed.post/" + "k" * 512,
    f"at://{ALICE}/app.bsky.feed.post/zzzzzzzzzzzzz",
    f"at://{ALICE}/app.bsky.feed.post/2222222222222",
    f"at://{ALICE}/{'a' * 60}.{'b' * 60}.{'c' * 60}/1",
    f"at://{ALICE}/app.bsky.feed.post/3kaaaaaaaaa22#fragment",
    f"AT://{ALICE}/app.bsky.feed.post/3kaaaaaaaaa22",
    "at://did:web:localhost%253A1/app.bsky.feed.post/1",
    f"at://{SERVICE}/app.bsky.feed.generator/none",
)
ODD_NUMBERS = ("0", "-1", "101", "9223372036854775807", "-9223372036854775808", "1.5")
ODD_KEYS = ("..", ".", "self", "2222222222222", "k" * 512, "k" * 513, "a:b~c_d-e.f")

GOOD: dict[str | None, Any] = {
    "at-identifier": ALICE,
    "did": ALICE,
    "handle": "alice.test",
    "at-uri": POST,
    "nsid": "app.bsky.feed.post",
    "record-key": "self",
    "uri": "https://example.com/",
    "cid": "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm",
    "integer": "1",
    "boolean": "true",
    None: "x",
}


def fields_of(method: Method) -> dict[str, Any]:
    return dict((method.params or {}).get("properties", {}))


def good_value(schema: dict[str, Any]) -> str:
    inner = schema.get("items", schema)
    if inner["type"] != "string":
        return str(GOOD[inner["type"]])
    known = inner.get("knownValues") or inner.get("enum")
    return str(known[0] if known else GOOD[inner.get("format")])


def good_query(method: Method) -> dict[str, str]:
    fields = fields_of(method)
    return {
        name: good_value(fields[name])
        for name in (method.params or {}).get("required", ())
    }


def call(url: str, headers: Mapping[str, str] = {}) -> tuple[int, Any]:
    """Return the status and the JSON or bytes; fail on a crash of the server."""
    request = urllib.request.Request(url, headers={"x-viewer": ALICE, **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def queries(provider: Provider) -> list[tuple[str, Method]]:
    """Return the queries that the provider serves."""
    with urllib.request.urlopen(f"{provider.url}/openapi.json") as answer:
        paths = json.load(answer)["paths"]
    nsids = [path.removeprefix("/xrpc/") for path in paths]
    methods = [(nsid, CATALOG.method(nsid)) for nsid in nsids]
    found = [(n, m) for n, m in methods if m is not None and m.kind == "query"]
    assert len(found) > 20
    return found


def odd_queries(method: Method) -> Iterator[tuple[str, str, str]]:
    """Yield parameter, oddity and query string, one odd parameter at a time."""
    for name, schema in fields_of(method).items():
        rest = urlencode({k: v for k, v in good_query(method).items() if k != name})
        for text in odd_values(schema):
            yield name, text, f"{rest}&{name}={quote(text, safe='')}"


def odd_values(schema: dict[str, Any]) -> tuple[str, ...]:
    inner = schema.get("items", schema)
    if inner["type"] != "string":
        return ODD_NUMBERS
    format_ = inner.get("format")
    if format_ in ("at-identifier", "did", "handle"):
        return ODD_NAMES
    return {"at-uri": ODD_URIS, "record-key": ODD_KEYS}.get(format_, ODD_TEXTS)


def test_unreadable_parameter_is_named(
    provider: Provider, queries: list[tuple[str, Method]]
) -> None:
    for nsid, method in queries:
        for name in fields_of(method):
            rest = {k: v for k, v in good_query(method).items() if k != name}
            for odd in UNREADABLE:
                query = f"{urlencode(rest)}&{name}={odd}"
                status, body = call(f"{provider.url}/xrpc/{nsid}?{query}")
                assert (status, body["error"]) == (400, "InvalidRequest"), (nsid, odd)
                assert name in body["message"]


def test_odd_parameter_does_not_crash(
    provider: Provider, queries: list[tuple[str, Method]]
) -> None:
    wrong = []
    for nsid, method in queries:
        for name, odd, query in odd_queries(method):
            status, body = call(f"{provider.url}/xrpc/{nsid}?{query}")
            if status not in (200, 400, 401, 404):
                wrong.append((nsid, name, odd[:60], status, body))
    assert wrong == []


@pytest.mark.parametrize(
    "value", ["x", "did:plc:x;redact", "a" * 9_000, "did:web:%00", ";;;", '"', "?1"]
)
def test_odd_labelers_do_not_crash(provider: Provider, value: str) -> None:
    headers = {"atproto-accept-labelers": value}
    url = f"{provider.url}/xrpc/app.bsky.actor.getProfile?actor={ALICE}"
    status, _ = call(url, headers=headers)
    assert status in (200, 400)


VIEWER = did("oddity")
"""An account that is in no repo."""
REFERENCE = {"uri": POST, "cid": GOOD["cid"]}
SHOWN = {"include": "all", "list": True, "push": True}
DEVICE = {
    "serviceDid": SERVICE,
    "token": "t",
    "platform": "web",
    "appId": "a",
}
ASSURANCE = {"email": "a@example.com", "language": "en", "countryCode": "DE"}
DRAFT: dict[str, Any] = {
    "posts": [{"text": "x"}],
    "langs": ["en"],
    "deviceId": "d",
    "deviceName": "n",
    "threadgateAllow": [],
}
BODIES: dict[str, Any] = {
    "app.bsky.actor.putPreferences": {
        "preferences": [
            {"$type": "app.bsky.actor.defs#adultContentPref", "enabled": True},
            {"$type": "app.bsky.actor.defs#interestsPref", "tags": ["x"]},
        ]
    },
    "app.bsky.ageassurance.begin": ASSURANCE,
    "app.bsky.bookmark.createBookmark": REFERENCE,
    "app.bsky.bookmark.deleteBookmark": {"uri": POST},
    "app.bsky.draft.createDraft": {"draft": DRAFT},
    "app.bsky.draft.deleteDraft": {"id": "3kaaaaaaaaa22"},
    "app.bsky.draft.updateDraft": {"draft": {"id": "3kaaaaaaaaa22", "draft": DRAFT}},
    "app.bsky.feed.sendInteractions": {
        "feed": f"at://{SERVICE}/app.bsky.feed.generator/for-you",
        "interactions": [
            {
                "item": POST,
                "event": "app.bsky.feed.defs#interactionSeen",
                "feedContext": "x",
                "reqId": "for-you.1",
            }
        ],
    },
    "app.bsky.graph.muteActor": {"actor": ALICE, "onlyReposts": True},
    "app.bsky.graph.muteActorList": {"list": f"at://{ALICE}/app.bsky.graph.list/x"},
    "app.bsky.graph.muteThread": {"root": POST},
    "app.bsky.graph.unmuteActor": {"actor": ALICE},
    "app.bsky.graph.unmuteActorList": {"list": f"at://{ALICE}/app.bsky.graph.list/x"},
    "app.bsky.graph.unmuteThread": {"root": POST},
    "app.bsky.notification.putActivitySubscription": {
        "subject": ALICE,
        "activitySubscription": {"post": True, "reply": True},
    },
    "app.bsky.notification.putPreferences": {"priority": True},
    "app.bsky.notification.putPreferencesV2": {"like": SHOWN},
    "app.bsky.notification.registerPush": DEVICE,
    "app.bsky.notification.unregisterPush": DEVICE,
    "app.bsky.notification.updateSeen": {"seenAt": "2026-12-01T00:00:00Z"},
    "app.bsky.unspecced.initAgeAssurance": ASSURANCE,
    "bigworld.account.deletePrivateData": None,
    "bigworld.feed.deleteRecipe": {"name": "quokkas"},
    "bigworld.feed.putRecipe": {"recipe": "name='q'\ntitle='Q'\nsource=[{tags='q'}]"},
    "bigworld.search.deleteSavedSearch": {"id": "1"},
    "bigworld.search.putSavedSearch": {
        **{"query": "quokka", "name": "x", "collections": ["app.bsky.feed.post"]},
    },
    "com.atproto.identity.refreshIdentity": {"identifier": ALICE},
    "com.atproto.moderation.createReport": {
        "reasonType": "com.atproto.moderation.defs#reasonSpam",
        "reason": "x",
        "subject": {"$type": "com.atproto.repo.strongRef", **REFERENCE},
    },
    "com.atproto.sync.requestCrawl": {"hostname": "pds.example.com"},
}
"""A good body of each procedure."""
ODD_STRINGS = (
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "\uffff\u202e",
    "नमस्ते ज़िन्दगी",
    "x" * 30_000,
    "1066-06-01T12:00:00Z",
    "2148-06-01T12:00:00.999999999Z",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "did:plc:nobody",
    f"at://{ALICE}/app.bsky.feed.post/:odd~key",
    f"at://{ALICE}/app.bsky.feed.post/{'k' * 512}",
    "at://alice.test/app.bsky.feed.post/1",
    "ref:x",
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    7,
    -1,
    2**63,
    2**64,
    1.5,
    [],
    {},
    [[]],
    {"$type": "a.b.c"},
    True,
)


def send(url: str, nsid: str, body: Any) -> tuple[int, Any]:
    """Return the status and the JSON of the reply of a procedure."""
    data = b"" if body is None else json.dumps(body).encode()
    headers = {"x-viewer": VIEWER}
    if body is not None:
        headers["content-type"] = "application/json"
    request = urllib.request.Request(f"{url}/xrpc/{nsid}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def odd_bodies(body: Any) -> Iterator[Any]:
    """Yield bodies with one odd value each, and without each part."""
    if isinstance(body, dict):
        for key, value in body.items():
            yield {k: v for k, v in body.items() if k != key}
            for odd in odd_bodies(value):
                yield {**body, key: odd}
        yield {**body, "\x00": "\x00"}
    elif isinstance(body, list):
        for odd in odd_bodies(body[0]) if body else ():
            yield [odd, *body[1:]]
        yield body * 3
        yield body * 2_000
    yield from ODD_STRINGS
    yield from ODD_VALUES


REFUSED = {"app.bsky.ageassurance.begin", "app.bsky.unspecced.initAgeAssurance"}
"""Procedures that a provider refuses by name."""
SCARCE = {"com.atproto.identity.refreshIdentity"}
"""Procedures with a few calls a minute for one subject."""


@pytest.fixture(scope="module")
def complete(databases: Any) -> Iterator[Provider]:
    """Serve a world of its own, with pushes."""
    url = databases.make("index")
    with serve_world(url, sends_pushes=True) as served:
        yield served
    databases.drop(url)


@pytest.fixture(scope="module")
def procedures(complete: Provider) -> list[str]:
    with urllib.request.urlopen(f"{complete.url}/openapi.json") as answer:
        paths = json.load(answer)["paths"]
    return [
        path.removeprefix("/xrpc/") for path, verbs in paths.items() if "post" in verbs
    ]


def test_every_procedure_has_a_body(procedures: list[str]) -> None:
    assert {*procedures} == BODIES.keys()


@pytest.mark.parametrize("nsid", BODIES)
def test_procedure_may_be_called_twice(complete: Provider, nsid: str) -> None:
    first, second = (send(complete.url, nsid, BODIES[nsid]) for _ in range(2))
    assert first[0] == second[0], (first, second)
    known = {200, 400, 501} if nsid in REFUSED else {200, 400}
    assert first[0] in known, first
    if first[0] == 400:
        assert first[1]["error"] not in ("InvalidRequest", "InternalServerError")


@pytest.mark.parametrize("nsid", BODIES)
def test_odd_body_does_not_crash(complete: Provider, nsid: str) -> None:
    wrong = []
    for body in odd_bodies(BODIES[nsid]):
        status, answer = send(complete.url, nsid, body)
        if status == 429 and nsid in SCARCE:
            continue
        if status not in ((400, 413, 501) if nsid in REFUSED else (200, 400, 413)):
            wrong.append((str(body)[:200], status, answer))
    assert wrong == []
    # Stored values can be read.
    for query, name in STORED:
        status, answer = call(f"{complete.url}/xrpc/{query}", {"x-viewer": VIEWER})
        assert status == 200, (query, answer)
        assert name in json.loads(answer)


STORED = (
    ("app.bsky.actor.getPreferences", "preferences"),
    ("app.bsky.bookmark.getBookmarks", "bookmarks"),
    ("app.bsky.draft.getDrafts", "drafts"),
    ("app.bsky.graph.getMutes", "mutes"),
    ("app.bsky.graph.getListMutes", "lists"),
    ("app.bsky.notification.getPreferences", "preferences"),
    ("app.bsky.notification.listActivitySubscriptions", "subscriptions"),
    ("app.bsky.notification.listNotifications", "notifications"),
    ("app.bsky.notification.getUnreadCount", "count"),
    ("app.bsky.feed.getTimeline", "feed"),
    ("bigworld.search.listSavedSearches", "searches"),
)
