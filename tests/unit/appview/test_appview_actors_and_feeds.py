from __future__ import annotations

from typing import Any

import pytest
from appview_world import Provider, RefusedError
from small_world import SERVICE, did

from feeds.registry import FEEDS
from protocol.data.cbor import encode
from protocol.data.cid import cid_for, cid_to_text
from protocol.data.json_form import from_json
from protocol.lexicon import Catalog

FEED = "app.bsky.feed.getFeed"
SKELETON = "app.bsky.feed.getFeedSkeleton"
AUTHOR = "app.bsky.feed.getAuthorFeed"


def feed_uris(answer: dict[str, Any]) -> list[str]:
    return [item["post"]["uri"] for item in answer["feed"]]


def test_profile_by_handle_and_did(provider: Provider) -> None:
    by_handle = provider.get("app.bsky.actor.getProfile", actor="alice.test")
    by_did = provider.get("app.bsky.actor.getProfile", actor=did("alice"))
    assert by_handle == by_did
    assert by_did["displayName"] == "Alice"
    assert by_did["followersCount"] == 3
    assert by_did["followsCount"] == 1
    assert by_did["postsCount"] == 2
    assert by_did["avatar"].startswith("https://pds.example.com/")


def test_profile_of_a_deactivated_account_is_refused(provider: Provider) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get("app.bsky.actor.getProfile", actor="dan.test")
    assert refused.value.name == "AccountDeactivated"
    answer = provider.get(
        "app.bsky.actor.getProfiles", actors=[did("dan"), did("bob"), did("bob")]
    )
    assert [p["handle"] for p in answer["profiles"]] == ["bob.test"] * 2


def test_search_actors_and_typeahead(provider: Provider) -> None:
    found = provider.get("app.bsky.actor.searchActors", q="alic")["actors"]
    assert [actor["handle"] for actor in found] == ["alice.test"]
    found = provider.get("app.bsky.actor.searchActorsTypeahead", q="ca")["actors"]
    assert [actor["handle"] for actor in found] == ["carol.test"]
    assert provider.get("app.bsky.actor.searchActors", q="dan")["actors"] == []


def test_follows_and_followers(provider: Provider) -> None:
    followers = provider.pages(
        "app.bsky.graph.getFollowers", "followers", actor="alice.test", limit=1
    )
    assert [a["handle"] for a in followers] == ["carol.test", "bob.test"]
    follows = provider.get("app.bsky.graph.getFollows", actor=did("alice"))
    assert [a["handle"] for a in follows["follows"]] == ["bob.test"]
    assert follows["subject"]["handle"] == "alice.test"


def test_author_feed_has_posts_and_reposts_in_order(provider: Provider) -> None:
    items = provider.pages(AUTHOR, "feed", actor="bob.test", limit=3)
    uris = [item["post"]["uri"] for item in items]
    assert len(uris) == len(set(uris)) == 17
    reposted = [item for item in items if "reason" in item]
    assert [item["post"]["uri"] for item in reposted] == [provider.uris["hello"]]
    assert reposted[0]["reason"]["by"]["handle"] == "bob.test"
    reply = next(i for i in items if i["post"]["uri"] == provider.uris["reply"])
    assert reply["reply"]["parent"]["uri"] == provider.uris["hello"]


def test_feeds_are_described_and_shown(provider: Provider) -> None:
    described = provider.get("app.bsky.feed.describeFeedGenerator")
    assert described["did"] == SERVICE
    listed = [feed["uri"] for feed in described["feeds"]]
    assert provider.uris["feed_latest"] in listed
    assert provider.uris["feed_unknown"] not in listed
    view = provider.get(
        "app.bsky.feed.getFeedGenerator", feed=provider.uris["feed_latest"]
    )
    assert (view["isOnline"], view["isValid"]) == (True, True)
    assert view["view"]["likeCount"] == 1
    unknown = provider.get(
        "app.bsky.feed.getFeedGenerator", feed=provider.uris["feed_unknown"]
    )
    assert unknown["isValid"] is False
    several = provider.get(
        "app.bsky.feed.getFeedGenerators",
        feeds=[provider.uris["feed_popular"], provider.uris["feed_latest"]],
    )
    assert [v["displayName"] for v in several["feeds"]] == ["Popular", "Latest"]


def test_feed_skeleton_agrees_with_its_feed(provider: Provider) -> None:
    uri = provider.uris["feed_latest"]
    skeleton = provider.pages(SKELETON, "feed", feed=uri, limit=4)
    feed = provider.pages(FEED, "feed", feed=uri, limit=4)
    shown = [item["post"]["uri"] for item in feed]
    hidden = {provider.uris["dans"], provider.uris["hidden_reply"]}
    assert shown == [i["post"] for i in skeleton if i["post"] not in hidden]
    assert provider.uris["hello"] in shown


def test_following_feed_is_personal(provider: Provider) -> None:
    uri = provider.uris["feed_following"]
    answer = provider.get(FEED, feed=uri, viewer="alice", limit=100)
    authors = {item["post"]["author"]["handle"] for item in answer["feed"]}
    assert authors == {"bob.test", "alice.test"}
    with pytest.raises(RefusedError) as refused:
        provider.get(FEED, feed=uri)
    assert refused.value.status == 401


def test_foreign_feed_is_fetched_and_hydrated(provider: Provider) -> None:
    answer = provider.get(FEED, feed=provider.uris["feed_foreign"])
    assert feed_uris(answer) == [provider.uris["picture"]]
    assert answer["cursor"] == "theirs"


@pytest.mark.parametrize(
    ("nsid", "name", "error"),
    [
        (FEED, "feed_unknown", "UnknownFeed"),
        (FEED, "hello", "InvalidRequest"),
        (SKELETON, "feed_unknown", "UnknownFeed"),
        (SKELETON, "hello", "UnknownFeed"),
    ],
)
def test_unknown_feeds_are_refused(
    provider: Provider, nsid: str, name: str, error: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.get(nsid, feed=provider.uris[name])
    assert (refused.value.status, refused.value.name) == (400, error)


def test_own_feeds_have_records_without_a_repo(provider: Provider) -> None:
    described = provider.get("app.bsky.feed.describeFeedGenerator")["feeds"]
    own = [feed["uri"] for feed in described if SERVICE in feed["uri"]]
    assert len(own) == len(FEEDS)
    for uri in own:
        rkey = uri.rsplit("/", 1)[1]
        place = {"collection": "app.bsky.feed.generator", "rkey": rkey}
        record = provider.get("com.atproto.repo.getRecord", repo=SERVICE, **place)
        block = encode(from_json(record["value"]))
        assert record["cid"] == cid_to_text(cid_for(block))
        kind = record["value"]["$type"]
        Catalog.load().validate_record(kind, from_json(record["value"]))
        assert record["value"]["did"] == SERVICE
        other = cid_to_text(cid_for(b"x"))
        with pytest.raises(RefusedError) as refused:
            provider.get("com.atproto.repo.getRecord", repo=SERVICE, cid=other, **place)
        assert refused.value.name == "RecordNotFound"
        answer = provider.get("app.bsky.feed.getFeedGenerator", feed=uri)
        view = answer["view"]
        assert (answer["isOnline"], answer["isValid"]) == (True, True)
        assert (view["uri"], view["cid"]) == (uri, record["cid"])
        assert view["creator"]["did"] == SERVICE
        assert view["creator"]["displayName"] == "Bigworld"
        assert view["creator"]["handle"] == "provider.example.com"
        assert view["likeCount"] == (rkey == "latest")
    several = provider.get("app.bsky.feed.getFeedGenerators", feeds=own)["feeds"]
    assert [view["uri"] for view in several] == own
    assert provider.get(FEED, feed=own[0], limit=1)["feed"]
    quote = provider.get("app.bsky.feed.getPosts", uris=[provider.uris["quote_own"]])
    embed = quote["posts"][0]["embed"]["record"]
    assert (embed["$type"], embed["uri"]) == (
        "app.bsky.feed.defs#generatorView",
        provider.uris["own_latest"],
    )
