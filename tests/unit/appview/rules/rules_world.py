"""A world in which every account stands in one relation to the author or the viewer."""

from __future__ import annotations

from typing import Any

from small_world import World, did

NO_UNAUTHENTICATED = {
    "$type": "com.atproto.label.defs#selfLabels",
    "values": [{"val": "!no-unauthenticated"}],
}
RELATIONS = (
    "none",
    "blocking",
    "blockedby",
    "listing",
    "listedby",
    "party",
    "partyof",
    "partylist",
    "partylistof",
    "takedown",
    "suspended",
    "inactive",
    "deleted",
    "opted",
)
"""Accounts by their relation: the viewer blocks or is blocked by the first four, by
record or list; the author the next four."""
STATUSES = {
    "takedown": "takendown",
    "suspended": "suspended",
    "inactive": "deactivated",
}


def fill(world: World) -> dict[str, str]:
    """Write the records of every relation for every place."""
    for name in ("viewer", "author", *RELATIONS):
        profile: dict[str, Any] = {"description": f"wombat {name}"}
        if name == "opted":
            profile["labels"] = NO_UNAUTHENTICATED
        world.write(name, "app.bsky.actor.profile", profile, "self")
    uris = {"topic": world.post("author", "a topic")}
    members = {"name": "all", "purpose": "app.bsky.graph.defs#curatelist"}
    uris["members"] = world.write("author", "app.bsky.graph.list", members)
    world.follow("viewer", "author")
    world.follow("viewer", "nobody")
    world.follow("viewer", "viewer")
    for name in RELATIONS:
        uris[name] = world.post(name, f"quokka {name}")
        uris[f"{name} reply"] = world.reply(name, uris["topic"], uris["topic"])
        uris[f"under {name}"] = world.reply("author", uris[name], uris[name])
        uris[f"quote of {name}"] = world.quote("author", uris[name])
        uris[f"{name} quotes"] = world.quote(name, uris["topic"])
        world.like(name, uris["topic"])
        world.repost(name, uris["topic"])
        world.follow(name, "author")
        world.follow("author", name)
        world.follow("viewer", name)
        world.like("viewer", uris[name])
        member = {"subject": did(name), "list": uris["members"]}
        world.write("author", "app.bsky.graph.listitem", member)
    # A record key that is no TID.
    _block(world, "viewer", "blocking", "my-block")
    _block(world, "blockedby", "viewer")
    _block_by_list(world, "viewer", "listing")
    uris["list"] = _block_by_list(world, "listedby", "viewer")
    _block(world, "author", "party")
    _block(world, "partyof", "author")
    _block_by_list(world, "author", "partylist")
    _block_by_list(world, "partylistof", "author")
    # None of these blocks: a list to read, and one whose owner is taken down.
    _block_by_list(world, "viewer", "none", purpose="curatelist")
    _block_by_list(world, "viewer", "none", owner="takedown")
    return uris


def _block(world: World, name: str, other: str, rkey: str = "") -> None:
    world.write(name, "app.bsky.graph.block", {"subject": did(other)}, rkey)


def _block_by_list(
    world: World, name: str, other: str, purpose: str = "modlist", owner: str = ""
) -> str:
    owner = owner or name
    uri = world.write(
        owner,
        "app.bsky.graph.list",
        {"name": f"list of {name}", "purpose": f"app.bsky.graph.defs#{purpose}"},
    )
    world.write(owner, "app.bsky.graph.listitem", {"subject": did(other), "list": uri})
    world.write(name, "app.bsky.graph.listblock", {"subject": uri})
    return uri
