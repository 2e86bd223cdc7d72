"""A world of many items: equal times, rings, threads, and blocks."""

from __future__ import annotations

from typing import Any

from small_world import PICTURE, World, did

POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
ODD_CID = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
SAME = "2026-11-02T03:04:05.678Z"
YEARS = (1066, 1683, 1969, 2148)


def reference(uri: str) -> dict[str, str]:
    return {"uri": uri, "cid": ODD_CID}


def answer(world: World, name: str, rkey: str, parent: str, root: str = "") -> str:
    """Write a reply with a chosen record key."""
    reply = {"root": reference(root or parent), "parent": reference(parent)}
    return world.write(name, POST, {"text": rkey, "reply": reply}, rkey)


def uri_of(name: str, rkey: str) -> str:
    return f"at://{did(name)}/{POST}/{rkey}"


def fill(world: World) -> dict[str, str]:
    """Write everything; return the AT-URIs of single records by name."""
    uris = _fill_times(world)
    uris |= _fill_threads(world)
    _fill_hidden(world)
    _fill_rings(world)
    _fill_media(world)
    large = world.post("big", "large", junk="x" * 200_000)
    reference = world.reference(large)
    embed = {"$type": "app.bsky.embed.record", "record": reference}
    for number in range(40):
        reply = {"root": reference, "parent": reference}
        world.post("quo", f"quote {number}", reply=reply, embed=embed)
    return uris


def _fill_times(world: World) -> dict[str, str]:
    for number in range(9):
        world.post("tess", f"same {number}", createdAt=SAME)
    for year in YEARS:
        for number in range(2):
            at = f"{year}-06-01T12:00:00.123Z"
            world.post("tess", f"{year} {number}", createdAt=at)
    target = world.post("ben", "to be reposted")
    again = world.post("ben", "reposted twice")
    for subject, rkey, at in (
        (target, "aaaaaaaaaaaaa", "2026-11-02T03:04:05.678Z"),
        (again, "not-a-tid", "2026-11-02T03:04:05.678Z"),
        (again, "jzzzzzzzzzzzz", "2026-11-03T00:00:00Z"),
    ):
        record = {"subject": reference(subject), "createdAt": at}
        world.write("tess", REPOST, record, rkey)
    world.follow("vera", "tess")
    return {"target": target, "again": again}


def _fill_threads(world: World) -> dict[str, str]:
    uris = {"root": world.post("ann", "root")}

    def reply(key: str, name: str, parent: str, root: str = "root") -> None:
        reply = {"root": reference(uris[root]), "parent": reference(uris[parent])}
        uris[key] = world.post(name, key, reply=reply)

    reply("own", "ann", "root")
    reply("own_deeper", "ann", "own")
    reply("bens", "ben", "root")
    reply("own_below_ben", "ann", "bens")
    reply("own_far_below_ben", "ann", "own_below_ben")
    uris["bens_root"] = world.post("ben", "another root")
    reply("in_bens_thread", "ann", "bens_root", "bens_root")
    reply("wrong_root", "ann", "bens_root", "root")
    uris["ann_reposts"] = world.repost("ann", uris["in_bens_thread"])
    media = {"$type": "app.bsky.embed.external", "external": {}}
    uris["pinned"] = world.post("pia", "pinned", embed=media)
    for number in range(4):
        world.post("pia", f"pia {number}")
    world.repost("pia", uris["pinned"])
    profile: dict[str, Any] = {"pinnedPost": world.reference(uris["pinned"])}
    world.write("pia", "app.bsky.actor.profile", profile, "self")
    profile = {"pinnedPost": world.reference(uris["pinned"])}
    world.write("ben", "app.bsky.actor.profile", profile, "self")
    return uris


def _fill_media(world: World) -> None:
    """Write a post with a picture beside a quote, one with a video, one with a card."""
    images = {"$type": "app.bsky.embed.images"}
    images["images"] = [{"alt": "", "image": PICTURE}]  # type: ignore[assignment]
    quoted = world.reference(world.post("vic", "plain"))
    record = {"$type": "app.bsky.embed.record", "record": quoted}
    both = {"$type": "app.bsky.embed.recordWithMedia", "record": record}
    world.post("vic", "photo", embed={**both, "media": images})
    video = {**PICTURE, "mimeType": "video/mp4"}
    world.post("vic", "film", embed={"$type": "app.bsky.embed.video", "video": video})
    card = {"uri": "https://example.com", "title": "", "description": ""}
    embed = {"$type": "app.bsky.embed.external", "external": card}
    world.repost("vic", world.post("vic", "card", embed=embed))


def _fill_hidden(world: World) -> None:
    """Write posts, likes and follows of accounts that block Vera, ahead of others."""
    shown = [world.post("ann", f"zebra {number}") for number in range(7)]
    for _ in range(40):
        world.post("mal", "zebra of mal")
    world.write("mal", "app.bsky.graph.block", {"subject": did("vera")})
    for number in range(3):
        world.follow(f"fan{number}", "ann")
        world.like(f"fan{number}", shown[0])
    for number in range(12):
        name = f"mal{number}"
        world.follow(name, "ann")
        world.like(name, shown[0])
        world.write(name, "app.bsky.graph.block", {"subject": did("vera")})


def _fill_rings(world: World) -> None:
    key = "3m2222222222a"
    answer(world, "ann", key, uri_of("ann", key))
    names = ("ann", "ben", "cyd", "dot", "eli")
    for place, name in enumerate(names):
        answer(world, name, "3m2222222222b", uri_of(names[place - 1], "3m2222222222b"))
    # Two that reply to each other, below another root.
    root = uri_of("cyd", "3m2222222222c")
    world.write("cyd", POST, {"text": "root"}, "3m2222222222c")
    answer(world, "ann", "3m2222222222d", uri_of("ben", "3m2222222222d"), root)
    answer(world, "ben", "3m2222222222d", uri_of("ann", "3m2222222222d"), root)
    answer(world, "dot", "3m2222222222d", uri_of("ann", "3m2222222222d"), root)
