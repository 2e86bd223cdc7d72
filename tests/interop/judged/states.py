"""Gates, blocks, odd times and keys, and accounts that went."""

from __future__ import annotations

from typing import Any

from reference_network import post

from judged.records import card, quoting
from judged.stage import MISSING_CID, POST, Stage


def write_gates(stage: Stage) -> None:
    def gate(note: str, **fields: Any) -> None:
        ref = stage.refs[note]
        stage.write(
            "grace",
            "app.bsky.feed.threadgate",
            {"post": ref["uri"], **fields},
            rkey=ref["uri"].rpartition("/")[2],
        )

    def rule(kind: str, **fields: str) -> dict[str, str]:
        return {"$type": f"app.bsky.feed.threadgate#{kind}Rule", **fields}

    stage.relate("follow", "grace", "dan")
    readers = rule("list", list=stage.refs["readers"]["uri"])
    rules = {
        "gate open": None,
        "gate nobody": [],
        "gate mention": [rule("mention")],
        "gate followers": [rule("follower")],
        "gate following": [rule("following")],
        "gate list": [readers],
        "gate several": [rule("mention"), rule("following"), readers],
    }
    mention = {
        "index": {"byteStart": 0, "byteEnd": 4},
        "features": [
            {"$type": "app.bsky.richtext.facet#mention", "did": stage.did("bob")}
        ],
    }
    for note, allow in rules.items():
        stage.say("grace", note, facets=[mention] if "mention" in note else [])
        gate(note, **({} if allow is None else {"allow": allow}))
    stage.settle()  # a gate is applied to replies that come after it
    for note in rules:
        for name in ("bob", "carol", "dan", "victor", "grace"):
            stage.reply(name, f"{name} into {note}", note, note)
        stage.reply("alice", f"alice below in {note}", f"bob into {note}", note)
    hidden = stage.refs["carol into gate open"]["uri"]
    gate("gate open", hiddenReplies=[hidden])
    # Invalid gates: of another account's post, of a reply, under another key.
    stage.write(
        "grace",
        "app.bsky.feed.threadgate",
        {"post": stage.refs["self 0"]["uri"], "allow": []},
        rkey=stage.refs["self 0"]["uri"].rpartition("/")[2],
        validate=False,
    )

    def postgate(name: str, note: str, **fields: Any) -> None:
        ref = stage.refs[note]
        stage.write(
            name,
            "app.bsky.feed.postgate",
            {"post": ref["uri"], **fields},
            rkey=ref["uri"].rpartition("/")[2],
        )

    stage.say("grace", "not to be quoted")
    stage.say("grace", "to be detached")
    disable = {"$type": "app.bsky.feed.postgate#disableRule"}
    postgate("grace", "not to be quoted", embeddingRules=[disable])
    stage.settle()
    for name in ("bob", "grace"):
        for note in ("not to be quoted", "to be detached"):
            stage.say(name, f"{name} quotes {note}", embed=quoting(stage, note))
    both = {
        "$type": "app.bsky.embed.recordWithMedia",
        "record": quoting(stage, "to be detached"),
        "media": card("z"),
    }
    stage.say("bob", "detached with media", embed=both)
    detached = ["bob quotes to be detached", "detached with media"]
    postgate(
        "grace",
        "to be detached",
        detachedEmbeddingUris=[stage.refs[note]["uri"] for note in detached],
    )


def write_blocks(stage: Stage) -> None:
    # Records between accounts that block each other later.
    stage.reply("dan", "dan to carol", "labelled", "labelled")
    stage.reply("bob", "bob below dan", "dan to carol", "labelled")
    stage.say("dan", "dan quotes carol", embed=quoting(stage, "labelled"))
    stage.say("carol", "carol quotes dan", embed=quoting(stage, "dan says so"))
    stage.like("dan", "labelled")
    stage.repost("dan", "labelled")
    stage.repost("bob", "labelled")
    stage.relate("follow", "dan", "carol")
    stage.reply("frank", "frank to erin", "erin says so", "erin says so")
    stage.say("frank", "frank quotes erin", embed=quoting(stage, "erin says so"))
    stage.say("erin", "erin quotes frank", embed=quoting(stage, "frank says so"))
    stage.like("frank", "erin says so")
    stage.repost("frank", "erin says so")
    stage.relate("follow", "frank", "erin")
    stage.relate("follow", "erin", "frank")
    stage.relate("block", "carol", "dan")
    # Erin blocks by a list: frank, victor and mallory.
    record = {"subject": stage.refs["fools"]["uri"]}
    stage.write("erin", "app.bsky.graph.listblock", record)
    # Mutual blocks, and a block that was lifted.
    stage.relate("block", "heidi", "victor")
    stage.relate("block", "victor", "heidi")
    stage.relate("block", "bob", "heidi", note="lifted block")
    stage.remove("lifted block")
    # A block by a list that is not for blocks.
    record = {"subject": stage.refs["friends"]["uri"]}
    stage.write("victor", "app.bsky.graph.listblock", record)


def write_opted_out(stage: Stage) -> None:
    stage.say("ivan", "ivan for members only, a wombat")
    stage.reply("ivan", "ivan answers", "thread", "thread")
    stage.reply("bob", "bob to ivan", "ivan answers", "thread")
    note = "ivan for members only, a wombat"
    stage.say("bob", "quote of ivan", embed=quoting(stage, note))
    stage.repost("bob", note)
    stage.like("ivan", "note 1 of the wombat")
    stage.like("bob", note)


def write_times(stage: Stage) -> None:
    for year in ("1066", "1683", "1969", "2023"):
        moment = f"{year}-03-04T05:06:07.890Z"
        stage.say("olivia", f"of {year}", createdAt=moment)
    stage.say("olivia", "of 2148", createdAt="2148-03-04T05:06:07.890Z")
    stage.say("olivia", "with a zone", createdAt="2025-03-04T05:06:07+02:00")
    stage.say("olivia", "with micros", createdAt="2025-03-04T05:06:07.123456Z")
    stage.repost("olivia", "of 2023", createdAt="2023-04-01T00:00:00.000Z")
    stage.repost("olivia", "of 1066", createdAt="1066-12-25T00:00:00.000Z")
    stage.repost("bob", "of 2148", createdAt="2148-12-25T00:00:00.000Z")
    for name in ("bob", "carol"):
        stage.like(name, "of 2148")
    same = "2026-08-08T08:08:08.000Z"
    for number in range(6):
        stage.say("olivia", f"equal {number}", createdAt=same)


def write_keys(stage: Stage) -> None:
    record = {"text": "under a key that is no TID"}
    stage.write("olivia", POST, record, rkey="no-tid", validate=False, note="no tid")
    stage.like("bob", "no tid")
    stage.reply("bob", "to a key that is no TID", "no tid", "no tid")
    for kind in ("like", "repost"):
        like = {"subject": stage.refs["bob speaks of a wombat"]}
        stage.write(
            "olivia", f"app.bsky.feed.{kind}", like, rkey=f"my-{kind}", validate=False
        )
    record = {"subject": stage.did("bob")}
    stage.write(
        "olivia", "app.bsky.graph.follow", record, rkey="my-follow", validate=False
    )
    # A key that says 2148.
    record = {"text": "under a key of 2148"}
    stage.write("olivia", POST, record, rkey="bzzzzzzzzzzzz", note="key of 2148")
    subject = {"subject": stage.refs["bob speaks of a wombat"]}
    stage.write("erin", "app.bsky.feed.repost", subject, rkey="bzzzzzzzzzzzz")


def write_repeats(stage: Stage) -> None:
    subject = stage.refs["note 7 of the wombat"]
    for kind in ("like", "repost"):
        stage.apply("heidi", f"app.bsky.feed.{kind}", [{"subject": subject}] * 3)
    stage.apply("heidi", "app.bsky.graph.follow", [{"subject": stage.did("bob")}] * 3)
    stage.apply("heidi", "app.bsky.graph.block", [{"subject": stage.did("dan")}] * 2)
    # A repost of a repost, and likes of what is no post.
    repost = stage.repost("bob", "note 8 of the wombat")
    stage.refs["a repost"] = stage.repost("alice", "frank says so")
    stage.write("carol", "app.bsky.feed.repost", {"subject": repost})
    stage.write("carol", "app.bsky.feed.like", {"subject": repost})
    # A like of another version of a post.
    other = {"uri": stage.refs["note 8 of the wombat"]["uri"], "cid": MISSING_CID}
    stage.write("dan", "app.bsky.feed.like", {"subject": other})


def write_gone(stage: Stage) -> None:
    stage.like("alice", "short lived")
    stage.repost("alice", "short lived")
    stage.remove("short lived")
    stage.remove("middle lived")
    stage.relate("follow", "zoe", "bob", note="lifted follow")
    stage.remove("lifted follow")


def recreate_records(stage: Stage) -> None:
    did = stage.did("victor")
    stage.write("victor", POST, {"text": "first"}, rkey="3kvictor22222", note="again")
    stage.like("bob", "again")
    stage.repost("bob", "again")
    stage.reply("bob", "to the first", "again", "again")
    stage.settle()
    stage.remove("again")
    stage.write("victor", POST, {"text": "second"}, rkey="3kvictor22222", note="again")
    stage.like("alice", "again")
    assert did in stage.refs["again"]["uri"]


def rename_accounts(stage: Stage) -> None:
    peggy = stage.accounts["peggy"]
    post(
        peggy.server,
        "com.atproto.identity.updateHandle",
        {"handle": "peggy-two.two.test"},
        token=peggy.token,
    )
    peggy.handle = "peggy-two.two.test"
    stage.move_in("trent", "peggy.two.test", 1)
    stage.say("trent", "trent took the name")


def skeleton(stage: Stage) -> dict[str, Any]:
    """Return the response of the foreign feed: all kinds of posts, one twice."""
    notes = (
        "note 1 of the wombat",
        "labelled",
        "note 1 of the wombat",
        "short lived",
        "judy says so",
        "mallory says so",
        "dan says so",
        "frank says so",
        "ivan for members only, a wombat",
        "dan to carol",
        "bob quotes to be detached",
        "alice below in gate nobody",
    )
    feed: list[dict[str, Any]] = [{"post": stage.refs[note]["uri"]} for note in notes]
    feed[0]["feedContext"] = "because"
    feed[7]["reason"] = {
        "$type": "app.bsky.feed.defs#skeletonReasonRepost",
        "repost": stage.refs["a repost"]["uri"],
    }
    feed[8]["reason"] = {"$type": "app.bsky.feed.defs#skeletonReasonPin"}
    return {"feed": feed, "reqId": "request-1"}
