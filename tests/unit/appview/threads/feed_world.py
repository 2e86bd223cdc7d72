"""A world for timelines, feeds of lists, likes and quotes."""

from __future__ import annotations

from typing import Any

from small_world import World, did

POST = "app.bsky.feed.post"
SAME = "2026-11-02T03:04:05.678Z"
NO_CID = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"


def missing(name: str, rkey: str = "gone") -> dict[str, str]:
    """Return a reference to a post that does not exist."""
    return {"uri": f"at://{did(name)}/{POST}/{rkey}", "cid": NO_CID}


def _block(world: World, name: str, other: str) -> None:
    world.write(name, "app.bsky.graph.block", {"subject": did(other)})


def fill(world: World) -> dict[str, str]:
    """Vera follows Ann, Ben, Tess, Mal and Bad; Mal blocks her, and she blocks Bad."""
    uris = {"far": world.post("out", "of an account that she does not follow")}
    for name in ("ann", "ben", "tess", "mal", "bad", "dan"):
        world.follow("vera", name)
    _block(world, "mal", "vera")
    _block(world, "vera", "bad")
    _block(world, "ben", "foe")
    uris["anns"] = world.post("ann", "anns")
    uris["reply out"] = world.reply("ann", uris["far"], text="reply out")
    uris["own"] = world.post("vera", "own")
    uris["bad"] = world.post("bad", "bad")
    uris["mal"] = world.post("mal", "mal")
    uris["dan"] = world.post("dan", "dan")
    uris["under bad"] = world.reply("ann", uris["bad"], text="under bad")
    uris["under gone"] = world.post(
        "ann", "under gone", reply={"root": missing("out"), "parent": missing("out")}
    )
    for number in range(5):
        world.post("tess", f"same {number}", createdAt=SAME)
    for number, year in enumerate((1066, 2148)):
        at = f"{year}-06-01T12:00:00.123Z"
        world.write(
            "tess", POST, {"text": f"{year}", "createdAt": at}, f"no-tid-{number}"
        )
    for name in ("ben", "mal", "bad"):
        uris[f"{name} reposts"] = world.repost(name, uris["far"])
    world.repost("ben", uris["mal"])
    world.write("ben", "app.bsky.feed.repost", {"subject": missing("ann")})
    _fill_quotes(world, uris)
    _fill_likes(world, uris)
    _fill_list(world, uris)
    return uris


def _fill_quotes(world: World, uris: dict[str, str]) -> None:
    for name in ("ann", "foe", "mal", "bad", "dan", "out"):
        uris[f"{name} quotes"] = world.quote(name, uris["far"])
    _block(world, "foe", "out")
    card = {"uri": "https://example.com", "title": "", "description": ""}
    media = {"$type": "app.bsky.embed.external", "external": card}
    embed = {
        "$type": "app.bsky.embed.recordWithMedia",
        "record": world.embed(uris["far"]),
        "media": media,
    }
    uris["with media"] = world.post("ben", "with media", embed=embed)
    for number in range(3):
        world.post(
            "tess", f"quote {number}", embed=world.embed(uris["far"]), createdAt=SAME
        )


def _fill_likes(world: World, uris: dict[str, str]) -> None:
    def like(subject: Any, rkey: str = "") -> None:
        world.write("vera", "app.bsky.feed.like", {"subject": subject}, rkey)

    for key in ("anns", "bad", "mal", "dan", "reply out"):
        like(world.reference(uris[key]))
    like(missing("ann"))
    like({"uri": f"at://{did('ann')}/app.bsky.feed.generator/x", "cid": NO_CID})
    like({"uri": "at://", "cid": NO_CID})
    like(world.reference(uris["far"]), "no-tid")
    like(world.reference(uris["anns"]))


def _fill_list(world: World, uris: dict[str, str]) -> None:
    purpose = "app.bsky.graph.defs#curatelist"
    uris["list"] = world.write(
        "foe", "app.bsky.graph.list", {"name": "list", "purpose": purpose}, "my-list"
    )
    item = "app.bsky.graph.listitem"
    for name in ("ann", "ben", "tess", "mal", "bad", "dan", "ann", "nobody"):
        world.write("foe", item, {"subject": did(name), "list": uris["list"]})
    # Only the owner adds members.
    world.write("ann", item, {"subject": did("out"), "list": uris["list"]})
    for name in ("first", "second"):
        uris[name] = world.write(
            "ann",
            "app.bsky.feed.generator",
            {"did": "did:web:feeds.example.com", "displayName": name},
            name,
        )
