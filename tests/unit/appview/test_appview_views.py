"""Each kind of view, field by field, as its lexicon and the reference have it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from appview_world import (
    PICTURE,
    START,
    Provider,
    RefusedError,
    World,
    did,
    serve_world,
)

from protocol.data.cid import cid_for, cid_from_text, cid_to_text
from protocol.syntax import parse_tid, tid_to_int

POSTS = "app.bsky.feed.getPosts"
PROFILE = "app.bsky.actor.getProfile"
GENERATOR = "app.bsky.feed.getFeedGenerator"
THAI = "กำ"  # one character for people, two code points, six bytes
CID = PICTURE["ref"]["$link"]  # type: ignore[index]
LEGACY = {"cid": CID, "mimeType": "image/jpeg"}
RATIO = {"width": 4, "height": 3}
VIDEO = {
    "$type": "app.bsky.embed.video",
    "video": {**PICTURE, "mimeType": "video/mp4"},
    "alt": "a film",
    "aspectRatio": RATIO,
}
SPOILER = {
    "$type": "com.atproto.label.defs#selfLabels",
    "values": [{"val": "spoiler"}],
}
FACET = {
    "index": {"byteStart": 0, "byteEnd": 3},
    "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "x"}],
}
BAD_FACET = {"index": {"byteStart": -1, "byteEnd": 3}, "features": []}


def _images(*blobs: Any) -> dict[str, Any]:
    images = [{"alt": "x", "image": blob, "aspectRatio": RATIO} for blob in blobs]
    return {"$type": "app.bsky.embed.images", "images": images}


def _embeds(world: World) -> dict[str, str]:
    def quote(uri: str) -> dict[str, Any]:
        return {"$type": "app.bsky.embed.record", "record": world.reference(uri)}

    def both(uri: str, media: dict[str, Any]) -> dict[str, Any]:
        kind = "app.bsky.embed.recordWithMedia"
        return {"$type": kind, "record": quote(uri), "media": media}

    def post(text: str, embed: Any) -> str:
        return world.post("bob", text, embed=embed)

    external = {"uri": "https://example.com/x", "title": "X", "description": "d"}
    gallery = "app.bsky.embed.gallery"
    uris = {
        "image": post("q0", _images(PICTURE)),
        "legacy": post("legacy", _images(LEGACY)),
        "odd": post(
            "odd",
            _images(
                {"cid": "../../evil?x=1&y", "mimeType": "image/jpeg"},
                {"cid": CID + "&x=1", "mimeType": "image/jpeg"},
                {"ref": "../evil", "mimeType": "x", "size": 1},
            ),
        ),
        "video": post("video", VIDEO),
        "external": post(
            "external",
            {
                "$type": "app.bsky.embed.external",
                "external": {**external, "thumb": LEGACY},
            },
        ),
        "gallery": post(
            "gallery",
            {
                "$type": gallery,
                "items": [
                    {
                        "$type": f"{gallery}#image",
                        "image": PICTURE,
                        "alt": "a",
                        "aspectRatio": RATIO,
                    },
                    {"$type": f"{gallery}#film", "film": PICTURE},
                ],
            },
        ),
        "future": post("future", {"$type": "app.bsky.embed.hologram", "x": 1}),
        "no_type": post("no type", {"images": 7}),
        "not_a_map": post("not a map", "images"),
        "odd_quote": post(
            "odd quote",
            {"$type": "app.bsky.embed.record", "record": {"uri": "no", "cid": "no"}},
        ),
    }
    uris["quote1"] = post("q1", quote(uris["image"]))
    uris["quote2"] = post("q2", quote(uris["quote1"]))
    uris["quote3"] = post("q3", quote(uris["quote2"]))
    uris["media1"] = post("m1", both(uris["image"], VIDEO))
    uris["media2"] = post("m2", both(uris["media1"], _images(PICTURE)))
    uris["media_future"] = post("m3", both(uris["image"], {"$type": "org.x.y.z"}))
    return uris


def _fill(world: World) -> dict[str, str]:
    uris = _embeds(world)
    uris["picture"], uris["dans"] = uris["image"], world.post("dan", "nothing")
    uris["feed"] = world.write(
        "carol",
        "app.bsky.feed.generator",
        {
            "did": "did:web:feeds.example.com",
            "displayName": "ก" * 100,
            "description": THAI * 290,
            "descriptionFacets": [FACET, BAD_FACET],
            "avatar": LEGACY,
            "acceptsInteractions": True,
            "contentMode": "app.bsky.feed.defs#contentModeVideo",
            "labels": SPOILER,
        },
        "thai",
    )
    uris["list"] = world.write(
        "carol",
        "app.bsky.graph.list",
        {
            "name": "é" * 64,
            "purpose": "app.bsky.graph.defs#modlist",
            "description": THAI * 310,
            "descriptionFacets": [FACET],
            "avatar": PICTURE,
        },
    )
    for name in ("fay", "gus"):
        world.write(
            "carol",
            "app.bsky.graph.listitem",
            {"subject": did(name), "list": uris["list"]},
        )
    uris["listblock"] = world.write(
        "alice", "app.bsky.graph.listblock", {"subject": uris["list"]}
    )
    uris["pack"] = world.write(
        "carol",
        "app.bsky.graph.starterpack",
        {"name": "pack", "list": uris["list"], "feeds": [{"uri": uris["feed"]}]},
    )
    uris["labeler"] = world.write(
        "carol",
        "app.bsky.labeler.service",
        {"policies": {"labelValues": []}, "labels": SPOILER},
        "self",
    )
    uris["like"] = world.like("alice", uris["feed"])
    for name in ("feed", "list", "pack", "labeler"):
        quoted = {
            "$type": "app.bsky.embed.record",
            "record": world.reference(uris[name]),
        }
        uris[f"quote_{name}"] = world.post("bob", name, embed=quoted)
    # Its parent is also what the post that it quotes quotes.
    quoted, parent = world.reference(uris["quote3"]), world.reference(uris["quote2"])
    uris["tangled"] = world.post(
        "alice",
        "tangled",
        embed={"$type": "app.bsky.embed.record", "record": quoted},
        reply={"root": parent, "parent": parent},
    )
    _links(world)
    _profiles(world, uris)
    return uris


def _links(world: World) -> None:
    for text, uri in (
        ("linked", "HTTPS://Bücher.Example:443/a/"),
        ("linked too", "https://www.xn--bcher-kva.example/b"),
    ):
        link = {"$type": "app.bsky.richtext.facet#link", "uri": uri}
        facet = {"index": {"byteStart": 0, "byteEnd": 6}, "features": [link]}
        world.post("bob", text, facets=[facet])


def _profiles(world: World, uris: dict[str, str]) -> None:
    uris["pinned"] = world.post("alice", "pinned")
    uris["alice"] = world.write(
        "alice",
        "app.bsky.actor.profile",
        {
            "displayName": THAI * 64,
            "description": THAI * 300,
            "pronouns": "they/them",
            "website": "https://alice.example.com",
            "avatar": LEGACY,
            "banner": {"cid": "../../evil", "mimeType": "image/jpeg"},
            "labels": SPOILER,
            "pinnedPost": world.reference(uris["pinned"]),
            "joinedViaStarterPack": world.reference(uris["pack"]),
        },
        "self",
    )
    soon = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    world.write(
        "bob",
        "app.bsky.actor.profile",
        {
            "createdAt": soon,
            "displayName": "B" * 100,
            "website": "http://plain.example.com",
            "joinedViaStarterPack": world.reference(uris["pack"]),
        },
        "self",
    )
    world.write(
        "alice",
        "chat.bsky.actor.declaration",
        {"allowIncoming": "following"},
        "self",
    )
    world.write(
        "bob",
        "app.bsky.notification.declaration",
        {"allowSubscriptions": "none"},
        "self",
    )
    uris["ancient"] = world.post("alice", "old", createdAt="0312-10-28T12:00:00Z")
    uris["future_time"] = world.post("alice", "new", createdAt="2148-01-01T00:00:00Z")
    uris["no_tid"] = world.write(
        "alice", "app.bsky.feed.post", {"text": "key"}, "not-a-tid"
    )
    uris["root"] = world.post("bob", "root")
    for name, parent in (("reply1", "root"), ("reply2", "reply1")):
        reply = {
            "root": world.reference(uris["root"]),
            "parent": world.reference(uris[parent]),
        }
        author = "carol" if name == "reply1" else "alice"
        uris[name] = world.post(author, name, reply=reply)
    uris["repost"] = world.write(
        "alice",
        "app.bsky.feed.repost",
        {"subject": world.reference(uris["image"])},
        "no-tid-either",
    )
    for name, created in (("alice", "2148-01-01T00:00:00Z"), ("bob", "2001-01-01")):
        like = {"subject": world.reference(uris["root"]), "createdAt": created}
        if name == "bob":
            like["createdAt"] += "T00:00:00+02:00"
        world.write(name, "app.bsky.feed.like", like, f"like-of-{name}")


@pytest.fixture(scope="module")
def views(databases: Any) -> Iterator[Provider]:
    """A world with one record of every kind that has a view."""
    url = databases.make("index")
    with serve_world(url, _fill) as provider:
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


def test_post_view_tells_its_author_whether_it_is_pinned(views: Provider) -> None:
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
def test_embeds_that_cannot_be_shown_are_left_out(views: Provider, name: str) -> None:
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


def test_post_that_was_loaded_as_a_quote_shows_what_it_quotes(views: Provider) -> None:
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


def test_quoted_starter_pack_view_counts_who_joined(views: Provider) -> None:
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


def test_feed_view_post_names_the_repost_and_whom_the_parent_answers(
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


def test_likes_tell_when_they_were_made_and_sorted(views: Provider) -> None:
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


def test_labels_apply_as_they_were_asked_for(views: Provider) -> None:
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
    assert all(not found["labels"] for found in ask(None).values())


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
def test_search_finds_links_however_their_host_is_written(
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
        with serve_world(url, _fill, **patterns) as views:
            image = _post(views, "legacy")["embed"]["images"][0]
            where = f"{did('bob')}/{CID}"
            assert image["thumb"] == f"https://cdn.example/feed_thumbnail/{where}"
            assert image["fullsize"] == f"https://cdn.example/feed_fullsize/{where}"
            video = _post(views, "video")["embed"]
            assert video["playlist"] == f"https://video.example/{where}/playlist.m3u8"
            assert video["thumbnail"] == f"https://video.example/{where}/thumbnail.jpg"
    finally:
        databases.drop(url)
