"""A world of lists, starter packs, blocks, and follows between accounts."""

from __future__ import annotations

from typing import Any

from small_world import World, did

GRAPH = "app.bsky.graph."
DEFS = "app.bsky.graph.defs#"
MEMBERS = ("ann", "ben", "cal", "dee", "bare", "gone", "foe", "hater")
"""Members of Lou's lists: `bare` has no profile, `gone` is deactivated; Lou blocks
`foe`, and `hater` blocks Lou by a list."""


def fill(world: World) -> dict[str, str]:
    """Write everything; return the AT-URIs of single records by name."""
    for name in ("lou", "viv", *MEMBERS):
        if name != "bare":
            profile = {"displayName": name.title(), "description": f"I am {name}"}
            world.write(name, "app.bsky.actor.profile", profile, "self")
    world.post("bare", "no profile")
    uris = {
        "curated": _list(world, "lou", "curatelist"),
        "moderated": _list(world, "lou", "modlist"),
        "reference": _list(world, "lou", "referencelist"),
        # Dated long ago, with a key that is no TID: the oldest.
        "old": _list(world, "lou", "curatelist", "old-one", "1066-10-14T12:00:00Z"),
        "future": _list(world, "lou", "modlist", "", "2148-01-01T00:00:00Z"),
        "empty": _list(world, "viv", "curatelist"),
        "of_gone": _list(world, "gone", "curatelist"),
    }
    for name in MEMBERS:
        for kind in ("curated", "moderated", "reference"):
            uris[f"{name} in {kind}"] = _item(world, "lou", name, uris[kind])
    _item(world, "lou", "ann", uris["curated"])
    # A list of somebody else takes no members from here.
    _item(world, "ann", "ann", uris["empty"])
    uris["viv's"] = _list(world, "viv", "curatelist")
    uris["ann in viv's"] = _item(world, "viv", "ann", uris["viv's"], "ann")
    uris["foe block"] = world.write("lou", f"{GRAPH}block", {"subject": did("foe")})
    hates = _list(world, "hater", "modlist")
    _item(world, "hater", "lou", hates)
    world.write("hater", f"{GRAPH}listblock", {"subject": hates})
    uris["hates"] = hates
    uris["pack"] = _pack(world, "lou", uris["reference"], "first")
    uris["pack2"] = _pack(world, "lou", uris["curated"], "second")
    uris["lost"] = _pack(world, "lou", f"at://{did('lou')}/{GRAPH}list/nothing", "lost")
    uris["viv's pack"] = _pack(world, "viv", uris["viv's"], "mine")
    _blocks(world, uris)
    _follows(world, uris)
    uris["labeler"] = world.write(
        "lou",
        "app.bsky.labeler.service",
        {
            "policies": {"labelValues": ["spam", "rude"]},
            "reasonTypes": ["com.atproto.moderation.defs#reasonSpam"],
            "subjectTypes": ["account", "record", 7],
            "subjectCollections": ["app.bsky.feed.post"],
        },
        "self",
    )
    world.write("ann", "app.bsky.labeler.service", {"policies": {}}, "self")
    return uris


def _list(
    world: World, name: str, purpose: str, rkey: str = "", created: str = ""
) -> str:
    record: dict[str, Any] = {"name": f"{purpose} of {name}"}
    record["purpose"] = f"{DEFS}{purpose}"
    if created:
        record["createdAt"] = created
    return world.write(name, f"{GRAPH}list", record, rkey)


def _item(world: World, name: str, member: str, held: str, rkey: str = "") -> str:
    record = {"subject": did(member), "list": held}
    return world.write(name, f"{GRAPH}listitem", record, rkey)


def _pack(world: World, name: str, held: str, title: str) -> str:
    return world.write(name, f"{GRAPH}starterpack", {"name": title, "list": held})


def _blocks(world: World, uris: dict[str, str]) -> None:
    for name, rkey in (("ben", ""), ("bare", "no-tid"), ("gone", "")):
        block = {"subject": did(name)}
        uris[f"viv blocks {name}"] = world.write("viv", f"{GRAPH}block", block, rkey)
    for kind in ("moderated", "future", "curated", "of_gone"):
        uris[f"viv blocks {kind}"] = world.write(
            "viv", f"{GRAPH}listblock", {"subject": uris[kind]}
        )
    world.write("viv", f"{GRAPH}listblock", {"subject": f"{uris['empty']}x"})


def _follows(world: World, uris: dict[str, str]) -> None:
    """`fan` follows some members, and they follow `star`; `lost` is deleted."""
    world.write("star", "app.bsky.actor.profile", {"displayName": "Star"}, "self")
    world.write("fan", "app.bsky.actor.profile", {"displayName": "Fan"}, "self")
    for name in ("ann", "cal", "bare", "gone", "foe", "hater", "star", "lost"):
        uris[f"fan follows {name}"] = world.follow("fan", name)
    for name in ("ann", "bare", "gone", "foe", "dee", "hater"):
        uris[f"{name} follows star"] = world.follow(name, "star")
    world.follow("ann", "fan")
    world.follow("dee", "cal")
    world.write("star", f"{GRAPH}block", {"subject": did("foe")})
    world.follow("lost", "star")
    world.write("blank", "app.bsky.actor.profile", {"displayName": ""}, "self")
