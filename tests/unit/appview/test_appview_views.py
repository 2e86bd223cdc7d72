"""Each kind of view, field by field, as its lexicon and the reference have it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import START, did
from views_world import CID, FACET, RATIO, THAI, fill

from protocol.data.cid import cid_for, cid_from_text, cid_to_text
from protocol.syntax import parse_tid, tid_to_int

POSTS = "app.bsky.feed.getPosts"
PROFILE = "app.bsky.actor.getProfile"
GENERATOR = "app.bsky.feed.getFeedGenerator"


@pytest.fixture(scope="module")
def views(databases: Any) -> Iterator[Provider]:
    """Return a world with one record of every kind that has a view."""
    url = databases.make("index")
    labelers = (did("carol"),)
    with serve_world(url, fill, default_labelers=labelers) as provider:
        yield provider
    databases.drop(url)


def _post(views: Provider, name: str, **asked: Any) -> dict[str, Any]:
    found = views.get(POSTS, uris=[views.uris[name]], **asked)["posts"]
    assert len(found) == 1, name
    post: dict[str, Any] = found[0]
    return post


def _blob_url(name: str, cid: str = CID) -> str:
    return (
        "https://pds.example.com/xrpc/com.atproto.sync.getBlob"
        f"?did={did(name)}&cid={cid}"
    )


def test_post_view_shows_the_earlier_of_created_and_indexed(views: Provider) -> None:
    assert _post(views, "ancient")["indexedAt"] == "0312-10-28T12:00:00.000Z"
    shown = datetime.fromisoformat(_post(views, "future_time")["indexedAt"])
    assert START < shown <= datetime.now(UTC)
    record = _post(views, "no_tid")
    at = datetime.fromisoformat(record["indexedAt"])
    assert at == datetime.fromisoformat(record["record"]["createdAt"])


def test_post_view_marks_pinned_posts_for_their_author(views: Provider) -> None:
    assert _post(views, "pinned", viewer="alice")["viewer"]["pinned"] is True
    assert _post(views, "ancient", viewer="alice")["viewer"]["pinned"] is False
    assert "pinned" not in _post(views, "pinned", viewer="bob")["viewer"]


def test_images_view_shows_legacy_blobs(views: Provider) -> None:
    for name in ("image", "legacy"):
        embed = _post(views, name)["embed"]
        url = _blob_url("bob")
        assert embed == {
            "$type": "app.bsky.embed.images#view",
            "images": [
                {"thumb": url, "fullsize": url, "alt": "x", "aspectRatio": RATIO}
            ],
        }


@pytest.mark.parametrize("name", ["odd", "future", "no_type", "not_a_map", "odd_quote"])
def test_invalid_embeds_are_left_out(views: Provider, name: str) -> None:
    assert "embed" not in _post(views, name)


def test_video_view_without_a_video_service_is_the_original(views: Provider) -> None:
    assert _post(views, "video")["embed"] == {
        "$type": "app.bsky.embed.video#view",
        "cid": CID,
        "playlist": _blob_url("bob"),
        "alt": "a film",
        "aspectRatio": RATIO,
    }


def test_external_and_gallery_views(views: Provider) -> None:
    external = _post(views, "external")["embed"]["external"]
    assert external == {
        "uri": "https://example.com/x",
        "title": "X",
        "description": "d",
        "thumb": _blob_url("bob"),
    }
    items = _post(views, "gallery")["embed"]["items"]
    assert [item["$type"] for item in items] == ["app.bsky.embed.gallery#viewImage"]
    assert items[0]["fullsize"] == items[0]["thumbnail"] == _blob_url("bob")


def test_quotes_are_shown_two_levels_deep(views: Provider) -> None:
    embed = _post(views, "quote3")["embed"]
    first = embed["record"]
    assert first["uri"] == views.uris["quote2"]
    second = first["embeds"][0]["record"]
    assert second["uri"] == views.uris["quote1"]
    assert "embeds" not in second
    assert second["value"]["text"] == "q1"
    assert _post(views, "quote1")["embed"]["record"]["embeds"][0]["images"]


def test_post_loaded_as_a_quote_shows_its_own_quote(views: Provider) -> None:
    thread = views.get("app.bsky.feed.getPostThread", uri=views.uris["tangled"])
    parent = thread["thread"]["parent"]["post"]
    assert parent["uri"] == views.uris["quote2"]
    quoted = parent["embed"]["record"]
    assert quoted["uri"] == views.uris["quote1"]
    assert quoted["embeds"][0]["record"]["value"]["text"] == "q0"


def test_record_with_media_shows_both_levels(views: Provider) -> None:
    embed = _post(views, "media2")["embed"]
    assert embed["$type"] == "app.bsky.embed.recordWithMedia#view"
    assert embed["media"]["images"]
    assert "$type" not in embed["record"]
    inner = embed["record"]["record"]["embeds"][0]
    assert inner["media"]["$type"] == "app.bsky.embed.video#view"
    assert inner["record"]["record"]["uri"] == views.uris["image"]
    assert "embeds" not in inner["record"]["record"]
    assert "embed" not in _post(views, "media_future")


def test_generator_view(views: Provider) -> None:
    view = views.get(GENERATOR, feed=views.uris["feed"], viewer="alice")["view"]
    assert view["viewer"] == {"like": views.uris["like"]}
    assert view["displayName"] == "ก" * 100
    assert view["description"] == THAI * 290
    assert view["descriptionFacets"] == [FACET]
    assert view["avatar"] == _blob_url("carol")
    assert view["acceptsInteractions"] is True
    assert view["contentMode"] == "app.bsky.feed.defs#contentModeVideo"
    assert view["labels"] == []
    assert view["likeCount"] == 1
    record = views.world.records["carol"]["app.bsky.feed.generator/thai"]
    assert datetime.fromisoformat(view["indexedAt"]) == datetime.fromisoformat(
        record["createdAt"]
    )
    plain = views.get(GENERATOR, feed=views.uris["feed"])["view"]
    assert "viewer" not in plain
    assert (
        views.get(GENERATOR, feed=views.uris["feed"], viewer="bob")["view"]["viewer"]
        == {}
    )


def test_quoted_list_view(views: Provider) -> None:
    view = _post(views, "quote_list", viewer="alice")["embed"]["record"]
    assert view["$type"] == "app.bsky.graph.defs#listView"
    assert view["viewer"] == {"muted": False, "blocked": views.uris["listblock"]}
    assert view["name"] == "é" * 32  # 64 bytes
    assert view["description"] == THAI * 300
    assert view["descriptionFacets"] == [FACET]
    assert view["listItemCount"] == 2
    assert view["purpose"] == "app.bsky.graph.defs#modlist"
    assert view["labels"] == []
    assert view["avatar"] == _blob_url("carol")
    assert view["creator"]["did"] == did("carol")


def test_quoted_starter_pack_view_counts_joined_accounts(views: Provider) -> None:
    view = _post(views, "quote_pack")["embed"]["record"]
    assert view["$type"] == "app.bsky.graph.defs#starterPackViewBasic"
    assert (view["joinedAllTimeCount"], view["joinedWeekCount"]) == (2, 1)
    assert view["record"]["list"] == views.uris["list"]


def test_quoted_labeler_view(views: Provider) -> None:
    view = _post(views, "quote_labeler", viewer="alice")["embed"]["record"]
    assert view["$type"] == "app.bsky.labeler.defs#labelerView"
    assert view["uri"] == views.uris["labeler"]
    assert view["viewer"] == {}
    assert [label["val"] for label in view["labels"]] == ["spoiler"]


def test_profile_view_of_a_full_profile(views: Provider) -> None:
    view = views.get(PROFILE, actor="alice.test")
    assert view["displayName"] == THAI * 64
    assert view["description"] == THAI * 256
    assert view["pronouns"] == "they/them"
    assert view["website"] == "https://alice.example.com"
    assert view["avatar"] == _blob_url("alice")
    assert "banner" not in view
    assert view["pinnedPost"] == views.world.reference(views.uris["pinned"])
    assert view["joinedViaStarterPack"]["uri"] == views.uris["pack"]
    assert view["associated"] == {
        "lists": 0,
        "feedgens": 0,
        "starterPacks": 0,
        "labeler": False,
        "chat": {"allowIncoming": "following"},
        "activitySubscription": {"allowSubscriptions": "followers"},
    }
    record = views.world.records["alice"]["app.bsky.actor.profile/self"]
    created = datetime.fromisoformat(record["createdAt"])
    assert view["labels"] == [
        {
            "src": did("alice"),
            "uri": views.uris["alice"],
            "cid": views.world.cid("alice", "app.bsky.actor.profile/self"),
            "val": "spoiler",
            "cts": created.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        }
    ]
    assert datetime.fromisoformat(view["indexedAt"]) == created
    assert datetime.fromisoformat(view["createdAt"]) == created


def test_profile_view_of_others(views: Provider) -> None:
    bob = views.get(PROFILE, actor="bob.test")
    assert bob["displayName"] == "B" * 64
    assert "website" not in bob
    assert bob["associated"]["activitySubscription"] == {"allowSubscriptions": "none"}
    carol = views.get(PROFILE, actor="carol.test")
    assert carol["associated"]["labeler"] is True
    assert carol["associated"]["lists"] == 1
    assert not {"indexedAt", "createdAt", "displayName"} & carol.keys()


def test_profile_view_basic_beside_a_post(views: Provider) -> None:
    author = _post(views, "pinned")["author"]
    assert author["associated"] == {
        "chat": {"allowIncoming": "following"},
        "activitySubscription": {"allowSubscriptions": "followers"},
    }
    assert author["pronouns"] == "they/them"
    assert [label["val"] for label in author["labels"]] == ["spoiler"]
    assert "indexedAt" not in author


def test_feed_view_post_names_the_repost_and_the_grandparent_author(
    views: Provider,
) -> None:
    feed = views.get("app.bsky.feed.getAuthorFeed", actor="alice.test")["feed"]
    by_uri = {item["post"]["uri"]: item for item in feed}
    reason = by_uri[views.uris["image"]]["reason"]
    path = views.uris["repost"].split("/", 3)[3]
    assert reason["uri"] == views.uris["repost"]
    assert reason["cid"] == views.world.cid("alice", path)
    created = datetime.fromisoformat(views.world.records["alice"][path]["createdAt"])
    assert datetime.fromisoformat(reason["indexedAt"]) == created
    reply = by_uri[views.uris["reply2"]]["reply"]
    assert reply["parent"]["author"]["did"] == did("carol")
    assert reply["grandparentAuthor"]["did"] == did("bob")


def test_likes_have_created_and_indexed_times(views: Provider) -> None:
    answer = views.get("app.bsky.feed.getLikes", uri=views.uris["root"])
    first, last = answer["likes"]
    assert first["actor"]["did"] == did("alice")
    assert first["createdAt"] == "2148-01-01T00:00:00.000Z"
    assert datetime.fromisoformat(first["indexedAt"]) <= datetime.now(UTC)
    assert last["actor"]["did"] == did("bob")
    assert last["createdAt"] == last["indexedAt"] == "2000-12-31T22:00:00.000Z"


def test_errors_carry_the_headers_of_answers(views: Provider) -> None:
    accept = f"{did('carol')};redact"
    with pytest.raises(RefusedError) as refused:
        views.get(
            "app.bsky.feed.getPostThread",
            uri=f"at://{did('alice')}/app.bsky.feed.post/nowhere",
            viewer="alice",
            headers={"atproto-accept-labelers": accept},
        )
    assert (refused.value.status, refused.value.name) == (400, "NotFound")
    headers = refused.value.headers
    assert headers["atproto-content-labelers"] == accept
    latest = views.get("com.atproto.sync.getLatestCommit", did=did("alice"))
    assert headers["atproto-repo-rev"] == latest["rev"]


def _put_label(
    views: Provider, uri: str, val: str, *, cid: bytes = b"", **fields: Any
) -> None:
    owner, _, path = uri.removeprefix("at://").partition("/")
    collection, _, rkey = path.partition("/")
    with psycopg.connect(views.database) as conn:
        conn.execute(
            """
            INSERT INTO label
              (actor, collection, rkey, src, val, cid, neg, cts, exp, raw)
            SELECT a.id, coalesce(c.id, 0), coalesce(p.rkey, 0), s.id,
                   %(val)s, %(cid)s, %(neg)s, %(cts)s, %(exp)s, ''
            FROM actor a JOIN actor s ON s.did = %(src)s
            LEFT JOIN collection c ON c.nsid = %(collection)s
            LEFT JOIN post p ON p.actor = a.id AND p.rkey = %(rkey)s
            WHERE a.did = %(did)s
            """,
            {
                "did": owner,
                "collection": collection,
                "rkey": tid_to_int(parse_tid(rkey)) if rkey else 0,
                "src": did("carol"),
                "val": val,
                "cid": cid,
                "neg": fields.get("neg", False),
                "cts": START,
                "exp": fields.get("exp"),
            },
        )


def test_labels_of_accepted_labelers_apply(views: Provider) -> None:
    uri, post = views.uris["video"], views.uris["external"]
    version = cid_from_text(views.world.reference(post)["cid"])
    _put_label(views, uri, "!takedown")
    _put_label(views, post, "plain")
    _put_label(views, post, "gone", neg=True)
    _put_label(views, post, "expired", exp=datetime.now(UTC) - timedelta(hours=1))
    later = datetime(2100, 1, 1, tzinfo=UTC)
    _put_label(views, post, "expires", exp=later)
    _put_label(views, post, "this-version", cid=version)
    _put_label(views, post, "other-version", cid=cid_for(b"x"))
    _put_label(views, did("bob"), "account")

    def ask(accept: str | None) -> dict[str, dict[str, Any]]:
        headers = {"atproto-accept-labelers": accept} if accept is not None else {}
        answer = views.get(POSTS, uris=[uri, post], headers=headers)
        return {found["uri"]: found for found in answer["posts"]}

    shown = ask(did("carol"))
    assert [label["val"] for label in shown[uri]["labels"]] == ["!takedown"]
    labels = {label["val"]: label for label in shown[post]["labels"]}
    assert labels.keys() == {"plain", "expires", "this-version"}
    assert labels["expires"]["exp"] == "2100-01-01T00:00:00.000Z"
    assert labels["this-version"]["cid"] == cid_to_text(version)
    assert [label["val"] for label in shown[post]["author"]["labels"]] == ["account"]
    assert ask(f"{did('carol')};redact").keys() == {post}
    assert ask(f"{did('carol')};redact=?0").keys() == {uri, post}
    # The header of a client without one: our labelers, with redact.
    assert ask(None).keys() == {post}
    assert [label["val"] for label in ask("")[uri]["labels"]] == []


@pytest.mark.parametrize(
    ("asked", "texts"),
    [
        ({"q": "*", "domain": "BÜCHER.example."}, {"linked", "linked too"}),
        ({"q": "domain:xn--bcher-kva.example"}, {"linked", "linked too"}),
        ({"q": "domain:www.bücher.example"}, {"linked too"}),
        ({"q": "*", "url": "https://xn--bcher-kva.example/a#x"}, {"linked"}),
        ({"q": "url:https://bücher.EXAMPLE/a"}, {"linked"}),
    ],
)
def test_search_finds_links_by_any_spelling_of_the_host(
    views: Provider, asked: dict[str, str], texts: set[str]
) -> None:
    found = views.get("app.bsky.feed.searchPosts", **asked)["posts"]
    assert {post["record"]["text"] for post in found} == texts


def test_blob_urls_are_those_of_the_operators_cdn(databases: Any) -> None:
    url = databases.make("index")
    patterns = {
        "cdn_url_pattern": "https://cdn.example/{preset}/{did}/{cid}",
        "video_url_pattern": "https://video.example/{did}/{cid}/{file}",
    }
    try:
        with serve_world(url, fill, **patterns) as views:
            image = _post(views, "legacy")["embed"]["images"][0]
            where = f"{did('bob')}/{CID}"
            assert image["thumb"] == f"https://cdn.example/feed_thumbnail/{where}"
            assert image["fullsize"] == f"https://cdn.example/feed_fullsize/{where}"
            video = _post(views, "video")["embed"]
            assert video["playlist"] == f"https://video.example/{where}/playlist.m3u8"
            assert video["thumbnail"] == f"https://video.example/{where}/thumbnail.jpg"
    finally:
        databases.drop(url)
