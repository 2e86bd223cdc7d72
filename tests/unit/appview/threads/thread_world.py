"""A thread in which every reply stands in one relation to its author or the viewer."""

from __future__ import annotations

from typing import Any

from small_world import World, did

NO_UNAUTHENTICATED = {
    "$type": "com.atproto.label.defs#selfLabels",
    "values": [{"val": "!no-unauthenticated"}],
}
SAME = "2026-11-02T03:04:05.678Z"


def fill(world: World) -> dict[str, str]:
    """Op writes the thread, Vera views it and follows Fay."""
    uris = {"root": world.post("op", "root")}

    def reply(key: str, name: str, parent: str, root: str = "root") -> None:
        uris[key] = world.reply(name, uris[parent], uris[root], key)

    def block(name: str, other: str) -> None:
        world.write(name, "app.bsky.graph.block", {"subject": did(other)})

    profile = {"labels": NO_UNAUTHENTICATED}
    world.write("shy", "app.bsky.actor.profile", profile, "self")
    reply("old", "ann", "root")
    reply("next", "op", "root")
    reply("aside", "op", "root")
    reply("liked", "ben", "root")
    reply("last", "op", "next")
    reply("follows", "fay", "root")
    reply("vera", "vera", "root")
    reply("shy", "shy", "root")
    reply("below shy", "ann", "shy")
    reply("muted", "mut", "root")
    reply("hidden", "hid", "root")
    reply("muted and hidden", "mut", "root")
    reply("under muted", "ann", "muted")
    reply("blocked", "bad", "root")
    reply("blocking", "mal", "root")
    reply("party", "par", "root")
    reply("gone", "dan", "root")
    reply("below gone", "ann", "gone")
    missing = {"uri": f"at://{did('op')}/app.bsky.feed.post/none"}
    missing["cid"] = world.reference(uris["root"])["cid"]
    parts = {"root": world.reference(uris["root"]), "parent": missing}
    uris["below missing"] = world.post("ann", "below missing", reply=parts)
    reply("under party", "par", "liked")
    reply("below party", "ann", "under party")
    reply("below blocked", "ann", "blocked")
    uris["pin"] = world.reply("ann", uris["root"], uris["root"], " \N{PUSHPIN}\n")
    uris["another"] = world.post("ann", "another root")
    reply("wrong root", "ann", "root", "another")
    for number in range(4):
        reply(f"nested {number}", "ann", "liked")
    reply("deep", "op", "nested 0")
    reply("deeper", "ann", "deep")
    block("vera", "bad")
    block("mal", "vera")
    block("par", "op")
    block("ben", "par")
    world.follow("vera", "fay")
    _fill_likes(world, uris)
    gate: dict[str, Any] = {"post": uris["root"]}
    gate["hiddenReplies"] = [uris["hidden"], uris["muted and hidden"], uris["vera"]]
    key = uris["root"].rpartition("/")[2]
    uris["gate"] = world.write("op", "app.bsky.feed.threadgate", gate, key)
    _fill_rings(world, uris)
    return uris


def _fill_likes(world: World, uris: dict[str, str]) -> None:
    for number in range(3):
        name = f"fan{number}"
        world.like(name, uris["liked"])
        world.like(name, uris["root"])
        world.follow("vera", name)
    world.like("fay", uris["root"])
    world.like("mal", uris["root"])
    world.like("ann", uris["root"])
    world.follow("vera", "mal")
    like = {"subject": world.reference(uris["old"])}
    uris["op's like"] = world.write("op", "app.bsky.feed.like", like, "no-tid")


def _fill_rings(world: World, uris: dict[str, str]) -> None:
    """Write a thread of one author that leads back to its root."""
    post = "app.bsky.feed.post"

    def answer(rkey: str, parent: str) -> None:
        there = f"at://{did('rin')}/{post}/"
        cid = world.cid("ann", uris["old"].split("/", 3)[3])
        reply = {
            part: {"uri": there + key, "cid": cid}
            for part, key in (("root", "ring-a"), ("parent", parent))
        }
        record = {"text": rkey, "reply": reply, "createdAt": SAME}
        uris[rkey] = world.write("rin", post, record, rkey)

    answer("ring-a", "ring-c")
    answer("ring-b", "ring-a")
    answer("ring-c", "ring-b")
