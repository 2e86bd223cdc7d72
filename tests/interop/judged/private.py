"""Private state that both indexers are told: mutes, bookmarks, drafts, settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from judged.question import Question
from judged.stage import MISSING_CID, Stage

_GRAPH: Final = "app.bsky.graph."
_BOOKMARK: Final = "app.bsky.bookmark."
_DRAFT: Final = "app.bsky.draft."
_NOTIFICATION: Final = "app.bsky.notification."


def _tell(nsid: str, viewer: str, keeps: str = "", /, **body: Any) -> Question:
    return Question(nsid, viewer=viewer, body=json.dumps(body), keeps=keeps)


def early_acts(stage: Stage) -> Iterator[Question]:
    """Yield what is set before the live commits, which notify by it."""
    yield from _mutes(stage)
    yield from _bookmarks(stage)
    yield from _drafts(stage)
    yield from _subscriptions(stage)


def late_acts(stage: Stage) -> Iterator[Question]:
    """Yield what is set after the live commits."""
    yield from _settings(stage)
    alice, uri = stage.did("alice"), stage.refs["written live"]["uri"]
    cid = stage.refs["written live"]["cid"]
    yield _tell(_BOOKMARK + "createBookmark", alice, uri=uri, cid=cid)


def _mutes(stage: Stage) -> Iterator[Question]:
    def actor(verb: str, name: str, other: str, **fields: Any) -> Question:
        did = stage.did(other)
        nsid = f"{_GRAPH}{verb}Actor"
        return _tell(nsid, stage.did(name), actor=did, **fields)

    yield actor("mute", "heidi", "alice")
    yield actor("mute", "heidi", "bob", onlyReposts=True)
    yield actor("mute", "heidi", "carol", onlyQuoteposts=True)
    yield actor("mute", "heidi", "carol", onlyQuoteposts=True, onlyReposts=True)
    yield actor("mute", "bob", "dan")
    yield actor("mute", "bob", "dan")
    for other in ("niaj", "mallory", "judy", "ivan", "grace"):
        yield actor("mute", "carol", other)
    yield actor("unmute", "carol", "grace")
    yield actor("unmute", "carol", "zoe")
    yield actor("mute", "carol", "carol")
    grace = stage.did("grace")
    for name in ("alice.one.test", "nobody.one.test", f"did:plc:{'b' * 24}", "?"):
        yield _tell(_GRAPH + "muteActor", grace, actor=name)
    yield _tell(_GRAPH + "unmuteActor", grace, actor="nobody.one.test")
    yield _tell(_GRAPH + "muteActor", grace)
    for name, note in (
        ("bob", "fools"),
        ("zoe", "friends"),
        ("zoe", "fools"),
        ("dan", "my pests"),
        ("dan", "starters"),
        ("wendy", "gone list"),
        ("carol", "of judy"),
    ):
        uri = stage.refs[note]["uri"]
        yield _tell(_GRAPH + "muteActorList", stage.did(name), list=uri)
    zoe = stage.did("zoe")
    yield _tell(_GRAPH + "unmuteActorList", zoe, list=stage.refs["fools"]["uri"])
    yield _tell(_GRAPH + "muteActorList", zoe, list="no uri")
    for name, note in (
        ("bob", "thread"),
        ("bob", "self 0"),
        ("alice", "note 4 of the wombat"),
        ("alice", "labelled"),
        ("carol", "self 0"),
    ):
        uri = stage.refs[note]["uri"]
        yield _tell(_GRAPH + "muteThread", stage.did(name), root=uri)
    uri = stage.refs["labelled"]["uri"]
    yield _tell(_GRAPH + "unmuteThread", stage.did("alice"), root=uri)
    yield _tell(_GRAPH + "muteThread", zoe, root="no uri")


def _bookmarks(stage: Stage) -> Iterator[Question]:
    def mark(name: str, note: str, verb: str = "create", **fields: str) -> Question:
        ref = stage.refs[note]
        body = {"uri": ref["uri"], **fields}
        if verb == "create":
            body = {"cid": ref["cid"], **body}
        return _tell(f"{_BOOKMARK}{verb}Bookmark", stage.did(name), **body)

    for name, notes in _MARKED.items():
        for note in notes:
            yield mark(name, note)
    yield mark("alice", "note 1 of the wombat")
    yield mark("alice", "labelled", "delete")
    yield mark("alice", "labelled", "delete")
    yield mark("bob", "with images", cid=MISSING_CID)
    yield mark("bob", "feed one")
    yield mark("bob", "feed one", "delete")
    yield _tell(_BOOKMARK + "createBookmark", stage.did("bob"), uri="no uri", cid="b")
    yield _tell(_BOOKMARK + "createBookmark", stage.did("bob"))
    missing = stage.refs["labelled"]["uri"] + "x"
    yield _tell(
        _BOOKMARK + "createBookmark", stage.did("bob"), uri=missing, cid=MISSING_CID
    )


_MARKED: Final = {
    "alice": (
        "note 1 of the wombat",
        "bob speaks of a wombat",
        "labelled",
        "dan says so",
        "judy says so",
        "mallory says so",
        "niaj says so",
        "short lived",
        "ivan for members only, a wombat",
        "deep 9",
    ),
    "carol": ("dan says so", "labelled", "quote 3", "gate nobody"),
    "dan": ("labelled", "dan quotes carol", "carol quotes dan"),
    "erin": ("frank says so", "frank quotes erin", "erin quotes frank"),
    "heidi": ("note 1 of the wombat", "bob speaks of a wombat"),
}


def _drafts(stage: Stage) -> Iterator[Question]:
    alice = stage.did("alice")
    post = {"text": "a draft of a wombat"}
    image = {"localRef": {"path": "a.png"}, "alt": "a picture"}
    drafts: list[dict[str, Any]] = [
        {"posts": [post]},
        {
            "posts": [{**post, "embedImages": [image]}, {"text": "and more"}],
            "langs": ["en"],
            "deviceId": "device",
            "deviceName": "the blue one",
            "threadgateAllow": [{"$type": "app.bsky.feed.threadgate#mentionRule"}],
            "postgateEmbeddingRules": [{"$type": "app.bsky.feed.postgate#disableRule"}],
        },
        {
            "posts": [
                {**post, "embedRecords": [{"record": stage.refs["labelled"]}]},
                {"text": "", "embedExternals": [{"uri": "https://example.com"}]},
            ]
        },
    ]
    for number, draft in enumerate(drafts):
        name = f"draft {number}"
        yield _tell(_DRAFT + "createDraft", alice, name, draft=draft)
    yield _tell(_DRAFT + "createDraft", stage.did("bob"), "other", draft=drafts[0])
    changed = {"id": "{draft 0}", "draft": {"posts": [{"text": "changed"}]}}
    yield _tell(_DRAFT + "updateDraft", alice, draft=changed)
    yield _tell(_DRAFT + "updateDraft", stage.did("bob"), draft=changed)
    unknown = {"id": "3kaaaaaaaaaaa", "draft": {"posts": [post]}}
    yield _tell(_DRAFT + "updateDraft", alice, draft=unknown)
    yield _tell(_DRAFT + "deleteDraft", alice, id="{draft 1}")
    yield _tell(_DRAFT + "deleteDraft", alice, id="{draft 1}")
    yield _tell(_DRAFT + "deleteDraft", stage.did("bob"), id="{draft 2}")
    yield _tell(_DRAFT + "createDraft", alice, draft={"posts": []})
    yield _tell(_DRAFT + "createDraft", alice, draft={})
    long = {"posts": [{"text": "w" * 20_000}]}
    yield _tell(_DRAFT + "createDraft", alice, draft=long)


def _subscriptions(stage: Stage) -> Iterator[Question]:
    def subscribe(name: str, other: str, *, post: bool, reply: bool) -> Question:
        return _tell(
            _NOTIFICATION + "putActivitySubscription",
            stage.did(name),
            subject=stage.did(other),
            activitySubscription={"post": post, "reply": reply},
        )

    yield subscribe("alice", "bob", post=True, reply=False)
    yield subscribe("alice", "carol", post=True, reply=True)
    yield subscribe("alice", "carol", post=False, reply=False)
    yield subscribe("alice", "carol", post=True, reply=True)
    yield subscribe("bob", "alice", post=True, reply=True)
    yield subscribe("carol", "alice", post=True, reply=True)
    yield subscribe("carol", "dan", post=True, reply=True)
    yield subscribe("heidi", "bob", post=False, reply=True)
    yield subscribe("bob", "heidi", post=False, reply=False)
    yield subscribe("bob", "bob", post=True, reply=True)
    for other in ("judy", "mallory", "niaj", "ivan", "erin"):
        yield subscribe("alice", other, post=True, reply=False)
    yield _tell(
        _NOTIFICATION + "putActivitySubscription",
        stage.did("alice"),
        subject="did:plc:" + "b" * 24,
        activitySubscription={"post": True, "reply": True},
    )


def _settings(stage: Stage) -> Iterator[Question]:
    def put(name: str, **fields: Any) -> Question:
        return _tell(_NOTIFICATION + "putPreferencesV2", stage.did(name), **fields)

    wanted = {"include": "follows", "list": True, "push": False}
    yield put("bob", like=wanted)
    yield put("bob", subscribedPost={"list": False, "push": False})
    yield put("bob", chat={"include": "accepted", "push": False})
    yield put("carol")
    yield put("carol", like={"include": "nobody"})
    yield put("carol", like=True)
    for name, priority in (("erin", True), ("carol", True), ("carol", False)):
        nsid = _NOTIFICATION + "putPreferences"
        yield _tell(nsid, stage.did(name), priority=priority)
    for name, moment in (
        ("alice", "2026-09-01T02:00:00.000Z"),
        ("alice", "2026-09-01T01:00:00.000Z"),
        ("heidi", "2026-09-01T03:30:00.500+01:00"),
        ("frank", "2148-01-01T00:00:00.000Z"),
        ("dan", "1066-10-14T00:00:00.000Z"),
        ("dan", "not a time"),
    ):
        yield _tell(_NOTIFICATION + "updateSeen", stage.did(name), seenAt=moment)
    yield _tell(_NOTIFICATION + "updateSeen", stage.did("dan"))
