"""Questions about lists, packs, timelines, threads, notices and private state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from judged.question import Question
from judged.stage import MISSING_CID, POST, Stage

_FEED: Final = "app.bsky.feed."
_GRAPH: Final = "app.bsky.graph."
_NOTIFICATION: Final = "app.bsky.notification."
_UNSPECCED: Final = "app.bsky.unspecced."
LABELER: Final = "did:example:labeler"
"""The labeler that the reference AppView trusts by default."""
REASONS: Final = (
    "like",
    "repost",
    "follow",
    "mention",
    "reply",
    "quote",
    "starterpack-joined",
    "verified",
    "unverified",
    "like-via-repost",
    "repost-via-repost",
    "subscribed-post",
)
LISTS: Final = (
    "friends",
    "fools",
    "starters",
    "readers",
    "labelled list",
    "all of them",
    "my pests",
    "bob's own",
    "of dan",
    "empty list",
    "of judy",
    "gone list",
)
PACKS: Final = (
    "pack",
    "alice's pack",
    "a second pack",
    "pack of a curated list",
    "pack of dan",
    "pack of judy",
)
QUOTED: Final = (
    "note 5 of the wombat",
    "quote 1",
    "labelled",
    "dan says so",
    "erin says so",
    "frank says so",
    "judy says so",
    "short lived",
    "to be detached",
    "not to be quoted",
    "ivan for members only, a wombat",
    "feed one",
    "friends",
    "pack",
    "labeler lila",
    "labeler carol",
    "bob speaks of a wombat",
)
THREADS: Final = (
    "thread",
    "deep 0",
    "deep 9",
    "self 0",
    "self 1",
    "dan answers",
    "labelled",
    "bob below dan",
    "erin says so",
    "frank to erin",
    "judy says so",
    "ivan for members only, a wombat",
    "gate open",
    "gate nobody",
    "gate list",
    "alice below in gate nobody",
    "short lived",
    "left behind",
    "another root",
    "ring 3kring2222222",
    "ring 3kring2222223",
    "again",
    "no tid",
)


def ask(nsid: str, viewer: str, pages: str = "", /, **params: Any) -> Question:
    """Return a query with its parameters."""
    return Question(nsid, tuple(params.items()), viewer, pages)


def views_of(stage: Stage, viewer: str, thorough: bool) -> Iterator[Question]:
    """Yield the questions of one viewer, or of nobody."""
    yield from _of_lists(stage, viewer)
    yield from _of_actors(stage, viewer, thorough)
    yield from _of_quotes(stage, viewer, thorough)
    yield from _of_threads(stage, viewer, thorough)
    yield from _of_services(stage, viewer)
    yield from _own(stage, viewer)


def _of_lists(stage: Stage, viewer: str) -> Iterator[Question]:
    for note in LISTS:
        uri = stage.refs[note]["uri"]
        yield ask(_GRAPH + "getList", viewer, list=uri)
        yield ask(_GRAPH + "getList", viewer, "items", list=uri, limit=2)
        yield ask(_FEED + "getListFeed", viewer, "feed", list=uri, limit=100)
    uri = stage.refs["all of them"]["uri"]
    yield ask(_FEED + "getListFeed", viewer, "feed", list=uri, limit=30)
    for note in ("friends", "thread"):
        missing = stage.refs[note]["uri"] + "x"
        yield ask(_GRAPH + "getList", viewer, list=missing)
        yield ask(_FEED + "getListFeed", viewer, list=missing)
    packs = [stage.refs[note]["uri"] for note in PACKS]
    for uri in [*packs, packs[0] + "x"]:
        yield ask(_GRAPH + "getStarterPack", viewer, starterPack=uri)
    yield ask(_GRAPH + "getStarterPacks", viewer, uris=[*packs, packs[0] + "x"])
    yield ask(_GRAPH + "getStarterPacks", viewer, uris=[packs[1], packs[0], packs[1]])


def _of_actors(stage: Stage, viewer: str, thorough: bool) -> Iterator[Question]:
    names = list(stage.accounts) if thorough else list(_SHOWN)
    dids = [stage.did(name) for name in names]
    for did in dids:
        for purposes in ([], ["modlist"], ["curatelist"], ["referencelist"]):
            more: dict[str, Any] = {"purposes": purposes} if purposes else {}
            yield ask(_GRAPH + "getLists", viewer, actor=did, **more)
        yield ask(_GRAPH + "getLists", viewer, "lists", actor=did, limit=1)
        yield ask(_GRAPH + "getActorStarterPacks", viewer, actor=did)
        yield ask(
            _GRAPH + "getActorStarterPacks", viewer, "starterPacks", actor=did, limit=1
        )
        yield ask(_FEED + "getActorFeeds", viewer, actor=did)
        yield ask(_FEED + "getActorFeeds", viewer, "feeds", actor=did, limit=1)
        yield ask(_FEED + "getActorLikes", viewer, actor=did)
        yield ask(_FEED + "getActorLikes", viewer, "feed", actor=did, limit=3)
        others = [d for d in stage_dids(stage) if d != did][:30]
        yield ask(_GRAPH + "getRelationships", viewer, actor=did, others=others)
        for sort in ("top", "latest"):
            yield ask(_GRAPH + "getFollowers", viewer, actor=did, sort=sort)
        if viewer:
            yield ask(_GRAPH + "getKnownFollowers", viewer, actor=did)
            yield ask(
                _GRAPH + "getKnownFollowers", viewer, "followers", actor=did, limit=1
            )
            yield ask(_GRAPH + "getListsWithMembership", viewer, actor=did)
            yield ask(
                _GRAPH + "getListsWithMembership",
                viewer,
                "listsWithMembership",
                actor=did,
                limit=1,
            )
            yield ask(_GRAPH + "getStarterPacksWithMembership", viewer, actor=did)
    for actor in ("nobody.one.test", "alice.one.test", f"did:plc:{'b' * 24}"):
        for method in _OF_ACTOR:
            yield ask(method, viewer, actor=actor)


def stage_dids(stage: Stage) -> list[str]:
    return [account.did for account in stage.accounts.values()]


_SHOWN: Final = ("alice", "bob", "dan", "sybil", "judy", "mallory", "ivan", "frank")
_OF_ACTOR: Final = (
    _GRAPH + "getLists",
    _GRAPH + "getActorStarterPacks",
    _GRAPH + "getRelationships",
    _GRAPH + "getKnownFollowers",
    _GRAPH + "getListsWithMembership",
    _GRAPH + "getStarterPacksWithMembership",
    _FEED + "getActorFeeds",
    _FEED + "getActorLikes",
)


def _of_quotes(stage: Stage, viewer: str, thorough: bool) -> Iterator[Question]:
    for note in QUOTED:
        ref = stage.refs[note]
        yield ask(_FEED + "getQuotes", viewer, uri=ref["uri"])
        if thorough:
            yield ask(_FEED + "getQuotes", viewer, "posts", uri=ref["uri"], limit=1)
            yield ask(_FEED + "getQuotes", viewer, uri=ref["uri"], cid=ref["cid"])
            yield ask(_FEED + "getQuotes", viewer, uri=ref["uri"], cid=MISSING_CID)


def _of_threads(stage: Stage, viewer: str, thorough: bool) -> Iterator[Question]:
    notes = THREADS
    uris = [stage.refs[note]["uri"] for note in notes]
    uris.append(f"at://{stage.did('bob')}/{POST}/3kaaaaaaaaaaa")
    if thorough:
        uris += [uri for uri in stage.uris if f"/{POST}/" in uri and uri not in uris]
    for uri in dict.fromkeys(uris):
        yield ask(_UNSPECCED + "getPostThreadV2", viewer, anchor=uri)
        yield ask(_UNSPECCED + "getPostThreadOtherV2", viewer, anchor=uri)
    for note in ("thread", "deep 9", "gate open", "labelled"):
        uri = stage.refs[note]["uri"]
        for sort in ("newest", "oldest", "top"):
            for more in (
                {},
                {"below": 0},
                {"below": 2, "branchingFactor": 1},
                {"below": 20, "branchingFactor": 100},
                {"above": "false", "branchingFactor": 0},
            ):
                yield ask(
                    _UNSPECCED + "getPostThreadV2",
                    viewer,
                    anchor=uri,
                    sort=sort,
                    **more,
                )


def _of_services(stage: Stage, viewer: str) -> Iterator[Question]:
    dids = stage_dids(stage)
    for detailed in ("true", "false"):
        yield ask(
            "app.bsky.labeler.getServices",
            viewer,
            dids=[*dids, dids[0], f"did:plc:{'b' * 24}"],
            detailed=detailed,
        )
    refs = stage.refs
    for uris in (
        [refs["document"]["uri"], refs["publication"]["uri"]],
        [refs["document"]["uri"]],
        [refs["publication"]["uri"]],
        [refs["loose document"]["uri"]],
        [refs["document"]["uri"] + "x"],
        [refs["thread"]["uri"]],
    ):
        yield ask(
            "app.bsky.embed.getEmbedExternalView",
            viewer,
            url="https://wombats.example.com/burrows",
            uris=uris,
        )
    yield ask(_UNSPECCED + "getConfig", viewer)
    yield ask("app.bsky.ageassurance.getConfig", viewer)
    for method in ("searchStarterPacks", "searchStarterPacksV2"):
        for q in ("pack", "start", "nothing at all"):
            yield ask(_GRAPH + method, viewer, q=q)


def _own(stage: Stage, viewer: str) -> Iterator[Question]:
    """Yield what only a viewer may ask; nobody is refused."""
    for limit in (100, 30):
        yield ask(_FEED + "getTimeline", viewer, "feed", limit=limit)
    name = "reverse-chronological"
    yield ask(_FEED + "getTimeline", viewer, "feed", algorithm=name, limit=100)
    for method, name in (
        ("getBlocks", "blocks"),
        ("getMutes", "mutes"),
        ("getListBlocks", "lists"),
        ("getListMutes", "lists"),
    ):
        yield ask(_GRAPH + method, viewer)
        yield ask(_GRAPH + method, viewer, name, limit=1)
    yield ask("app.bsky.bookmark.getBookmarks", viewer)
    yield ask("app.bsky.bookmark.getBookmarks", viewer, "bookmarks", limit=2)
    yield ask("app.bsky.draft.getDrafts", viewer)
    yield ask("app.bsky.draft.getDrafts", viewer, "drafts", limit=1)
    yield ask(_NOTIFICATION + "getPreferences", viewer)
    yield ask(_NOTIFICATION + "getUnreadCount", viewer)
    yield ask(_NOTIFICATION + "getUnreadCount", viewer, priority="true")
    yield ask(_NOTIFICATION + "listActivitySubscriptions", viewer)
    yield ask(
        _NOTIFICATION + "listActivitySubscriptions", viewer, "subscriptions", limit=1
    )
    yield ask(_NOTIFICATION + "listNotifications", viewer, limit=100)
    yield ask(_NOTIFICATION + "listNotifications", viewer, "notifications", limit=6)
    yield ask(_NOTIFICATION + "listNotifications", viewer, priority="true", limit=100)
    for reason in REASONS:
        yield ask(_NOTIFICATION + "listNotifications", viewer, reasons=[reason])
    yield ask("app.bsky.ageassurance.getState", viewer, countryCode="NL")
    yield ask(_UNSPECCED + "getAgeAssuranceState", viewer)


def odd_reads(stage: Stage) -> Iterator[Question]:
    """Yield invalid parameters, and names in other forms."""
    alice = stage.did("alice")
    post, members = stage.refs["thread"]["uri"], stage.refs["friends"]["uri"]
    for viewer, method, params in (
        ("", _GRAPH + "getList", {"list": post}),
        ("", _GRAPH + "getList", {"list": "no uri"}),
        ("", _GRAPH + "getList", {}),
        ("", _GRAPH + "getList", {"list": members, "limit": 101}),
        ("", _GRAPH + "getList", {"list": members, "limit": 1, "cursor": "?"}),
        ("", _GRAPH + "getLists", {"actor": alice, "purposes": ["nonsense"]}),
        ("", _GRAPH + "getLists", {"actor": alice, "cursor": "x"}),
        ("", _GRAPH + "getRelationships", {"actor": alice}),
        ("", _GRAPH + "getRelationships", {"actor": alice, "others": [alice] * 31}),
        ("", _GRAPH + "getRelationships", {"actor": alice, "others": [alice]}),
        ("", _GRAPH + "getRelationships", {"actor": alice, "others": ["bob.one.test"]}),
        ("", _GRAPH + "getStarterPack", {"starterPack": post}),
        ("", _GRAPH + "getStarterPack", {"starterPack": "no uri"}),
        ("", _GRAPH + "getStarterPacks", {"uris": [post]}),
        ("", _GRAPH + "getStarterPacks", {"uris": [members] * 26}),
        ("", _FEED + "getListFeed", {"list": post}),
        ("", _FEED + "getListFeed", {"list": members, "cursor": ""}),
        ("", _FEED + "getQuotes", {"uri": "no uri"}),
        ("", _FEED + "getQuotes", {"uri": post, "limit": 0}),
        ("", _UNSPECCED + "getPostThreadV2", {"anchor": "no uri"}),
        ("", _UNSPECCED + "getPostThreadV2", {"anchor": members}),
        ("", _UNSPECCED + "getPostThreadV2", {"anchor": post, "below": 21}),
        ("", _UNSPECCED + "getPostThreadV2", {"anchor": post, "branchingFactor": 101}),
        ("", _UNSPECCED + "getPostThreadV2", {"anchor": post, "sort": "hot"}),
        ("", _UNSPECCED + "getPostThreadV2", {}),
        ("", _UNSPECCED + "getPostThreadOtherV2", {"anchor": members}),
        ("", "app.bsky.labeler.getServices", {}),
        ("", "app.bsky.labeler.getServices", {"dids": ["no did"]}),
        (alice, _NOTIFICATION + "listNotifications", {"limit": 101}),
        (alice, _NOTIFICATION + "listNotifications", {"reasons": ["nonsense"]}),
        (alice, _NOTIFICATION + "listNotifications", {"cursor": "?"}),
        (
            alice,
            _NOTIFICATION + "listNotifications",
            {"seenAt": "2026-01-01T00:00:00Z"},
        ),
        (alice, _NOTIFICATION + "getUnreadCount", {"seenAt": "2026-01-01T00:00:00Z"}),
        (alice, "app.bsky.ageassurance.getState", {}),
        (alice, "app.bsky.bookmark.getBookmarks", {"limit": 0}),
        (alice, "app.bsky.draft.getDrafts", {"limit": 101}),
        (alice, _FEED + "getTimeline", {"limit": 101}),
        (alice, _FEED + "getTimeline", {"cursor": ""}),
    ):
        yield ask(method, viewer, **params)
    by_handle = post.replace(alice, stage.accounts["alice"].handle)
    yield ask(_UNSPECCED + "getPostThreadV2", "", anchor=by_handle)
    yield ask(_UNSPECCED + "getPostThreadOtherV2", "", anchor=by_handle)
    yield ask(_FEED + "getQuotes", "", uri=by_handle)
    for note, method, name in (
        ("friends", _GRAPH + "getList", "list"),
        ("friends", _FEED + "getListFeed", "list"),
        ("pack", _GRAPH + "getStarterPack", "starterPack"),
    ):
        sybil = stage.accounts["sybil"]
        uri = stage.refs[note]["uri"].replace(sybil.did, sybil.handle)
        yield ask(method, "", **{name: uri})
