from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, serve_world
from small_world import World, did

from appview.hydration import restrictions
from appview.hydration.state import State
from appview.session import RequestContext
from storage.records.addresses import find_addresses

THREAD = "app.bsky.feed.getPostThread"
POSTS = "app.bsky.feed.getPosts"
GATE = "app.bsky.feed.threadgate"
POSTGATE = "app.bsky.feed.postgate"
REPLIERS = ("follower", "followed", "named", "member", "other")
ALLOWED = {
    "open": {*REPLIERS},
    "nobody": set[str](),
    "mentioned": {"named"},
    "followers": {"follower"},
    "following": {"followed"},
    "listed": {"member"},
    "several": {"named", "member"},
}


def _fill(world: World) -> dict[str, str]:
    world.follow("follower", "owner")
    world.follow("owner", "followed")
    purpose = "app.bsky.graph.defs#curatelist"
    members = world.write(
        "owner", "app.bsky.graph.list", {"name": "members", "purpose": purpose}
    )
    world.write(
        "owner", "app.bsky.graph.listitem", {"subject": did("member"), "list": members}
    )
    mention = {"$type": f"{GATE}#mentionRule"}
    listed = {"$type": f"{GATE}#listRule", "list": members}
    rules = {
        "nobody": [],
        "mentioned": [mention],
        "followers": [{"$type": f"{GATE}#followerRule"}],
        "following": [{"$type": f"{GATE}#followingRule"}],
        "listed": [listed],
        "several": [mention, listed],
    }
    uris = {"members": members}
    for kind in ALLOWED:
        uris[kind] = _post(world, "owner", "@named, who may reply?", mentions="named")
        allow = {"allow": rules[kind]} if kind in rules else {}
        _gate(world, GATE, uris[kind], **allow)
        for name in REPLIERS:
            uris[f"{name} {kind}"] = world.reply(name, uris[kind])
        world.reply("owner", uris[kind])
    uris["below"] = world.reply("member", uris["other nobody"], uris["nobody"])
    uris["astray"] = world.reply("other", uris["nobody"], uris["open"])
    uris["late"] = _post(world, "owner", "open at first")
    uris["before"] = world.reply("other", uris["late"])
    _gate(world, GATE, uris["late"], allow=[], hiddenReplies=[uris["before"]])
    uris["after"] = world.reply("other", uris["late"])
    uris["foreign"] = _post(world, "owner", "gated by somebody else")
    _gate(world, GATE, uris["foreign"], name="other", allow=[])
    world.reply("other", uris["foreign"])
    for kind in ("quoted", "closed"):
        uris[kind] = _post(world, "owner", kind)
    uris["kept"] = world.quote("other", uris["quoted"])
    uris["detached"] = world.quote("other", uris["quoted"])
    uris["early"] = world.quote("other", uris["closed"])
    detached = [uris["detached"]]
    _gate(world, POSTGATE, uris["quoted"], detachedEmbeddingUris=detached)
    disable = [{"$type": f"{POSTGATE}#disableRule"}]
    _gate(world, POSTGATE, uris["closed"], embeddingRules=disable)
    uris["forbidden"] = world.quote("other", uris["closed"])
    uris["own"] = world.quote("owner", uris["closed"])
    return uris


def _post(world: World, name: str, text: str, mentions: str = "") -> str:
    facets = [
        {
            "index": {"byteStart": 0, "byteEnd": 6},
            "features": [
                {"$type": "app.bsky.richtext.facet#mention", "did": did(mentions)}
            ],
        }
    ]
    return world.post(name, text, **({"facets": facets} if mentions else {}))


def _gate(
    world: World, kind: str, post: str, name: str = "owner", **fields: Any
) -> None:
    world.write(name, kind, {"post": post, **fields}, post.rsplit("/", 1)[1])


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, _fill, {}) as provider:
        yield provider
    databases.drop(url)


def _thread(provider: Provider, name: str, **params: Any) -> dict[str, Any]:
    found = provider.get(THREAD, uri=provider.uris[name], **params)
    thread: dict[str, Any] = found["thread"]
    return thread


def _authors(thread: dict[str, Any]) -> list[str]:
    handles = [reply["post"]["author"]["handle"] for reply in thread["replies"]]
    return sorted(handle.removesuffix(".test") for handle in handles)


@pytest.mark.parametrize("kind", ALLOWED)
def test_threadgate_filters_and_counts_replies(provider: Provider, kind: str) -> None:
    thread = _thread(provider, kind)
    assert _authors(thread) == sorted({*ALLOWED[kind], "owner"})
    assert thread["post"]["replyCount"] == len(thread["replies"])


@pytest.mark.parametrize("kind", ALLOWED)
def test_threadgate_tells_viewers_whether_they_may_reply(
    provider: Provider, kind: str
) -> None:
    allowed = set()
    for name in (*REPLIERS, "owner"):
        found = provider.get(POSTS, uris=[provider.uris[kind]], viewer=name)
        if not found["posts"][0]["viewer"]["replyDisabled"]:
            allowed.add(name)
    assert allowed == {*ALLOWED[kind], "owner"}


def test_threadgate_is_in_the_views_of_its_thread(provider: Provider) -> None:
    uri = provider.uris["other several"]
    found = provider.get(THREAD, uri=provider.uris["member several"])
    gate = found["threadgate"]
    assert gate["record"]["post"] == provider.uris["several"]
    assert [held["uri"] for held in gate["lists"]] == [provider.uris["members"]]
    assert found["thread"]["parent"]["post"]["threadgate"] == gate
    assert "threadgate" not in found["thread"]["post"]
    assert uri not in str(found)


def test_reply_against_a_threadgate_has_no_reply_reference(provider: Provider) -> None:
    uri = provider.uris["other nobody"]
    thread = _thread(provider, "other nobody", viewer="member")
    assert "parent" not in thread
    assert not thread.get("replies")
    assert thread["post"]["viewer"]["replyDisabled"] is True
    feed = provider.pages("app.bsky.feed.getAuthorFeed", "feed", actor=did("other"))
    items = {item["post"]["uri"]: item for item in feed}
    assert "reply" not in items[uri]
    assert "reply" in items[provider.uris["other open"]]


def test_reply_with_a_wrong_root_obeys_the_gate(provider: Provider) -> None:
    assert provider.uris["astray"] not in str(_thread(provider, "nobody"))


def test_reply_older_than_the_threadgate_stays(provider: Provider) -> None:
    thread = _thread(provider, "late")
    assert [r["post"]["uri"] for r in thread["replies"]] == [provider.uris["before"]]
    assert thread["post"]["replyCount"] == 1


def test_threadgate_of_another_account_has_no_effect(provider: Provider) -> None:
    assert _authors(_thread(provider, "foreign")) == ["other"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("kept", "viewRecord"),
        ("detached", "viewDetached"),
        ("early", "viewRecord"),
        ("forbidden", "viewDetached"),
        ("own", "viewRecord"),
    ],
)
def test_postgate_detaches_quotes(provider: Provider, name: str, kind: str) -> None:
    post = provider.get(POSTS, uris=[provider.uris[name]])["posts"][0]
    assert post["embed"]["record"]["$type"] == f"app.bsky.embed.record#{kind}"


def test_postgate_tells_viewers_whether_they_may_quote(provider: Provider) -> None:
    uris = [provider.uris[name] for name in ("quoted", "closed")]

    def disabled(viewer: str) -> list[bool]:
        posts = provider.get(POSTS, uris=uris, viewer=viewer)["posts"]
        return [post["viewer"]["embeddingDisabled"] for post in posts]

    assert disabled("other") == [False, True]
    assert disabled("owner") == [False, False]


def test_gates_of_one_page_do_not_open_threads_of_the_next(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Room for one gate at a time, but not for two.
    monkeypatch.setattr(restrictions, "MAX_GATE_ITEMS", 8)
    with RequestContext(provider.app, POSTS).session() as session:
        state = State(session)
        for kind in ("nobody", "mentioned", "followers"):
            uri = provider.uris[kind]
            root = find_addresses(session.conn, [uri])[uri]
            state.load_posts([root])
            assert state.restrictions.threadgate(root) is not None, kind
