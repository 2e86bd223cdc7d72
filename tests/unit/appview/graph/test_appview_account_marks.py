from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from appview_world import Provider, serve_world
from small_world import PICTURE, World, did

from appview.takedowns import TakedownCache
from storage.private.takedowns import take_down, undo_takedown

PROFILE = "app.bsky.actor.getProfile"
STATUS = "app.bsky.actor.status"
VERIFICATION = "app.bsky.graph.verification"
NOW = datetime.now(UTC)
TRUSTED = ("tess", "tom", "unheardof")
CARD = {
    "$type": "app.bsky.embed.external",
    "external": {
        "uri": "https://example.com/live",
        "title": "Live",
        "description": "now",
        "thumb": PICTURE,
    },
}


def _verify(world: World, issuer: str, subject: str, display: str, **more: Any) -> str:
    record = {"subject": did(subject), "displayName": display}
    record["handle"] = f"{subject}.test"
    return world.write(issuer, VERIFICATION, record | more)


def _status(world: World, name: str, **fields: Any) -> str:
    record = {"status": f"{STATUS}#live", "createdAt": NOW.isoformat(), **fields}
    return world.write(name, STATUS, record, "self")


def _fill(world: World) -> dict[str, str]:
    for name in ("ann", "ben", "tess", "tom", "eve", "nohandle", "liar", "old"):
        world.write(
            name, "app.bsky.actor.profile", {"displayName": name.title()}, "self"
        )
    uris = {"renamed": _verify(world, "tess", "ann", "Another Name")}
    uris["by tess"] = _verify(world, "tess", "ann", "Ann")
    uris["by tom"] = _verify(world, "tom", "ann", "Ann", handle="other.test")
    for subject in ("ann", "ben"):
        _verify(world, "eve", subject, subject.title())
    _verify(world, "tess", "nohandle", "Nohandle")
    uris["ancient"] = _verify(
        world, "tess", "liar", "Liar", createdAt="1066-10-14T12:00:00Z"
    )
    uris["status"] = _status(world, "ann", embed=CARD, durationMinutes=30)
    _status(world, "ben")
    _status(world, "tom", durationMinutes=10**9, createdAt="2148-01-01T00:00:00Z")
    begun = (NOW - timedelta(minutes=4)).isoformat()
    _status(world, "tess", durationMinutes=1, createdAt=begun)
    _status(world, "old", durationMinutes=240, createdAt="1066-10-14T12:00:00Z")
    _status(world, "liar", durationMinutes="long", embed={"$type": "org.x.y"})
    _status(world, "eve", embed={"$type": "app.bsky.embed.external", "external": 1})
    germ = {"version": "1.0.0", "currentKey": {"$bytes": "AAAA"}}
    url = "https://germ.example/message"
    for name, show in (("ann", {"showButtonTo": "everyone"}), ("ben", {})):
        message = {"messageMe": {"messageMeUrl": url, **show}}
        world.write(name, "com.germnetwork.declaration", germ | message, "self")
    group = {"allowIncoming": "all", "allowGroupInvites": "following"}
    world.write("ann", "chat.bsky.actor.declaration", group, "self")
    uris["post"] = world.post("ann", "hello")
    return uris


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(
        url,
        _fill,
        {},
        unnamed={"nohandle"},
        trusted_verifiers=tuple(map(did, TRUSTED)),
        default_labelers=(did("old"),),
        takedowns=TakedownCache(0),
    ) as served:
        yield served
    databases.drop(url)


def profile(provider: Provider, name: str, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = provider.get(PROFILE, actor=did(name), **params)
    return found


def test_verifications_of_trusted_accounts_are_shown(provider: Provider) -> None:
    state = profile(provider, "ann")["verification"]
    assert (state["verifiedStatus"], state["trustedVerifierStatus"]) == (
        "valid",
        "none",
    )
    tess, tom = state["verifications"]
    # The newest of an issuer counts; one of another handle is not valid any more.
    assert (tess["uri"], tess["isValid"]) == (provider.uris["by tess"], True)
    assert (tess["issuer"], tess["issuerHandle"]) == (did("tess"), "tess.test")
    assert tess["issuerDisplayName"] == "Tess"
    assert (tom["uri"], tom["isValid"]) == (provider.uris["by tom"], False)
    post = provider.get("app.bsky.feed.getPosts", uris=[provider.uris["post"]])
    assert post["posts"][0]["author"]["verification"] == state


def test_verifications_of_others_and_without_a_handle_are_not_shown(
    provider: Provider,
) -> None:
    assert "verification" not in profile(provider, "ben")
    assert "verification" not in profile(provider, "nohandle")


def test_time_of_a_verification_is_the_earlier_one(provider: Provider) -> None:
    [view] = profile(provider, "liar")["verification"]["verifications"]
    assert view["createdAt"] == "1066-10-14T12:00:00.000Z"


def test_trusted_verifiers_are_marked(provider: Provider) -> None:
    state = profile(provider, "tess")["verification"]
    assert state == {
        "verifications": [],
        "verifiedStatus": "none",
        "trustedVerifierStatus": "valid",
    }


def test_impersonation_invalidates_verifications(provider: Provider) -> None:
    with psycopg.connect(provider.database) as conn:
        conn.execute(
            """
            INSERT INTO label
              (actor, collection, rkey, src, val, cid, neg, cts, exp, raw)
            SELECT a.id, 0, 0, s.id, 'impersonation', '', false, now(), NULL, ''
            FROM actor a JOIN actor s ON s.did = %s WHERE a.did = ANY(%s)
            """,
            (did("old"), [did("ann"), did("tess")]),
        )
    for header, expected in ((";redact", "invalid"), ("", "valid")):
        accepted = {"atproto-accept-labelers": did("old") + header}
        ann = profile(provider, "ann", headers=accepted)["verification"]
        assert ann["verifiedStatus"] == expected
        assert ann["verifications"][0]["isValid"] is True
        tess = profile(provider, "tess", headers=accepted)["verification"]
        assert tess["trustedVerifierStatus"] == expected
    with psycopg.connect(provider.database) as conn:
        conn.execute("DELETE FROM label WHERE val = 'impersonation'")


def test_status_shows_its_card_and_its_end(provider: Provider) -> None:
    status = profile(provider, "ann")["status"]
    assert status["uri"] == f"at://{did('ann')}/{STATUS}/self"
    assert status["status"] == f"{STATUS}#live"
    assert status["record"]["durationMinutes"] == 30
    assert status["embed"]["external"]["title"] == "Live"
    assert status["embed"]["external"]["thumb"].startswith("https://pds.example.com/")
    ends_at = datetime.fromisoformat(status["expiresAt"])
    assert abs(ends_at - NOW - timedelta(minutes=30)) < timedelta(seconds=1)
    assert status["isActive"] is True
    assert status["labels"] == []
    assert "isDisabled" not in status
    assert profile(provider, "ann", viewer="ann")["status"]["isDisabled"] is False


def test_duration_of_a_status_is_bounded(provider: Provider) -> None:
    def end(name: str) -> tuple[datetime, bool]:
        status = profile(provider, name)["status"]
        return datetime.fromisoformat(status["expiresAt"]), status["isActive"]

    longest, is_active = end("tom")
    # A status from the future begins when it was indexed.
    assert abs(longest - NOW - timedelta(hours=4)) < timedelta(hours=1)
    assert is_active
    shortest, is_active = end("tess")
    assert abs(shortest - NOW - timedelta(minutes=1)) < timedelta(seconds=1)
    assert end("old") == (datetime(1066, 10, 14, 16, tzinfo=UTC), False)


def test_status_without_an_end_and_invalid_statuses(provider: Provider) -> None:
    status = profile(provider, "ben")["status"]
    assert "expiresAt" not in status
    assert "isActive" not in status
    assert "status" not in profile(provider, "liar")
    assert "status" not in profile(provider, "eve")


def test_associated_shows_chat_and_germ(provider: Provider) -> None:
    associated = profile(provider, "ann")["associated"]
    assert associated["chat"] == {
        "allowIncoming": "all",
        "allowGroupInvites": "following",
    }
    assert associated["germ"] == {
        "messageMeUrl": "https://germ.example/message",
        "showButtonTo": "everyone",
    }
    assert "germ" not in profile(provider, "ben")["associated"]
    basic = provider.get("app.bsky.actor.searchActorsTypeahead", q="ann")["actors"][0]
    assert basic["associated"]["germ"] == associated["germ"]
    assert basic["status"]["isActive"] is True


def test_taken_down_statuses_and_verifications_are_hidden(provider: Provider) -> None:
    hidden = [f"at://{did('ann')}/{STATUS}/self", provider.uris["by tess"]]
    with psycopg.connect(provider.database) as conn:
        for uri in hidden:
            take_down(conn, uri, operator="me", reason="law")
    ann = profile(provider, "ann")
    assert "status" not in ann
    [verification] = ann["verification"]["verifications"]
    assert verification["uri"] == provider.uris["by tom"]
    own = profile(provider, "ann", viewer="ann")["status"]
    assert own["isDisabled"] is True
    with psycopg.connect(provider.database) as conn:
        for uri in hidden:
            undo_takedown(conn, uri, operator="me", reason="")
    assert profile(provider, "ann")["status"]["isActive"] is True
