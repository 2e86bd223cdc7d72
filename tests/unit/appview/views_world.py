"""A world with one record of every kind that has a view."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from small_world import PICTURE, World, did

THAI = "กำ"  # one grapheme, two code points, six bytes
CID = PICTURE["ref"]["$link"]  # type: ignore[index]
LEGACY = {"cid": CID, "mimeType": "image/jpeg"}
RATIO = {"width": 4, "height": 3}
VIDEO = {
    "$type": "app.bsky.embed.video",
    "video": {**PICTURE, "mimeType": "video/mp4"},
    "alt": "a film",
    "aspectRatio": RATIO,
}
SPOILER = {"$type": "com.atproto.label.defs#selfLabels", "values": [{"val": "spoiler"}]}
FACET = {
    "index": {"byteStart": 0, "byteEnd": 3},
    "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "x"}],
}
BAD_FACET = {"index": {"byteStart": -1, "byteEnd": 3}, "features": []}


def _images(*blobs: Any) -> dict[str, Any]:
    images = [{"alt": "x", "image": blob, "aspectRatio": RATIO} for blob in blobs]
    return {"$type": "app.bsky.embed.images", "images": images}


def _embeds(world: World) -> dict[str, str]:
    def both(uri: str, media: dict[str, Any]) -> dict[str, Any]:
        kind = "app.bsky.embed.recordWithMedia"
        return {"$type": kind, "record": world.embed(uri), "media": media}

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
    uris["quote1"] = world.quote("bob", uris["image"], "q1")
    uris["quote2"] = world.quote("bob", uris["quote1"], "q2")
    uris["quote3"] = world.quote("bob", uris["quote2"], "q3")
    uris["media1"] = post("m1", both(uris["image"], VIDEO))
    uris["media2"] = post("m2", both(uris["media1"], _images(PICTURE)))
    uris["media_future"] = post("m3", both(uris["image"], {"$type": "org.x.y.z"}))
    return uris


def fill(world: World) -> dict[str, str]:
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
        uris[f"quote_{name}"] = world.quote("bob", uris[name], name)
    # Its parent is also the post quoted by the post that it quotes.
    parent = world.reference(uris["quote2"])
    reply = {"root": parent, "parent": parent}
    embed = world.embed(uris["quote3"])
    uris["tangled"] = world.post("alice", "tangled", embed=embed, reply=reply)
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
        "alice", "chat.bsky.actor.declaration", {"allowIncoming": "following"}, "self"
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
    uris["reply1"] = world.reply("carol", uris["root"])
    uris["reply2"] = world.reply("alice", uris["reply1"], uris["root"])
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
