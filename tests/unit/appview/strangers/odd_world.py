"""A world of odd records around the small one: what any client may write."""

from __future__ import annotations

from typing import Any

from appview_world import Provider
from every_method import fill as fill_every
from small_world import World, did

SAME = "2026-11-02T03:04:05.678Z"
YEARS = ("1066-06-01T12:00:00.123Z", "2148-06-01T12:00:00.123Z")
HINDI = "नमस्ते दुनिया की ज़िन्दगी"
GRAPH = "app.bsky.graph."
FANS = [f"fan{number}" for number in range(4)]
"""Accounts without a profile."""


def fill(world: World) -> dict[str, str]:
    """Let every list have equal times, far years, and record keys that are no TID."""
    uris = fill_every(world)
    hello, made = uris["hello"], uris["list"]
    times = [SAME, SAME, *YEARS]
    for number, (fan, at) in enumerate(zip(FANS, times, strict=True)):
        for kind in ("like", "repost"):
            subject = {"subject": world.reference(hello), "createdAt": at}
            world.write(fan, f"app.bsky.feed.{kind}", subject, _key(number))
        for other in ("alice", "carol", *FANS):
            follow = {"subject": did(other), "createdAt": at}
            world.write(fan, f"{GRAPH}follow", follow, f"{other}-{number}")
        world.write("alice", f"{GRAPH}follow", {"subject": did(fan), "createdAt": at})
        embed = world.embed(hello)
        post = {"text": f"quokka {HINDI}", "createdAt": at}
        world.write(fan, "app.bsky.feed.post", post | {"embed": embed}, _key(number))
        reply = {"root": world.reference(hello), "parent": world.reference(hello)}
        world.write(fan, "app.bsky.feed.post", post | {"reply": reply}, f"r{number}")
        member = {"subject": did(fan), "list": made, "createdAt": at}
        world.write("carol", f"{GRAPH}listitem", member, _key(number))
        block = {"subject": did(f"foe{number}"), "createdAt": at}
        world.write("alice", f"{GRAPH}block", block, _key(number))
        world.follow(f"foe{number}", "bob")
        profile = {"displayName": "quokka", "description": HINDI, "createdAt": at}
        world.write(f"foe{number}", "app.bsky.actor.profile", profile, "self")
        for name in ("alice", "carol"):
            _write_named(world, name, number, at, uris)
    _write_ring(world, uris)
    return uris


def _key(number: int) -> str:
    return (":odd~key", "3kaaaaaaaaa2a", "0", "x" * 300)[number]


def _write_named(
    world: World, name: str, number: int, at: str, uris: dict[str, str]
) -> None:
    """Write a list, a feed, a starter pack and a reference to a list."""
    key = f"odd:{number}"
    for purpose in ("curatelist", "modlist"):
        uris[f"{name} {purpose} {number}"] = world.write(
            name,
            f"{GRAPH}list",
            {
                "name": HINDI,
                "purpose": f"app.bsky.graph.defs#{purpose}",
                "createdAt": at,
            },
            f"{purpose}:{number}",
        )
    listed = uris[f"{name} curatelist {number}"]
    feed = {"did": "did:web:x.example", "displayName": HINDI, "createdAt": at}
    world.write(name, "app.bsky.feed.generator", feed, key)
    pack = {"name": f"quokka {HINDI}", "list": listed, "createdAt": at}
    uris[f"{name} pack {number}"] = world.write(name, f"{GRAPH}starterpack", pack, key)
    blocked = {"subject": uris[f"{name} modlist {number}"], "createdAt": at}
    world.write(name, f"{GRAPH}listblock", blocked, key)


def _write_ring(world: World, uris: dict[str, str]) -> None:
    """Write three posts, each a reply to the next."""
    cid = world.reference(uris["hello"])["cid"]
    ring = [f"at://{did('alice')}/app.bsky.feed.post/ring{n}" for n in range(3)]
    for number in range(3):
        above = {"uri": ring[(number + 1) % 3], "cid": cid}
        reply = {"root": above, "parent": above}
        post = {"text": "a ring", "reply": reply, "createdAt": SAME}
        world.write("alice", "app.bsky.feed.post", post, f"ring{number}")
    uris["ring"] = ring[0]


def write_private_state(provider: Provider, viewer: str = "alice") -> None:
    """Let the viewer have several items of every kind of private state."""
    uris = provider.uris
    cid = provider.world.reference(uris["hello"])["cid"]
    calls: list[tuple[str, dict[str, Any]]] = []
    for number, fan in enumerate(FANS):
        calls += [
            (f"{GRAPH}muteActor", {"actor": did(f"foe{number}")}),
            (f"{GRAPH}muteActorList", {"list": uris[f"carol modlist {number}"]}),
            ("app.bsky.draft.createDraft", {"draft": {"posts": [{"text": HINDI}]}}),
            (
                "app.bsky.notification.putActivitySubscription",
                {
                    "subject": did(fan),
                    "activitySubscription": {"post": True, "reply": False},
                },
            ),
        ]
    for name in ("hello", "reply", "quote", "ring", "eves"):
        body = {"uri": uris[name], "cid": cid}
        calls.append(("app.bsky.bookmark.createBookmark", body))
    for nsid, body in calls:
        provider.post(nsid, body, viewer=viewer)
