"""The plan of the demo network: size, determinism, validity."""

from __future__ import annotations

import random
import struct
import zlib
from collections import Counter

import pytest

from demo.pictures import draw_avatar
from demo.plan import (
    Address,
    DemoNetwork,
    DidOf,
    Picture,
    StrongRef,
    UriOf,
    fill_in,
    pictures_in,
)
from demo.records import plan_network
from demo.text import Link, Mention, Tag, compose
from feeds.registry import FEEDS
from protocol.syntax import is_handle, is_nsid, is_record_key, parse_tid, tid_time_us

NOW = 1_700_000_000_000_000
DOMAINS = (".a.test", ".b.test")


def plan(seed: int = 1) -> DemoNetwork:
    return plan_network(
        seed=seed, now_us=NOW, domains=DOMAINS, provider="did:web:localhost%3A2580"
    )


@pytest.fixture(scope="module")
def network() -> DemoNetwork:
    return plan()


def test_plan_has_the_promised_size(network: DemoNetwork) -> None:
    assert len(network.accounts) >= 200
    assert len(network.drafts) >= 5_000
    kinds = Counter(draft.address.collection for draft in network.drafts)
    assert len(kinds) >= 13
    assert kinds["app.bsky.feed.generator"] == len(FEEDS)
    assert Counter(account.server for account in network.accounts).keys() == {0, 1}
    assert len({account.language.code for account in network.accounts}) == 8


def test_plan_is_deterministic(network: DemoNetwork) -> None:
    assert plan() == network
    assert plan(seed=2) != network


def test_plan_addresses_are_valid_and_unique(network: DemoNetwork) -> None:
    addresses = [draft.address for draft in network.drafts]
    assert len(set(addresses)) == len(addresses)
    assert all(is_nsid(address.collection) for address in addresses)
    assert all(is_record_key(address.rkey) for address in addresses)
    handles = {account.handle for account in network.accounts}
    assert len(handles) == len(network.accounts)
    assert all(is_handle(handle) for handle in handles)


def refs(value: object) -> list[Address]:
    match value:
        case dict():
            return [address for v in value.values() for address in refs(v)]
        case list():
            return [address for v in value for address in refs(v)]
        case StrongRef(address):
            return [address]
        case _:
            return []


def test_strong_references_go_to_earlier_rounds(network: DemoNetwork) -> None:
    rounds = {draft.address: draft.round for draft in network.drafts}
    referring = 0
    for draft in network.drafts:
        for address in refs(draft.record):
            referring += 1
            assert rounds[address] < draft.round
    assert referring > 3_000


def test_replies_come_after_their_parents(network: DemoNetwork) -> None:
    times = {
        draft.address: tid_time_us(parse_tid(draft.address.rkey))
        for draft in network.drafts
        if draft.address.collection == "app.bsky.feed.post"
    }
    for draft in network.drafts:
        if "reply" in draft.record:
            parent = draft.record["reply"]["parent"].address
            assert times[draft.address] >= times[parent]
    assert max(times.values()) <= NOW


def test_texts_fit_into_posts(network: DemoNetwork) -> None:
    for draft in network.drafts:
        if draft.address.collection == "app.bsky.feed.post":
            assert 0 < len(draft.record["text"]) <= 300
            assert "{" not in draft.record["text"]


def test_compose_counts_bytes() -> None:
    made = compose(
        ["鳥 ", Tag("野鳥"), " ", Mention("a.test", 7), " ", Link("x", "u:v")]
    )
    raw = made["text"].encode()
    shown = [
        raw[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode()
        for facet in made["facets"]
    ]
    assert shown == ["#野鳥", "@a.test", "x"]
    assert made["facets"][1]["features"][0]["did"] == DidOf(7)
    assert compose(["plain"]) == {"text": "plain"}


def test_fill_in_replaces_placeholders() -> None:
    post = Address(1, "app.bsky.feed.post", "3k")
    picture = Picture(b"png")
    value = {
        "a": [DidOf(1), UriOf(post)],
        "b": {"c": StrongRef(post), "d": picture},
        "e": 5,
    }
    filled = fill_in(
        value, {1: "did:plc:x"}, {post: "bafy"}, lambda png: {"b": len(png)}
    )
    uri = "at://did:plc:x/app.bsky.feed.post/3k"
    assert filled == {
        "a": ["did:plc:x", uri],
        "b": {"c": {"uri": uri, "cid": "bafy"}, "d": {"b": 3}},
        "e": 5,
    }
    assert pictures_in(value) == [b"png"]


def test_draw_avatar_returns_a_png() -> None:
    png = draw_avatar(random.Random(1))
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    data = png[png.index(b"IDAT") + 4 : png.index(b"IEND") - 8]
    assert len(zlib.decompress(data)) == height * (1 + 3 * width)
