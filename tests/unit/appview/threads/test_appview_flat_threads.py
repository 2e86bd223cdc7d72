"""Flat threads: items, their order, their placeholders, and the other replies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, serve_world
from small_world import did
from thread_world import fill

V2 = "app.bsky.unspecced.getPostThreadV2"
OTHER = "app.bsky.unspecced.getPostThreadOtherV2"
POST = "app.bsky.unspecced.defs#threadItemPost"


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill) as provider:
        provider.post("app.bsky.graph.muteActor", {"actor": did("mut")}, viewer="vera")
        yield provider
    databases.drop(url)


def items(provider: Provider, anchor: str, **params: Any) -> list[dict[str, Any]]:
    uri = provider.uris.get(anchor, anchor)
    found = provider.get(V2, anchor=uri, **params)["thread"]
    assert isinstance(found, list)
    return found


def name_of(item: dict[str, Any]) -> str:
    """Return the text of an item's post, or the kind of a placeholder."""
    value = item["value"]
    if value["$type"] == POST:
        return str(value["post"]["record"]["text"])
    return str(value["$type"].rpartition("#threadItem")[2])


def outline(found: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(item["depth"], name_of(item)) for item in found]


def value_of(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item["value"] for item in found if name_of(item) == name)


def below_root(provider: Provider, **params: Any) -> list[str]:
    found = items(provider, "root", below=1, **params)
    assert (found[0]["depth"], name_of(found[0])) == (0, "root")
    assert {item["depth"] for item in found[1:]} <= {1}
    return [name_of(item) for item in found[1:]]


@pytest.mark.parametrize(
    ("sort", "others"),
    [
        ("oldest", ["old", "liked", "muted"]),
        ("newest", ["muted", "liked", "old"]),
        # A like by the author of the thread weighs more.
        ("top", ["old", "liked", "muted"]),
        ("unknown", ["muted", "liked", "old"]),
    ],
)
def test_replies_are_ranked(provider: Provider, sort: str, others: list[str]) -> None:
    shown = below_root(provider, sort=sort)
    # The thread of the author, then its other replies.
    assert shown[:2] == ["next", "aside"]
    assert [name for name in shown if name in others] == others
    viewed = below_root(provider, sort=sort, viewer="vera")
    assert viewed[:4] == ["next", "aside", "vera", "follows"]
    assert "muted" not in viewed


def test_replies_of_hidden_accounts_are_left_out(provider: Provider) -> None:
    hidden = {"hidden", "muted and hidden", "party", "gone", "wrong root"}
    pin = " \N{PUSHPIN}\n"
    signed_out = below_root(provider)
    assert {*hidden, "shy", "vera", pin}.isdisjoint(signed_out)
    assert {"blocked", "blocking", "muted", "follows"} <= {*signed_out}
    viewed = below_root(provider, viewer="vera")
    left_out = {*hidden, "muted", "blocked", "blocking", pin}
    assert left_out.isdisjoint(viewed)
    assert {"shy", "vera"} <= {*viewed}


def test_other_replies_are_hidden_muted_or_pins(provider: Provider) -> None:
    pin = " \N{PUSHPIN}\n"

    def others(anchor: str, **params: Any) -> list[tuple[str, bool, bool]]:
        found = provider.get(OTHER, anchor=provider.uris[anchor], **params)["thread"]
        assert {item["depth"] for item in found} <= {1}
        flags = ("hiddenByThreadgate", "mutedByViewer")
        return [(name_of(i), *(i["value"][flag] for flag in flags)) for i in found]

    assert others("root") == [
        (pin, False, False),
        ("muted and hidden", True, False),
        ("hidden", True, False),
        ("vera", True, False),
    ]
    assert others("root", viewer="vera") == [
        (pin, False, False),
        ("hidden", True, False),
        ("muted and hidden", True, True),
        ("muted", False, True),
    ]
    assert others("liked") == []
    assert others("blocked", viewer="vera") == []
    missing = f"at://{did('op')}/app.bsky.feed.post/none"
    assert provider.get(OTHER, anchor=missing) == {"thread": []}


def test_other_replies_are_announced(provider: Provider) -> None:
    def announced(anchor: str, **params: Any) -> bool:
        answer = provider.get(V2, anchor=provider.uris[anchor], **params)
        return bool(answer["hasOtherReplies"])

    assert announced("root")
    assert not announced("root", below=0)
    assert not announced("liked")
    assert not announced("another", viewer="vera")


def test_depth_and_branching_limit_the_replies(provider: Provider) -> None:
    found = items(provider, "root", sort="oldest", branchingFactor=2)
    at = next(n for n, item in enumerate(found) if name_of(item) == "liked")
    assert outline(found)[at : at + 5] == [
        (1, "liked"),
        (2, "nested 0"),
        (3, "deep"),
        (4, "deeper"),
        (2, "nested 1"),
    ]
    # Four replies and one across a block are counted; two may be shown.
    assert value_of(found, "liked")["moreReplies"] == 3
    assert value_of(found, "nested 0")["moreReplies"] == 0
    shallow = items(provider, "root", below=1)
    assert value_of(shallow, "liked")["moreReplies"] == 5
    assert value_of(shallow, "root")["moreReplies"] == 0
    alone = items(provider, "root", below=0)
    assert outline(alone) == [(0, "root")]
    bare = items(provider, "root", branchingFactor=0)
    assert {item["depth"] for item in bare} == {0, 1}


def test_parents_are_above_the_anchor(provider: Provider) -> None:
    found = items(provider, "deep")
    assert outline(found) == [
        (-3, "root"),
        (-2, "liked"),
        (-1, "nested 0"),
        (0, "deep"),
        (1, "deeper"),
    ]
    assert not any(item["value"]["moreParents"] for item in found)
    assert outline(items(provider, "deep", above="false"))[0] == (0, "deep")


def test_parents_end_at_a_placeholder(provider: Provider) -> None:
    def above(anchor: str, **params: Any) -> list[tuple[int, str]]:
        return [
            each for each in outline(items(provider, anchor, **params)) if each[0] < 0
        ]

    assert above("below blocked", viewer="vera") == [(-1, "Blocked")]
    assert above("below blocked") == [(-2, "root"), (-1, "blocked")]
    # Ben and the account between block each other.
    assert above("below party") == [(-2, "Blocked"), (-1, "under party")]
    assert above("below shy") == [(-2, "root"), (-1, "NoUnauthenticated")]
    assert above("below shy", viewer="vera") == [(-2, "root"), (-1, "shy")]
    for anchor in ("below gone", "below missing"):
        assert above(anchor) == [(-1, "NotFound")]
    assert above("wrong root") == []


def test_anchor_has_placeholders(provider: Provider) -> None:
    assert outline(items(provider, "blocked", viewer="vera")) == [(0, "Blocked")]
    [blocked] = items(provider, "blocking", viewer="vera")
    assert blocked["value"]["author"] == {
        "did": did("mal"),
        "viewer": {"blockedBy": True},
    }
    assert outline(items(provider, "shy")) == [(-1, "root"), (0, "NoUnauthenticated")]
    for uri in (
        provider.uris["gone"],
        f"at://{did('op')}/app.bsky.feed.post/none",
        f"at://{did('unknown')}/app.bsky.feed.post/none",
        f"at://{did('op')}/app.bsky.feed.like/no-tid",
    ):
        answer = provider.get(V2, anchor=uri)
        assert outline(answer["thread"]) == [(0, "NotFound")]
        assert answer["thread"][0]["uri"] == uri
        assert answer["hasOtherReplies"] is False


def test_posts_of_the_authors_thread_are_numbered(provider: Provider) -> None:
    for anchor in ("root", "last"):
        found = items(provider, anchor)
        values = [i["value"] for i in found if i["value"]["$type"] == POST]
        numbers = {
            v["post"]["record"]["text"]: (
                v["opThread"],
                v.get("opThreadPostIndex"),
                v.get("opThreadPostCount"),
            )
            for v in values
        }
        assert numbers["root"] == (True, 1, 3)
        assert numbers["next"] == (True, 2, 3)
        assert numbers["last"] == (True, 3, 3)
        if anchor == "root":
            assert numbers["aside"] == (False, None, None)
            assert numbers["deep"] == (False, None, None)


def test_single_post_is_a_thread_without_numbers(provider: Provider) -> None:
    [value] = [item["value"] for item in items(provider, "another")]
    assert value["opThread"] is True
    assert "opThreadPostIndex" not in value


@pytest.mark.parametrize("rkey", ["ring-a", "ring-b", "ring-c"])
def test_ring_of_one_author_is_no_thread(provider: Provider, rkey: str) -> None:
    found = items(provider, rkey)
    assert len({item["uri"] for item in found}) == len(found)
    assert not any("opThreadPostIndex" in item["value"] for item in found)


def test_anchor_tells_the_known_likers(provider: Provider) -> None:
    [root] = items(provider, "root", below=0, viewer="vera")
    known = root["value"]["post"]["viewer"]["knownLikers"]
    # Fay and the fans; Mal is counted, but blocks the viewer.
    assert known["count"] == 5
    assert [actor["did"] for actor in known["actors"]] == [did("fay"), did("fan2")]
    [signed_out] = items(provider, "root", below=0)
    assert "viewer" not in signed_out["value"]["post"]
    [unknown] = items(provider, "root", below=0, viewer="unknown")
    assert "knownLikers" not in unknown["value"]["post"]["viewer"]


def test_threadgate_is_beside_every_post_of_its_thread(provider: Provider) -> None:
    for anchor in ("root", "deep"):
        answer = provider.get(V2, anchor=provider.uris[anchor])
        assert answer["threadgate"]["uri"] == provider.uris["gate"]
    assert "threadgate" not in provider.get(V2, anchor=provider.uris["another"])


def test_thread_tells_likes_of_its_author(provider: Provider) -> None:
    uri = provider.uris["old"]
    thread = provider.get("app.bsky.feed.getPostThread", uri=uri)["thread"]
    like = {"rootAuthorLike": provider.uris["op's like"]}
    assert thread["threadContext"] == like
    assert thread["parent"]["threadContext"] == {}
    uri = provider.uris["root"]
    thread = provider.get("app.bsky.feed.getPostThread", uri=uri)["thread"]
    contexts = {
        r["post"]["record"]["text"]: r["threadContext"] for r in thread["replies"]
    }
    assert contexts["old"] == like
    assert contexts["liked"] == {}
