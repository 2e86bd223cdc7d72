"""Questions to both indexers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from judged.question import Question
from judged.reads import ask as _ask
from judged.reads import odd_reads, views_of
from judged.stage import POST, Stage

VIEWERS: Final = (
    "",
    "alice",
    "bob",
    "carol",
    "dan",
    "erin",
    "frank",
    "grace",
    "heidi",
    "zoe",
)
FILTERS: Final = (
    "posts_with_replies",
    "posts_no_replies",
    "posts_with_media",
    "posts_and_author_threads",
    "posts_with_video",
)
_FEED: Final = "app.bsky.feed."
_ACTOR: Final = "app.bsky.actor."
_GRAPH: Final = "app.bsky.graph."


def questions(stage: Stage, *, whole: bool = False) -> Iterator[Question]:
    """Yield every method × account or record × viewer, with its filters and pages.

    Unless `whole`, questions that hardly depend on the viewer are asked without one.
    """
    for name in VIEWERS:
        viewer = stage.did(name) if name else ""
        thorough = whole or not name
        yield from _of_accounts(stage, viewer, thorough)
        yield from _of_posts(stage, viewer, thorough)
        yield from _of_feeds(stage, viewer)
        yield from _searches(stage, viewer)
        yield from views_of(stage, viewer, thorough)
    yield from _of_records(stage)
    yield from _odd(stage)
    yield from odd_reads(stage)


def sample(asked: Iterable[Question], most: int) -> list[Question]:
    """Return at most `most` questions of each method, spread over viewers and forms."""
    of_method: dict[str, list[Question]] = {}
    for question in asked:
        of_method.setdefault(question.nsid, []).append(question)
    chosen: list[Question] = []
    for found in of_method.values():
        count = min(most, len(found))
        chosen += [found[n * len(found) // count] for n in range(count)]
    return chosen


def repo_questions(stage: Stage, server: str) -> Iterator[Question]:
    """Yield questions about repos, for a PDS and for us."""
    for account in stage.accounts.values():
        if account.server == server:
            for method in ("getLatestCommit", "getRepoStatus"):
                yield _ask(f"com.atproto.sync.{method}", "", did=account.did)


def _of_accounts(stage: Stage, viewer: str, thorough: bool) -> Iterator[Question]:
    dids = [account.did for account in stage.accounts.values()]
    unknown = [f"did:plc:{'b' * 24}", "nobody.one.test"]
    yield _ask(_ACTOR + "getProfiles", viewer, actors=[*dids, *unknown, dids[0]])
    names = [account.handle for account in stage.accounts.values()] + unknown
    for actor in [*dids, *(names if thorough else ())]:
        yield _ask(_ACTOR + "getProfile", viewer, actor=actor)
    for did in [*dids, *(unknown if thorough else ())]:
        for kind in FILTERS:
            yield _ask(
                _FEED + "getAuthorFeed", viewer, actor=did, filter=kind, limit=100
            )
        yield _ask(_GRAPH + "getFollows", viewer, actor=did)
        yield _ask(_GRAPH + "getFollowers", viewer, actor=did)
    for did in dids if thorough else [stage.did(name) for name in ("alice", "bob")]:
        yield _ask(
            _FEED + "getAuthorFeed",
            viewer,
            "feed",
            actor=did,
            limit=7,
            includePins="true",
        )
        for edges in ("follows", "followers"):
            yield _ask(f"{_GRAPH}get{edges.title()}", viewer, edges, actor=did, limit=3)


def _posts(stage: Stage) -> list[str]:
    return list(dict.fromkeys(uri for uri in stage.uris if f"/{POST}/" in uri))


def _of_posts(stage: Stage, viewer: str, thorough: bool) -> Iterator[Question]:
    uris = _posts(stage)
    for start in range(0, len(uris), 25):
        yield _ask(_FEED + "getPosts", viewer, uris=uris[start : start + 25])
    threads = [*uris, f"at://{stage.did('bob')}/{POST}/3kaaaaaaaaaaa"]
    if not thorough:
        threads = [stage.refs[note]["uri"] for note in _THREADS]
    for uri in threads:
        yield _ask(_FEED + "getPostThread", viewer, uri=uri)
    for note in ("thread", "deep 9", "self 1", "left behind") if thorough else ():
        for depth, height in ((0, 0), (1, 1), (2, 3), (1000, 1000)):
            yield _ask(
                _FEED + "getPostThread",
                viewer,
                uri=stage.refs[note]["uri"],
                depth=depth,
                parentHeight=height,
            )
    for note in _LIKED:
        ref = stage.refs[note]
        for method, name in (("getLikes", "likes"), ("getRepostedBy", "repostedBy")):
            yield _ask(_FEED + method, viewer, uri=ref["uri"])
            if thorough:
                yield _ask(_FEED + method, viewer, name, uri=ref["uri"], limit=2)
                yield _ask(_FEED + method, viewer, uri=ref["uri"], cid=ref["cid"])


_THREADS: Final = (
    "thread",
    "deep 9",
    "self 1",
    "dan answers",
    "bob to judy",
    "bob to ivan",
    "labelled",
    "bob below dan",
    "erin says so",
    "frank to erin",
    "judy says so",
    "ivan for members only, a wombat",
    "gate open",
    "gate nobody",
    "gate mention",
    "gate followers",
    "gate following",
    "gate list",
    "gate several",
    "alice below in gate nobody",
    "bob quotes to be detached",
    "carol quotes dan",
    "erin quotes frank",
    "quote 3",
    "again",
)
"""Posts whose threads depend on the viewer."""
_LIKED: Final = (
    "note 1 of the wombat",
    "note 2 of the wombat",
    "note 7 of the wombat",
    "note 8 of the wombat",
    "bob speaks of a wombat",
    "labelled",
    "erin says so",
    "short lived",
    "no tid",
    "of 2148",
    "of 1066",
    "feed one",
    "again",
    "ivan for members only, a wombat",
    "judy says so",
    "mallory says so",
)
"""Records that were liked or reposted."""


def _of_feeds(stage: Stage, viewer: str) -> Iterator[Question]:
    feeds = [stage.refs[f"feed {n}"]["uri"] for n in ("one", "two", "three")]
    missing = feeds[0] + "-not"
    yield _ask(_FEED + "getFeedGenerators", viewer, feeds=[*feeds, missing])
    for uri in [*feeds, missing]:
        yield _ask(_FEED + "getFeedGenerator", viewer, feed=uri)
        yield _ask(_FEED + "getFeed", viewer, feed=uri)


def _searches(stage: Stage, viewer: str) -> Iterator[Question]:
    yield _ask(_FEED + "searchPosts", viewer, q="wombat", limit=100)
    yield _ask(_FEED + "searchPosts", viewer, q="speaks", limit=100)
    for q in ("alice", "peggy", "ivan", "mallory", "bob"):
        yield _ask(_ACTOR + "searchActors", viewer, q=q)
        yield _ask(_ACTOR + "searchActorsTypeahead", viewer, q=q)


def _of_records(stage: Stage) -> Iterator[Question]:
    for uri in dict.fromkeys(stage.uris):
        repo, collection, rkey = uri.removeprefix("at://").split("/")
        yield _ask(
            "com.atproto.repo.getRecord",
            "",
            repo=repo,
            collection=collection,
            rkey=rkey,
        )
    yield _ask(
        "com.atproto.repo.getRecord",
        "",
        repo=stage.did("bob"),
        collection=POST,
        rkey="3kaaaaaaaaaaa",
    )
    handles = [account.handle for account in stage.accounts.values()]
    for handle in [*handles, "peggy.two.test", "nobody.one.test"]:
        yield _ask("com.atproto.identity.resolveHandle", "", handle=handle)


def _odd(stage: Stage) -> Iterator[Question]:
    """Yield names in other forms, and invalid parameters."""
    alice, post = stage.accounts["alice"], stage.refs["note 1 of the wombat"]["uri"]
    by_handle = post.replace(alice.did, alice.handle)
    yield _ask(_FEED + "getPosts", "", uris=[by_handle, post])
    yield _ask(_FEED + "getPostThread", "", uri=by_handle)
    yield _ask(_FEED + "getLikes", "", uri=by_handle)
    yield _ask(_FEED + "getRepostedBy", "", uri=by_handle)
    feed = stage.refs["feed one"]["uri"]
    by_handle = feed.replace(stage.did("sybil"), stage.accounts["sybil"].handle)
    yield _ask(_FEED + "getFeedGenerator", "", feed=by_handle)
    yield _ask(_ACTOR + "getProfile", "", actor=alice.handle.upper())
    for method, params in (
        (_ACTOR + "getProfile", {}),
        (_ACTOR + "getProfile", {"actor": "no handle"}),
        (_ACTOR + "getProfile", {"actor": ""}),
        (_ACTOR + "getProfiles", {"actors": ["did:plc:a"] * 26}),
        (_FEED + "getPosts", {"uris": [post] * 26}),
        (_FEED + "getPosts", {"uris": ["not a uri"]}),
        (_FEED + "getPosts", {"uris": [feed]}),
        (_FEED + "getPostThread", {"uri": "not a uri"}),
        (_FEED + "getPostThread", {"uri": feed}),
        (_FEED + "getPostThread", {"uri": post, "depth": -1}),
        (_FEED + "getPostThread", {"uri": post, "depth": 1001}),
        (_FEED + "getPostThread", {"uri": post, "depth": "deep"}),
        (_FEED + "getAuthorFeed", {"actor": alice.did, "limit": 0}),
        (_FEED + "getAuthorFeed", {"actor": alice.did, "limit": 101}),
        (_FEED + "getAuthorFeed", {"actor": alice.did, "limit": 1.5}),
        (_FEED + "getAuthorFeed", {"actor": alice.did, "filter": "no_such_filter"}),
        (_FEED + "getAuthorFeed", {"actor": alice.did, "limit": 5, "cursor": ""}),
        (_FEED + "getAuthorFeed", {"actor": alice.did, "includePins": "maybe"}),
        (_FEED + "getLikes", {"uri": post, "limit": 2, "cursor": ""}),
        (_GRAPH + "getFollows", {"actor": alice.did, "limit": 2, "cursor": ""}),
        (_GRAPH + "getFollows", {"actor": alice.did, "limit": 101}),
        (_FEED + "searchPosts", {"q": ""}),
        (_FEED + "searchPosts", {}),
        (_FEED + "getFeedGenerators", {"feeds": ["not a uri"]}),
        (_FEED + "getFeed", {"feed": post}),
        ("com.atproto.identity.resolveHandle", {"handle": "no handle"}),
        ("com.atproto.repo.getRecord", {"repo": alice.did}),
    ):
        yield _ask(method, "", **params)
