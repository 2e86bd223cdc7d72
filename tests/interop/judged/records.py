"""Profiles, graph, posts, media and named records of the judged accounts."""

from __future__ import annotations

from typing import Any, Final

from judged.stage import MISSING_CID, POST, Stage, picture

CAST: Final = {
    "alice": 0,
    "bob": 0,
    "carol": 1,
    "dan": 1,
    "erin": 0,
    "frank": 1,
    "grace": 0,
    "heidi": 0,
    "ivan": 1,
    "judy": 0,
    "mallory": 1,
    "niaj": 0,
    "olivia": 0,
    "peggy": 1,
    "sybil": 0,
    "victor": 1,
    "zoe": 0,
    "lila": 0,
    "quinn": 1,
    "wendy": 1,
}
"""Name and server. Heidi has no profile, zoe writes nothing.

Lila labels, quinn verifies, wendy joined by a starter pack.
"""


def _self_labels(*values: str) -> dict[str, Any]:
    return {
        "$type": "com.atproto.label.defs#selfLabels",
        "values": [{"val": value} for value in values],
    }


def write_profiles(stage: Stage) -> None:
    def profile(name: str, **fields: Any) -> None:
        stage.write(name, "app.bsky.actor.profile", fields, rkey="self")

    profile(
        "alice",
        displayName="Alice of the thousand posts",
        description="Writes.\nA lot: https://example.com #hello",
        avatar=stage.upload("alice", picture(1), "image/png"),
        banner=stage.upload("alice", picture(2), "image/png"),
        pronouns="she/her",
        website="https://alice.example.com",
    )
    profile("bob", displayName="Bob", description="")
    profile("carol", displayName="Carol", labels=_self_labels("porn"))
    profile("dan", displayName="", description="a" * 250)
    profile("erin", displayName="Erin 日本語", description="ก็" * 80)
    profile("frank", createdAt="2023-02-03T04:05:06.789Z", displayName="Frank")
    profile("grace", displayName="Grace", description="👨‍👩‍👧‍👦" * 20)
    profile("ivan", displayName="Ivan", labels=_self_labels("!no-unauthenticated"))
    profile("judy", displayName="Judy")
    profile("mallory", displayName="Mallory")
    profile("niaj", displayName="Niaj")
    profile("olivia", displayName="Olivia", createdAt="1066-10-14T00:00:00.000Z")
    profile("peggy", displayName="Peggy")
    profile("sybil", displayName="Sybil", createdAt="2148-01-01T00:00:00.000Z")
    profile("victor", displayName="Victor")


def write_graph(stage: Stage) -> None:
    for name in CAST:
        if name not in ("alice", "zoe"):
            stage.relate("follow", name, "alice")
    for other in ("bob", "carol", "grace", "heidi", "ivan", "judy", "mallory", "niaj"):
        stage.relate("follow", "alice", other)
    for name, other in (
        ("bob", "carol"),
        ("bob", "dan"),
        ("carol", "bob"),
        ("dan", "bob"),
        ("erin", "bob"),
        ("frank", "bob"),
        ("heidi", "heidi"),  # itself
        ("bob", "zoe"),
        ("victor", "mallory"),
        ("victor", "niaj"),
        ("victor", "judy"),
        ("ivan", "bob"),
    ):
        stage.relate("follow", name, other)
    stage.write(
        "bob", "app.bsky.graph.follow", {"subject": "did:plc:" + "a" * 24}, note=""
    )
    stage.write(
        "bob",
        "app.bsky.graph.follow",
        {"subject": stage.did("victor"), "createdAt": "1999-01-01T00:00:00.000Z"},
    )


def write_posts(stage: Stage) -> None:
    for number in range(12):
        stage.say("alice", f"note {number} of the wombat")
    stage.say("bob", "bob speaks of a wombat")
    text = "hello @bob.one.test, see https://example.com/a?b=c and #wombat"
    encoded = text.encode()

    def span(word: str) -> dict[str, int]:
        start = encoded.index(word.encode())
        return {"byteStart": start, "byteEnd": start + len(word.encode())}

    stage.say(
        "alice",
        text,
        note="with facets",
        langs=["en", "nl"],
        tags=["extra"],
        facets=[
            {
                "index": span(word),
                "features": [{"$type": f"app.bsky.richtext.facet#{kind}", **value}],
            }
            for word, kind, value in (
                ("@bob.one.test", "mention", {"did": stage.did("bob")}),
                (
                    "https://example.com/a?b=c",
                    "link",
                    {"uri": "https://example.com/a?b=c"},
                ),
                ("#wombat", "tag", {"tag": "wombat"}),
            )
        ],
    )
    stage.say("carol", "labelled", labels=_self_labels("nudity", "graphic-media"))
    stage.say("carol", "")
    for name in ("dan", "erin", "frank", "grace", "heidi", "judy", "mallory", "niaj"):
        stage.say(name, f"{name} says so")
    for name in ("bob", "carol", "heidi", "judy", "mallory", "niaj", "victor"):
        stage.like(name, "note 1 of the wombat")
        stage.repost(name, "note 2 of the wombat")
    stage.like("alice", "note 1 of the wombat")
    stage.repost("alice", "note 3 of the wombat")
    stage.repost("alice", "bob speaks of a wombat")
    for name in ("judy", "mallory", "niaj"):
        stage.repost("alice", f"{name} says so")
        stage.like("alice", f"{name} says so")


def write_threads(stage: Stage) -> None:
    stage.say("alice", "thread")
    parent = "thread"
    for number in range(14):
        name = ("alice", "bob", "carol")[number % 3]
        stage.reply(name, f"deep {number}", parent, "thread")
        parent = f"deep {number}"
    for name in ("bob", "carol", "dan", "erin", "frank", "judy", "mallory", "niaj"):
        stage.reply(name, f"{name} answers", "thread", "thread")
    stage.reply("alice", "alice to dan", "dan answers", "thread")
    stage.reply("alice", "alice to herself", "thread", "thread")
    stage.reply("alice", "alice to herself again", "alice to herself", "thread")
    for name in ("judy", "mallory", "niaj"):
        stage.reply("bob", f"bob to {name}", f"{name} answers", "thread")
    # A self-thread, with another account in the middle of a second branch.
    stage.say("bob", "self 0")
    stage.reply("bob", "self 1", "self 0", "self 0")
    stage.reply("bob", "self 2", "self 1", "self 0")
    stage.reply("carol", "carol in self", "self 1", "self 0")
    stage.reply("bob", "bob below carol", "carol in self", "self 0")
    # Parents that are deleted, never existed, or are no posts.
    stage.say("dan", "short lived")
    stage.reply("bob", "middle lived", "short lived", "short lived")
    stage.reply("erin", "left behind", "middle lived", "short lived")
    unknown = f"at://{stage.did('dan')}/{POST}/3kaaaaaaaaaaa"
    for note, uri in (
        ("no parent", unknown),
        ("no author", f"at://did:plc:{'b' * 24}/{POST}/3kaaaaaaaaaaa"),
    ):
        ref = {"uri": uri, "cid": MISSING_CID}
        stage.say("erin", f"reply with {note}", reply={"parent": ref, "root": ref})
    stage.say(
        "erin",
        "another root",
        reply={"parent": stage.refs["thread"], "root": stage.refs["self 0"]},
    )
    # Rings: a post that replies to itself, and three in a circle.
    did = stage.did("erin")
    rings = {"3kring2222222": "3kring2222222"} | {
        "3kring2222223": "3kring2222224",
        "3kring2222224": "3kring2222225",
        "3kring2222225": "3kring2222223",
    }
    for rkey, parent in rings.items():
        ref = {"uri": f"at://{did}/{POST}/{parent}", "cid": MISSING_CID}
        record = {"text": f"ring {rkey}", "reply": {"parent": ref, "root": ref}}
        stage.write("erin", POST, record, rkey=rkey, note=f"ring {rkey}")


def quoting(stage: Stage, note: str) -> dict[str, Any]:
    return {"$type": "app.bsky.embed.record", "record": stage.refs[note]}


def write_quotes(stage: Stage) -> None:
    def quote(name: str, text: str, note: str) -> None:
        stage.say(name, text, embed=quoting(stage, note))

    quote("bob", "quote 1", "note 5 of the wombat")
    quote("carol", "quote 2", "quote 1")
    quote("alice", "quote 3", "quote 2")
    quote("alice", "quote of herself", "note 5 of the wombat")
    for name in ("judy", "mallory", "niaj"):
        quote("bob", f"quote of {name}", f"{name} says so")
    quote("erin", "quote of the short lived", "short lived")
    ref = {"uri": f"at://{stage.did('dan')}/{POST}/3kaaaaaaaaaaa", "cid": MISSING_CID}
    embed = {"$type": "app.bsky.embed.record", "record": ref}
    stage.say("erin", "quote of nothing", embed=embed)
    alice = stage.did("alice")
    ref = {"uri": f"at://{alice}/app.bsky.actor.profile/self", "cid": MISSING_CID}
    embed = {"$type": "app.bsky.embed.record", "record": ref}
    stage.say("erin", "quote of a profile", embed=embed)


def card(word: str) -> dict[str, Any]:
    external = {"uri": f"https://example.com/{word}", "title": word, "description": ""}
    return {"$type": "app.bsky.embed.external", "external": external}


def write_media(stage: Stage) -> None:
    def image(name: str, shade: int, **fields: Any) -> dict[str, Any]:
        blob = stage.upload(name, picture(shade), "image/png")
        return {"image": blob, "alt": f"shade {shade}", **fields}

    images = {
        "$type": "app.bsky.embed.images",
        "images": [
            image("alice", 3, aspectRatio={"width": 3, "height": 2}),
            image("alice", 4, alt=""),
        ],
    }
    stage.say("alice", "with images", embed=images)
    video = {
        "$type": "app.bsky.embed.video",
        "video": stage.upload("alice", b"\0\0\0 ftypisom video", "video/mp4"),
        "alt": "a video",
        "aspectRatio": {"width": 16, "height": 9},
    }
    stage.say("alice", "with a video", embed=video)
    external = {
        "$type": "app.bsky.embed.external",
        "external": {
            "uri": "https://example.com/page",
            "title": "A page",
            "description": "",
            "thumb": stage.upload("alice", picture(5), "image/png"),
        },
    }
    stage.say("alice", "with a card", embed=external)
    stage.say("bob", "with a bare card", embed=card("x"))
    for text, media in (
        ("quote with images", images),
        ("quote with a video", video),
        ("quote with a card", external),
    ):
        both = {
            "$type": "app.bsky.embed.recordWithMedia",
            "record": quoting(stage, "bob speaks of a wombat"),
            "media": media,
        }
        stage.say("alice", text, embed=both)
    stage.say("carol", "quote of a quote with images", embed=quoting(stage, text))
    stage.say("carol", "quote of images", embed=quoting(stage, "with images"))
    stage.say("carol", "quote of a video", embed=quoting(stage, "with a video"))
    stage.reply("alice", "images in a reply", "dan answers", "thread", embed=images)
    unknown = {"$type": "org.example.embed", "thing": 1}
    stage.say("bob", "with an unknown embed", embed=unknown)
    pinned = stage.refs["note 0 of the wombat"]
    stage.write(
        "alice",
        "app.bsky.actor.profile",
        {
            "displayName": "Alice of the thousand posts",
            "description": "Writes.\nA lot: https://example.com #hello",
            "avatar": stage.upload("alice", picture(1), "image/png"),
            "banner": stage.upload("alice", picture(2), "image/png"),
            "pronouns": "she/her",
            "website": "https://alice.example.com",
            "pinnedPost": pinned,
        },
        rkey="self",
    )
    for name, note in (("grace", "bob speaks of a wombat"), ("victor", "short lived")):
        record = {"displayName": name.title(), "pinnedPost": stage.refs[note]}
        stage.write(name, "app.bsky.actor.profile", record, rkey="self")


def write_named(stage: Stage) -> None:
    def make_list(
        name: str, note: str, purpose: str, *members: str, **more: Any
    ) -> None:
        record = {
            "name": note,
            "purpose": f"app.bsky.graph.defs#{purpose}",
            "description": f"about {note}",
            **more,
        }
        stage.write(name, "app.bsky.graph.list", record, note=note)
        for member in members:
            item = {"list": stage.refs[note]["uri"], "subject": stage.did(member)}
            stage.write(name, "app.bsky.graph.listitem", item)

    avatar = stage.upload("sybil", picture(6), "image/png")
    make_list("sybil", "friends", "curatelist", "bob", "carol", "niaj", avatar=avatar)
    make_list("sybil", "fools", "modlist", "frank", "victor", "mallory")
    make_list("sybil", "starters", "referencelist", "alice", "bob", "dan")
    make_list("grace", "readers", "curatelist", "carol", "heidi")
    make_list("sybil", "labelled list", "curatelist", labels=_self_labels("porn"))
    stage.apply(
        "sybil",
        "app.bsky.graph.listitem",
        [{"list": stage.refs["friends"]["uri"], "subject": stage.did("bob")}] * 2,
    )
    stage.write(
        "sybil",
        "app.bsky.graph.starterpack",
        {
            "name": "start here",
            "description": "for everybody",
            "list": stage.refs["starters"]["uri"],
            "feeds": [],
        },
        note="pack",
    )
    for note, more in (
        ("feed one", {"avatar": stage.upload("sybil", picture(7), "image/png")}),
        ("feed two", {"acceptsInteractions": True, "labels": _self_labels("porn")}),
        (
            "feed three",
            {
                "description": "ก็ดี " * 60,
                "contentMode": "app.bsky.feed.defs#contentModeVideo",
                "descriptionFacets": [
                    {
                        "index": {"byteStart": 0, "byteEnd": 3},
                        "features": [
                            {"$type": "app.bsky.richtext.facet#tag", "tag": "one"}
                        ],
                    }
                ],
            },
        ),
    ):
        record = {
            "did": stage.refs["generator"]["uri"],
            "displayName": note,
            "description": f"about {note}",
            **more,
        }
        rkey = note.replace(" ", "-")
        stage.write("sybil", "app.bsky.feed.generator", record, rkey=rkey, note=note)
    for name in ("alice", "bob", "dan", "mallory"):
        stage.like(name, "feed one")
    for note in ("friends", "fools", "pack", "feed one", "feed three"):
        stage.say("bob", f"look at {note}", embed=quoting(stage, note))
    both = {
        "$type": "app.bsky.embed.recordWithMedia",
        "record": quoting(stage, "feed one"),
        "media": card("y"),
    }
    stage.say("alice", "a feed with a card", embed=both)
