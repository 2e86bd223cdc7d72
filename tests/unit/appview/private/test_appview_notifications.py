"""Notifications: their reasons, what hides them, settings, markers and pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import World, did

from appview.app_bsky.notification import get_unread_count

NS = "app.bsky.notification."
GRAPH = "app.bsky.graph."
VERA = did("vera")
CID = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"


def mention(name: str) -> dict[str, Any]:
    feature = {"$type": "app.bsky.richtext.facet#mention", "did": did(name)}
    return {
        "facets": [
            {"index": {"byteStart": 0, "byteEnd": 1}, "features": [feature, feature]}
        ]
    }


def via(world: World, uri: str, repost: str) -> dict[str, Any]:
    return {"subject": world.reference(uri), "via": world.reference(repost)}


def fill(world: World) -> dict[str, str]:
    uris = {"root": world.post("vera", "root of vera")}
    uris["like"] = world.like("ada", uris["root"])
    world.like("ada", uris["root"])  # the second of one account
    world.like("vera", uris["root"])
    uris["repost"] = world.repost("ben", uris["root"])
    uris["follow"] = world.follow("cid", "vera")
    uris["mention"] = world.post("ada", "v", **mention("vera"))
    uris["quote"] = world.quote("ben", uris["root"])
    uris["reply"] = world.reply("ada", uris["root"])
    uris["both"] = world.post(
        "cid",
        "v",
        reply={
            "root": world.reference(uris["root"]),
            "parent": world.reference(uris["root"]),
        },
        **mention("vera"),
    )
    above = uris["reply"]
    for number, name in enumerate(("ben", "ada", "cid", "dot"), 2):
        above = world.reply(name, above, uris["root"], f"level {number}")
        uris[f"level {number}"] = above
    uris["others"] = world.post("ben", "of ben")
    uris["reposted"] = world.repost("vera", uris["others"])
    for name, kind in (("ada", "like"), ("cid", "repost"), ("ben", "like")):
        uris[f"{kind} via of {name}"] = world.write(
            name,
            f"app.bsky.feed.{kind}",
            via(world, uris["others"], uris["reposted"]),
        )
    uris["list"] = world.write(
        "vera",
        "app.bsky.graph.list",
        {"name": "l", "purpose": "app.bsky.graph.defs#referencelist"},
    )
    uris["pack"] = world.write(
        "vera", "app.bsky.graph.starterpack", {"name": "p", "list": uris["list"]}
    )
    uris["joined"] = world.write(
        "dot",
        "app.bsky.actor.profile",
        {"displayName": "dot", "joinedViaStarterPack": world.reference(uris["pack"])},
        "self",
    )
    uris["packed follow"] = world.write(
        "dot",
        "app.bsky.graph.follow",
        {"subject": VERA, "via": world.reference(uris["pack"])},
    )
    uris["verified"] = world.write(
        "ada",
        "app.bsky.graph.verification",
        {"subject": VERA, "handle": "vera.test", "displayName": "v"},
    )
    uris["gone"] = world.like("left", uris["root"])
    lost = {"uri": f"at://{VERA}/app.bsky.feed.post/3kabcdefghi2a", "cid": CID}
    uris["lost"] = world.write("ada", "app.bsky.feed.like", {"subject": lost})
    world.follow("vera", "ada")
    return uris


@pytest.fixture(scope="module")
def served(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, statuses={"left": "deactivated"}) as provider:
        yield provider
    databases.drop(url)


@pytest.fixture
def provider(served: Provider) -> Iterator[Provider]:
    yield served
    with psycopg.connect(served.database) as conn:
        conn.execute("DELETE FROM private_item")


EXPECTED = {
    ("like", "like", "root"),
    ("repost", "repost", "root"),
    ("follow", "follow", None),
    ("mention", "mention", None),
    ("mention", "both", None),
    ("quote", "quote", "root"),
    ("reply", "reply", "root"),
    ("reply", "level 2", "root"),
    ("reply", "level 3", "root"),
    ("reply", "level 4", "root"),
    ("like-via-repost", "like via of ada", "reposted"),
    ("repost-via-repost", "repost via of cid", "reposted"),
    ("starterpack-joined", "joined", "pack"),
    ("follow", "packed follow", None),
    ("verified", "verified", None),
}


def listed(
    provider: Provider, viewer: str = "vera", limit: int = 2, **params: Any
) -> set[tuple[str, str, str | None]]:
    """Return (reason, record, subject) of every notification; fail if one is twice."""
    found = provider.pages(
        f"{NS}listNotifications", "notifications", viewer=viewer, limit=limit, **params
    )
    names = {uri: name for name, uri in provider.uris.items()}
    rows = Counter(
        (n["reason"], names.get(n["uri"], ""), names.get(n.get("reasonSubject")))
        for n in found
    )
    assert not rows or max(rows.values()) == 1, rows
    times = [n["indexedAt"] for n in found]
    assert times == sorted(times, reverse=True)
    return {*rows}


def unread(provider: Provider, viewer: str = "vera") -> int:
    found: int = provider.get(f"{NS}getUnreadCount", viewer=viewer)["count"]
    return found


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_every_reason_is_listed_once(provider: Provider, limit: int) -> None:
    assert listed(provider, limit=limit) == EXPECTED
    assert unread(provider) == len(EXPECTED)


def test_others_get_their_own(provider: Provider) -> None:
    found = listed(provider, "ada")
    # Ada wrote the reply at level one; her own answers at level three are left out.
    replies = {row for row in found if row[0] == "reply"}
    assert replies == {
        ("reply", "level 2", "reply"),
        ("reply", "level 4", "level 3"),
        ("reply", "level 5", "level 3"),
    }
    assert listed(provider, "nobody") == set()
    assert unread(provider, "nobody") == 0


def test_views_have_records_and_starter_packs(provider: Provider) -> None:
    found = provider.get(f"{NS}listNotifications", viewer="vera", limit=100)
    by_uri = {n["uri"]: n for n in found["notifications"]}
    packed = by_uri[provider.uris["packed follow"]]
    assert packed["starterPack"]["uri"] == provider.uris["pack"]
    assert "starterPack" not in by_uri[provider.uris["follow"]]
    assert by_uri[provider.uris["reply"]]["record"]["text"] == "ada replies"
    assert by_uri[provider.uris["joined"]]["author"]["displayName"] == "dot"
    assert found["priority"] is False


@pytest.mark.parametrize(
    "reasons", [["like"], ["reply", "quote"], ["mention"], ["contact-match"], ["x"]]
)
def test_reasons_are_filtered(provider: Provider, reasons: list[str]) -> None:
    wanted = {row for row in EXPECTED if row[0] in reasons}
    assert listed(provider, reasons=reasons) == wanted


def test_priority_is_of_followed_accounts(provider: Provider) -> None:
    by_ada = {row for row in EXPECTED if row[1] in ADAS}
    assert listed(provider, priority="true") == by_ada
    provider.post(f"{NS}putPreferences", {"priority": True}, viewer="vera")
    assert listed(provider) == by_ada
    assert unread(provider) == len(by_ada)
    assert listed(provider, priority="false") == EXPECTED


ADAS = {"like", "mention", "reply", "level 3", "like via of ada", "verified"}


def test_preferences_choose_kinds_and_accounts(provider: Provider) -> None:
    before = provider.get(f"{NS}getPreferences", viewer="vera")["preferences"]
    assert before["like"] == {"include": "all", "list": True, "push": True}
    off = {"include": "all", "list": False, "push": True}
    follows = {"include": "follows", "list": True, "push": True}
    body = {"mention": off, "reply": follows, "verified": {"list": False, "push": True}}
    provider.post(f"{NS}putPreferencesV2", body, viewer="vera")
    after = provider.get(f"{NS}getPreferences", viewer="vera")["preferences"]
    assert after == before | body
    expected = {
        row
        for row in EXPECTED
        if row[0] not in ("mention", "verified")
        and (row[0] != "reply" or row[1] in ADAS)
    }
    assert listed(provider) == expected
    assert unread(provider) == len(expected)


def test_marker_moves_forward_only(provider: Provider) -> None:
    first = provider.get(f"{NS}listNotifications", viewer="vera", limit=100)
    times = [n["indexedAt"] for n in first["notifications"]]
    assert [n["isRead"] for n in first["notifications"]] == [False] + [True] * 14
    assert first["seenAt"] == times[0]
    for seen in (times[4], times[9]):
        provider.post(f"{NS}updateSeen", {"seenAt": seen}, viewer="vera")
        found = provider.get(f"{NS}listNotifications", viewer="vera", limit=100)
        assert found["seenAt"] == times[4]
        read = [n["isRead"] for n in found["notifications"]]
        assert read == [False] * 5 + [True] * 10
        assert unread(provider) == 4
    for seen in ("2148-01-01T00:00:00Z", "1066-10-14T00:00:00Z"):
        provider.post(f"{NS}updateSeen", {"seenAt": seen}, viewer="vera")
    assert unread(provider) == 0
    found = provider.get(f"{NS}listNotifications", viewer="vera")
    assert found["seenAt"] <= datetime.now(UTC).isoformat()


def test_muted_and_blocked_accounts_are_left_out(provider: Provider) -> None:
    body = {"actor": did("ben")}
    provider.post(f"{GRAPH}muteActor", body, viewer="vera")
    bens = {"repost", "quote", "level 2"}
    expected = {row for row in EXPECTED if row[1] not in bens}
    assert listed(provider) == expected
    assert unread(provider) == len(expected)
    provider.post(f"{GRAPH}muteActor", body | {"onlyReposts": True}, viewer="vera")
    assert listed(provider) == EXPECTED


def test_muted_thread_is_left_out(provider: Provider) -> None:
    body = {"root": provider.uris["root"]}
    provider.post(f"{GRAPH}muteThread", body, viewer="vera")
    # A mention is of no post of the thread's owner.
    expected = {row for row in EXPECTED if row[2] != "root"}
    assert listed(provider) == expected
    provider.post(f"{GRAPH}muteThread", body, viewer="ada")
    assert {row for row in listed(provider, "ada") if row[0] == "reply"} == set()


def subscribe(provider: Provider, name: str, **asked: bool) -> None:
    body = {"subject": did(name), "activitySubscription": asked}
    provider.post(f"{NS}putActivitySubscription", body, viewer="vera")
    with psycopg.connect(provider.database) as conn:
        conn.execute("UPDATE private_item SET at = '2026-10-01' WHERE kind = 10")


def test_subscribed_posts_are_listed_while_allowed(provider: Provider) -> None:
    subscribe(provider, "ada", post=True, reply=False)
    # Her mention of vera stays a mention.
    assert listed(provider) == EXPECTED
    subscribe(provider, "ada", post=True, reply=True)
    assert listed(provider) == EXPECTED
    subscribe(provider, "ben", post=True, reply=False)
    assert listed(provider) == EXPECTED  # vera does not follow ben
    [ben, ada] = provider.pages(
        f"{NS}listActivitySubscriptions", "subscriptions", viewer="vera", limit=1
    )
    assert {ben["did"], ada["did"]} == {did("ben"), did("ada")}
    held = [p["viewer"].get("activitySubscription") for p in (ben, ada)]
    assert {"post": True, "reply": True} in held
    assert None in held
    subscribe(provider, "ben", post=False, reply=False)
    subscribe(provider, "ben", post=False, reply=False)
    [left] = provider.get(f"{NS}listActivitySubscriptions", viewer="vera")[
        "subscriptions"
    ]
    assert left["did"] == did("ada")
    with pytest.raises(RefusedError, match="own activity"):
        subscribe(provider, "vera", post=True, reply=True)


def test_subscription_starts_with_itself(provider: Provider) -> None:
    body = {
        "subject": did("ada"),
        "activitySubscription": {"post": True, "reply": True},
    }
    provider.post(f"{NS}putActivitySubscription", body, viewer="vera")
    assert listed(provider, reasons="subscribed-post") == set()


def test_count_is_bounded(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_unread_count, "MAX_UNREAD", 2)
    assert unread(provider) == 2


def test_seen_at_parameter_is_refused(provider: Provider) -> None:
    for method in ("listNotifications", "getUnreadCount"):
        with pytest.raises(RefusedError, match="unsupported"):
            provider.get(NS + method, viewer="vera", seenAt="2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("listNotifications", None),
        ("getUnreadCount", None),
        ("getPreferences", None),
        ("listActivitySubscriptions", None),
        ("updateSeen", {"seenAt": "2026-01-01T00:00:00Z"}),
        ("putPreferences", {"priority": True}),
        ("putPreferencesV2", {}),
        (
            "putActivitySubscription",
            {
                "subject": VERA,
                "activitySubscription": {"post": True, "reply": True},
            },
        ),
    ],
)
def test_notifications_need_an_account(
    provider: Provider, method: str, body: Any
) -> None:
    with pytest.raises(RefusedError) as refused:
        call(provider, method, body)
    assert (refused.value.status, refused.value.name) == (401, "AuthMissing")


def call(provider: Provider, method: str, body: Any) -> None:
    if body is None:
        provider.get(NS + method)
    else:
        provider.post(NS + method, body)
