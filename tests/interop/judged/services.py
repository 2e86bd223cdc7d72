"""Labelers, declarations, statuses, verifications, documents, and more lists."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from judged.records import card, quoting
from judged.stage import MISSING_CID, Stage


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def write_labelers(stage: Stage) -> None:
    def labeler(name: str, **fields: Any) -> None:
        policies = {
            "labelValues": ["spam", "rude"],
            "labelValueDefinitions": [
                {
                    "identifier": "rude",
                    "severity": "inform",
                    "blurs": "content",
                    "defaultSetting": "warn",
                    "adultOnly": False,
                    "locales": [{"lang": "en", "name": "Rude", "description": "Not."}],
                }
            ],
        }
        record = {"policies": policies, **fields}
        collection = "app.bsky.labeler.service"
        stage.write(name, collection, record, rkey="self", note=f"labeler {name}")

    labeler(
        "lila",
        reasonTypes=["com.atproto.moderation.defs#reasonSpam"],
        subjectTypes=["account", "record"],
        subjectCollections=["app.bsky.feed.post"],
    )
    labeler("ivan")
    labeler("mallory")
    labeler("carol")
    for name in ("alice", "bob", "dan"):
        stage.like(name, "labeler lila")
    stage.like("dan", "labeler carol")
    stage.say("bob", "look at lila", embed=quoting(stage, "labeler lila"))
    stage.say("bob", "look at a labeler, carol", embed=quoting(stage, "labeler carol"))
    profile = {
        "displayName": "Lila",
        "labels": {
            "$type": "com.atproto.label.defs#selfLabels",
            "values": [{"val": "porn"}, {"val": "!no-unauthenticated"}],
        },
    }
    stage.write("lila", "app.bsky.actor.profile", profile, rkey="self")


def write_declarations(stage: Stage) -> None:
    def declare(name: str, collection: str, **fields: Any) -> None:
        stage.write(name, collection, fields, rkey="self")

    notices = "app.bsky.notification.declaration"
    declare("bob", notices, allowSubscriptions="followers")
    declare("carol", notices, allowSubscriptions="mutuals")
    declare("dan", notices, allowSubscriptions="none")
    chat = "chat.bsky.actor.declaration"
    declare("alice", chat, allowIncoming="following")
    declare("bob", chat, allowIncoming="all", allowGroupInvites="none")
    declare("erin", chat, allowIncoming="none")
    status = "app.bsky.actor.status"
    live = {"status": "app.bsky.actor.status#live"}
    link = card("live")
    stage.write(
        "alice",
        status,
        {**live, "embed": link, "durationMinutes": 240, "createdAt": _now()},
        rkey="self",
    )
    declare("bob", status, **live, durationMinutes=5)  # it was over long ago
    declare("carol", status, **live, embed=card("carol-lives"))


def write_verifications(stage: Stage) -> None:
    def verify(name: str, other: str, **fields: str) -> None:
        record = {
            "subject": stage.did(other),
            "handle": stage.accounts[other].handle,
            "displayName": other.title(),
            **fields,
        }
        collection = "app.bsky.graph.verification"
        stage.write(name, collection, record, note=f"{name} verifies {other}")

    verify("quinn", "bob")
    verify("quinn", "carol", displayName="Another Name")
    verify("quinn", "frank", handle="another.two.test")
    verify("quinn", "peggy")
    verify("quinn", "ivan")
    verify("bob", "alice")  # of no trusted verifier
    verify("quinn", "grace")


def write_documents(stage: Stage) -> None:
    """Write a publication and a document of it, and posts that link to both."""
    publication = {
        "url": "https://wombats.example.com",
        "name": "The Wombat",
        "description": "All about them",
        "icon": stage.upload("grace", b"\x89PNG\r\n\x1a\nicon", "image/png"),
        "basicTheme": {
            "$type": "site.standard.theme.basic",
            **{
                name: {
                    "$type": "site.standard.theme.color#rgb",
                    "r": shade,
                    "g": shade,
                    "b": shade,
                }
                for name, shade in (
                    ("background", 250),
                    ("foreground", 5),
                    ("accent", 90),
                    ("accentForeground", 240),
                )
            },
        },
    }
    site = stage.write(
        "grace", "site.standard.publication", publication, note="publication"
    )
    document = {
        "site": site["uri"],
        "title": "On Burrows",
        "path": "/burrows",
        "description": "They dig",
        "publishedAt": "2026-09-02T00:00:00.000Z",
        "textContent": "They dig a lot. " * 40,
        "tags": ["digging"],
    }
    stage.write("grace", "site.standard.document", document, note="document")
    loose = {**document, "site": "https://elsewhere.example.com", "title": "Loose"}
    stage.write("grace", "site.standard.document", loose, note="loose document")
    external = {
        "uri": "https://wombats.example.com/burrows",
        "title": "a page",
        "description": "as it was",
        "associatedRefs": [stage.refs["document"], stage.refs["publication"]],
    }
    embed = {"$type": "app.bsky.embed.external", "external": external}
    stage.say("bob", "read of burrows", embed=embed)
    missing = {"uri": stage.refs["document"]["uri"] + "x", "cid": MISSING_CID}
    external = {**external, "associatedRefs": [missing]}
    embed = {"$type": "app.bsky.embed.external", "external": external}
    stage.say("bob", "read of nothing", embed=embed)


def write_lists(stage: Stage) -> None:
    """Write lists of several owners, with blocked and gone members, and packs."""

    def make(name: str, note: str, purpose: str, *members: str) -> None:
        record = {
            "name": note,
            "purpose": f"app.bsky.graph.defs#{purpose}",
            "description": f"of {name}",
        }
        stage.write(name, "app.bsky.graph.list", record, note=note)
        for member in members:
            item = {"list": stage.refs[note]["uri"], "subject": stage.did(member)}
            note_of = f"{member} in {note}"
            stage.write(name, "app.bsky.graph.listitem", item, note=note_of)

    everybody = ("alice", "bob", "carol", "dan", "erin", "frank", "grace", "heidi")
    gone = ("judy", "mallory", "niaj", "ivan", "zoe")
    make("alice", "all of them", "curatelist", *everybody, *gone)
    make("alice", "my pests", "modlist", "victor", "frank")
    make("alice", "my first ones", "referencelist", *everybody)
    make("bob", "bob's own", "curatelist", "alice", "carol")
    make("bob", "bob's pests", "modlist", "frank", "heidi")
    make("dan", "of dan", "curatelist", "carol", "bob", "dan")
    make("carol", "empty list", "curatelist")
    make("judy", "of judy", "curatelist", "alice")
    make("erin", "gone list", "curatelist", "alice", "bob")
    stage.say("bob", "look at all of them", embed=quoting(stage, "all of them"))
    stage.write(
        "heidi",
        "app.bsky.graph.listblock",
        {"subject": stage.refs["bob's pests"]["uri"]},
        note="block of pests",
    )
    stage.write(
        "alice", "app.bsky.graph.listblock", {"subject": stage.refs["fools"]["uri"]}
    )

    def pack(name: str, note: str, members: str, *feeds: str) -> None:
        record = {
            "name": note,
            "list": stage.refs[members]["uri"],
            "feeds": [{"uri": stage.refs[feed]["uri"]} for feed in feeds],
        }
        stage.write(name, "app.bsky.graph.starterpack", record, note=note)

    pack("alice", "alice's pack", "my first ones", "feed one", "feed two")
    pack("alice", "a second pack", "my first ones")
    pack("alice", "pack of a curated list", "all of them")
    pack("dan", "pack of dan", "starters", "feed three")
    pack("judy", "pack of judy", "of judy")
    stage.say("bob", "look at the packs", embed=quoting(stage, "alice's pack"))
    for name, note in (("wendy", "alice's pack"), ("olivia", "pack")):
        record = {
            "displayName": name.title(),
            "joinedViaStarterPack": stage.refs[note],
            "createdAt": _now(),
        }
        stage.write(name, "app.bsky.actor.profile", record, rkey="self")


def write_gone_lists(stage: Stage) -> None:
    stage.remove("gone list")
    stage.remove("heidi in all of them")
    stage.remove("block of pests")


def write_mentions(stage: Stage) -> None:
    """Write what notifies: mentions, quotes, replies and reposts of reposts."""

    def mention(name: str, text: str, *others: str, **fields: Any) -> None:
        features = [
            {"$type": "app.bsky.richtext.facet#mention", "did": stage.did(other)}
            for other in others
        ]
        facets = [
            {"index": {"byteStart": n, "byteEnd": n + 1}, "features": [feature]}
            for n, feature in enumerate(features)
        ]
        stage.say(name, text, facets=facets, **fields)

    mention("bob", "to alice and carol", "alice", "carol", "alice")
    mention("dan", "to carol and alice, of dan", "carol", "alice")
    mention("heidi", "to herself and victor", "heidi", "victor")
    mention("victor", "to heidi", "heidi")
    mention("frank", "frank to erin and alice", "erin", "alice")
    again = stage.repost("carol", "note 9 of the wombat")
    stage.write(
        "bob",
        "app.bsky.feed.like",
        {"subject": stage.refs["note 9 of the wombat"], "via": again},
    )
    stage.write(
        "dan",
        "app.bsky.feed.repost",
        {"subject": stage.refs["note 9 of the wombat"], "via": again},
    )


def write_gallery(stage: Stage) -> None:
    items = [
        {
            "$type": "app.bsky.embed.gallery#image",
            "image": stage.upload("alice", b"\x89PNG\r\n\x1a\n%d" % n, "image/png"),
            "alt": f"picture {n}",
            "aspectRatio": {"width": 4, "height": 3},
        }
        for n in range(6)
    ]
    gallery = {"$type": "app.bsky.embed.gallery", "items": items}
    stage.say("alice", "a gallery", embed=gallery)
