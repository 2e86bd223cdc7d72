from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from graph_world import GRAPH, fill
from small_world import did

from appview.hydration import known_followers
from appview.hydration.known_followers import load_known_followers

PROFILE = "app.bsky.actor.getProfile"
PROFILES = "app.bsky.actor.getProfiles"


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill, {"gone": "deactivated", "lost": "deleted"}) as served:
        yield served
    databases.drop(url)


def handles(views: list[dict[str, Any]]) -> list[str]:
    return [view["handle"].removesuffix(".test") for view in views]


def test_known_followers_are_followed_and_follow(provider: Provider) -> None:
    answer = provider.get(f"{GRAPH}getKnownFollowers", actor="star.test", viewer="fan")
    assert answer["subject"]["did"] == did("star")
    assert handles(answer["followers"]) == ["ann", "bare", "foe", "hater"]
    assert "cursor" not in answer


def test_known_followers_leave_out_accounts_in_blocks(provider: Provider) -> None:
    answer = provider.get(f"{GRAPH}getKnownFollowers", actor=did("star"), viewer="lou")
    assert answer["followers"] == []


def test_pages_of_known_followers(provider: Provider) -> None:
    followers = provider.pages(
        f"{GRAPH}getKnownFollowers",
        "followers",
        actor="star.test",
        viewer="fan",
        limit=1,
    )
    assert handles(followers) == ["ann", "bare", "foe", "hater"]


def test_nobody_has_no_known_followers(provider: Provider) -> None:
    answer = provider.get(
        f"{GRAPH}getKnownFollowers", actor=did("star"), viewer="nobody"
    )
    assert answer["followers"] == []


@pytest.mark.parametrize("actor", [did("unheardof"), did("gone"), "unheardof.test"])
def test_known_followers_of_hidden_accounts_are_refused(
    provider: Provider, actor: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(f"{GRAPH}getKnownFollowers", actor=actor, viewer="fan")
    assert refused.value.message == f"Actor not found: {actor}"


def test_profile_counts_known_followers_and_shows_those_without_blocks(
    provider: Provider,
) -> None:
    profile = provider.get(PROFILE, actor="star.test", viewer="fan")
    known = profile["viewer"]["knownFollowers"]
    # The deactivated one and the one that the account blocks are counted.
    assert known["count"] == 5
    assert handles(known["followers"]) == ["ann", "bare", "hater"]
    without = provider.get(PROFILE, actor="bare.test", viewer="fan")
    assert "knownFollowers" not in without["viewer"]
    assert "viewer" not in provider.get(PROFILE, actor="star.test")


def test_profiles_have_their_own_known_followers(provider: Provider) -> None:
    asked = [did("star"), did("cal"), did("fan"), did("star")]
    profiles = provider.get(PROFILES, actors=asked, viewer="fan")["profiles"]
    counts = [p["viewer"].get("knownFollowers", {}).get("count") for p in profiles]
    # Dee follows cal, but nobody whom fan follows does; ann follows fan.
    assert counts == [5, None, 1, 5]


def test_empty_display_name_is_shown(provider: Provider) -> None:
    assert provider.get(PROFILE, actor=did("blank"))["displayName"] == ""
    assert "displayName" not in provider.get(PROFILE, actor=did("bare"))


def test_suggestions_show_known_followers(provider: Provider) -> None:
    answer = provider.get(
        f"{GRAPH}getSuggestedFollowsByActor", actor=did("fan"), viewer="dee"
    )
    assert all("viewer" in view for view in answer["suggestions"])


def test_both_sides_of_the_intersection_agree(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(provider.database) as conn:
        ids: dict[str, int] = dict(conn.execute("SELECT did, id FROM actor").fetchall())
        viewer, star = ids[did("fan")], ids[did("star")]
        few = load_known_followers(conn, viewer, [star])
        conn.execute(
            "UPDATE actor_stats SET followers = 1000000 WHERE actor = %s", (star,)
        )
        many = load_known_followers(conn, viewer, [star])
        conn.rollback()
        names = {number: name for name, number in ids.items()}
        expected = [did(name) for name in ("ann", "bare", "gone", "foe", "hater")]
        assert [names[actor] for actor in few[star]] == expected
        assert many == few
        # The bound keeps the latest follows: lost, star, hater, foe.
        monkeypatch.setattr(known_followers, "MAX_PROBES", 4)
        assert [
            names[actor] for actor in load_known_followers(conn, viewer, [star])[star]
        ] == [did("foe"), did("hater")]
        assert load_known_followers(conn, ids[did("bare")], [ids[did("ann")]]) == {}
