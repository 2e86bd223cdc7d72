"""Links and rows of records, without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.collections import generic, post
from indexer.collections.app_bsky import list_item_rows, profile_rows
from indexer.collections.post import Media
from indexer.collections.registry import COLLECTIONS, collection_for
from indexer.collections.source import Names, Source, require_time
from indexer.links import MAX_LINKS, find_links, may_link, parse_link
from protocol.data import cbor
from protocol.errors import InvalidRecordError
from protocol.syntax import datetime_us, is_datetime
from storage.collections import MENTION, MENTION_TYPED, PATHS

DID = "did:plc:" + "a" * 24
OTHER = "did:web:example.com"
URI = f"at://{DID}/app.bsky.feed.post/3laaaaaaaaa22"
SOURCE = Source(1, 2, datetime(2026, 3, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (URI, (DID, "app.bsky.feed.post", "3laaaaaaaaa22")),
        (f"at://{OTHER}/org.example.x/self", (OTHER, "org.example.x", "self")),
        (f"at://{DID}/org.example.x/a:b~c", (DID, "org.example.x", "a:b~c")),
        (f"at://{DID}/org.example.x", (DID, "org.example.x", None)),
        (f"at://{DID}", (DID, None, None)),
        (DID, (DID, None, None)),
        ("at://alice.test/app.bsky.feed.post/3laaaaaaaaa22", None),
        (f"at://{DID}/app.bsky.feed.post/3laaaaaaaaa22/more", None),
        (f"at://{DID}/app.bsky.feed.post/", None),
        (f"at://{DID}/app.bsky.feed.post/..", None),
        (f"at://{DID}/nonsid/x", None),
        (f"at://{DID}?x=1", None),
        (f"at://{DID}/space/com.example.forum/main", None),
        (f"at://{DID}/space/com.example.forum/main/{DID}/a.b.c/3k", None),
        (f"{DID}#atproto", None),
        ("did:PLC:x", None),
        ("at://", None),
        ("did:", None),
        ("", None),
    ],
)
def test_parse_link(text: str, target: Any) -> None:
    assert parse_link(text) == target


def test_every_path_is_named() -> None:
    value = {
        "a": URI,
        "b": {"c": [DID, {"d": OTHER}, {"$type": "org.example.t#x", "e": URI}, [DID]]},
        "strange key": {"f": DID},
        "text": f"see {URI}",
        "$type": "org.example.thing",
        "twice": [DID, DID],
    }
    assert [(link[0], link[1]) for link in find_links(value)] == [
        (".a", DID),
        (".b.c[]", DID),
        (".b.c[].d", OTHER),
        (".b.c[org.example.t#x].e", DID),
        (".b.c[][]", DID),
        (".*.f", DID),
        (".twice[]", DID),
    ]


def test_type_names_that_are_data_make_no_path() -> None:
    for name in ("x" * 50 + " not an nsid", "org.example.t#a b", "org.example.t#*"):
        value = {"a": [{"$type": name, "b": DID}]}
        assert [link[0] for link in find_links(value)] == [".a[].b"]


def test_links_of_one_record_are_bounded() -> None:
    dids = [f"did:web:h{n}.example.com" for n in range(MAX_LINKS + 50)]
    assert len(find_links({"a": dids})) == MAX_LINKS


def test_link_beyond_limit_gives_no_row() -> None:
    names = Names({}, {}, {})
    value = {"list": URI, "subject": DID}
    with pytest.raises(InvalidRecordError, match="too many links"):
        list_item_rows(value, SOURCE, names)


texts = st.one_of(
    st.sampled_from([URI, DID, OTHER, f"at://{DID}"]), st.text(max_size=9)
)
values = st.recursive(
    texts | st.integers(-5, 5) | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(value=st.dictionaries(st.text(max_size=6), values, max_size=5))
def test_a_record_with_links_may_link(value: dict[str, Any]) -> None:
    links = find_links(value)
    assert len(set(links)) == len(links)
    if links:
        assert may_link(cbor.encode(value))


@given(value=st.dictionaries(st.text(max_size=6), values, max_size=5))
def test_any_value_gives_rows_or_invalid_record(value: dict[str, Any]) -> None:
    for nsid, module in COLLECTIONS.items():
        shaped = value | {
            "$type": nsid,
            "text": "x",
            "createdAt": "2026-01-01T00:00:00Z",
        }
        links = module.find_links(shaped)
        names = Names(
            {link[1]: 1 for link in links},
            {link[2]: 1 for link in links if link[2]},
            {link[3]: 1 for link in links if link[3]},
        )
        try:
            module.to_rows(shaped, SOURCE, names)
            if module.to_text is not None:
                module.to_text(shaped)
        except InvalidRecordError:
            pass
    generic.to_text(value)


def test_known_paths_are_what_the_walk_gives() -> None:
    reference = {"uri": URI, "cid": "x"}
    features = [
        {"$type": "app.bsky.richtext.facet#mention", "did": DID},
        {"$type": "app.bsky.richtext.facet#link", "uri": "https://example.com/x"},
    ]
    facets = [{"features": features}]
    typed = [{"$type": "app.bsky.richtext.facet", "features": features}]
    card = {"external": {"uri": "https://example.com/x"}}
    samples: list[tuple[str, dict[str, Any]]] = [
        ("app.bsky.feed.post", {"reply": {"root": reference, "parent": reference}}),
        ("app.bsky.feed.post", {"embed": {"record": reference}}),
        ("app.bsky.feed.post", {"embed": {"record": {"record": reference}}}),
        ("app.bsky.feed.post", {"embed": card}),
        ("app.bsky.feed.post", {"embed": {"media": card}}),
        ("app.bsky.feed.post", {"facets": facets}),
        ("app.bsky.feed.post", {"facets": typed}),
        ("app.bsky.feed.like", {"subject": reference, "via": reference}),
        ("app.bsky.feed.repost", {"subject": reference, "via": reference}),
        ("app.bsky.graph.follow", {"subject": DID, "via": reference}),
        ("app.bsky.graph.block", {"subject": DID}),
        ("app.bsky.graph.listitem", {"subject": DID, "list": URI}),
        ("app.bsky.graph.listblock", {"subject": URI}),
        ("app.bsky.graph.starterpack", {"list": URI}),
        ("app.bsky.feed.postgate", {"post": URI}),
        ("app.bsky.feed.threadgate", {"post": URI}),
        ("app.bsky.graph.verification", {"subject": DID}),
        ("app.bsky.actor.profile", {"joinedViaStarterPack": reference}),
    ]
    walked = {(nsid, link[0]) for nsid, value in samples for link in find_links(value)}
    assert walked == set(PATHS.values())
    assert PATHS[MENTION] != PATHS[MENTION_TYPED]


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com",
        "http://example.com/a?b=c#d",
        "https://[::1]:8080/x",
        "https://[broken",
        "https://b\u00fccher.example/\U0001f600",
        "https://user:pass@example.com:99999/",
        "https://example.com/" + "x" * 8_000,
        "https://\0/\ud800",
    ],
)
def test_web_addresses_are_links(text: str) -> None:
    [(path, did, nsid, number)] = find_links({"a": [{"b": text}]})
    assert (path, did, nsid) == (".a[].b", "", None)
    assert isinstance(number, int)
    assert 0 <= number < 2**63
    assert may_link(cbor.encode({"a": text.replace("\ud800", "")}))


@pytest.mark.parametrize(
    "text",
    [
        *("http", "https://", "httpx://a.b", "see https://example.com"),
        *("https://a b", "https://a\nb", "https://" + "x" * 9_000),
    ],
)
def test_other_texts_are_no_web_addresses(text: str) -> None:
    assert find_links({"a": text}) == []


def test_fast_shapes_find_what_the_walk_finds() -> None:
    reference = {"uri": URI, "cid": "x"}
    for nsid, subject in (
        ("app.bsky.feed.like", reference),
        ("app.bsky.feed.repost", reference),
        ("app.bsky.graph.follow", DID),
        ("app.bsky.graph.block", DID),
    ):
        module = collection_for(nsid)
        plain = {"$type": nsid, "createdAt": "x", "subject": subject}
        paths = {number: path for number, (_, path) in PATHS.items()}
        fast = [
            (paths.get(link[0], link[0]), *link[1:])
            for link in module.find_links(plain)
        ]  # type: ignore[call-overload]
        assert fast == find_links(plain)
        assert module.find_links(plain | {"also": DID}) == find_links(
            plain | {"also": DID}
        )
        assert module.find_links(plain | {"subject": 5}) == []
        assert module.find_links(plain | {"subject": {"uri": 5, "cid": 1}}) == []


def test_post_row() -> None:
    value: dict[str, Any] = {
        "$type": "app.bsky.feed.post",
        "text": "x",
        "createdAt": "2027-01-01T00:00:00+02:00",
        "langs": ["en", "pt-BR", 5, "de", "fr"],
        "reply": {"root": {"uri": URI}, "parent": {"uri": URI}},
        "embed": {
            "$type": "app.bsky.embed.recordWithMedia",
            "media": {"$type": "app.bsky.embed.video"},
        },
    }
    names = Names({DID: 7}, {"app.bsky.feed.post": 1}, {"3laaaaaaaaa22": 9})
    [(_, row)] = post.to_rows(value, SOURCE, names)
    created = datetime(2026, 12, 31, 22, tzinfo=UTC)
    media = int(Media.RECORD | Media.VIDEO)
    assert row == (
        *(1, 2, SOURCE.indexed_at, created, SOURCE.indexed_at),
        *(7, 9, 7, 9, media, ["en", "pt-BR", "de"]),
    )


def test_post_text() -> None:
    value = {
        "text": "hello #three, #1",
        "createdAt": "2026-01-01T00:00:00Z",
        "tags": ["one", 5],
        "facets": [
            {
                "features": [
                    {"$type": "app.bsky.richtext.facet#tag", "tag": "two"},
                    {"$type": "app.bsky.richtext.facet#mention", "did": DID},
                    {"$type": "app.bsky.richtext.facet#link", "uri": "https://a.b/c"},
                    "nonsense",
                ]
            },
            "nonsense",
        ],
        "embed": {
            "$type": "app.bsky.embed.recordWithMedia",
            "record": {"record": {"uri": URI}},
            "media": {
                "$type": "app.bsky.embed.images",
                "images": [{"alt": "a cat"}, {"alt": None}],
                "external": {"uri": "https://d.e/", "title": "t", "description": "d"},
            },
        },
    }
    text = post.to_text(value)
    assert text.text == "hello #three, #1"
    assert (text.alt, text.card) == ("a cat", "t\nd")
    assert text.tags == ("one", "two", "three")
    assert text.mentions == (DID,)
    assert text.urls == ("https://a.b/c", "https://d.e/")
    assert text.features == ("media", "images", "link", "quote")
    assert text.quotes == (URI,)


def test_only_self_is_a_profile() -> None:
    assert profile_rows({}, SOURCE, Names({}, {}, {})) == []
    rows = profile_rows(
        {"displayName": ""}, SOURCE._replace(rkey=-1), Names({}, {}, {})
    )
    assert rows[0][1] == (1, None, None, None, None, None, SOURCE.indexed_at)


def test_foreign_list_takes_no_members() -> None:
    value = {"list": URI, "subject": OTHER}
    names = Names({DID: 5, OTHER: 6}, {"app.bsky.feed.post": 1}, {"3laaaaaaaaa22": 9})
    assert list_item_rows(value, SOURCE, names) == []
    [(_, row)] = list_item_rows(value, SOURCE._replace(actor=5), names)
    assert row == (5, 2, 5, 9, 6)


def test_generic_text_is_bounded() -> None:
    text = generic.to_text({"a": ["word " * 10] * 10_000, "title": "t" * 900})
    assert len(text.text) < generic.MAX_TEXT_CHARS + 10_000
    assert len(text.title) == 256


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-02T03:04:05.678Z", datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)),
        ("2026-01-02T03:04:05.1234567890Z", datetime(2026, 1, 2, 3, 4, 5, 123456, UTC)),
        ("0000-06-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", datetime(1, 1, 1, tzinfo=UTC)),
        ("9998-01-01T00:00:00-12:00", datetime(9998, 1, 1, 12, tzinfo=UTC)),
        ("9999-12-31T23:59:59-12:00", datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)),
    ],
)
def test_times(text: str, time: datetime) -> None:
    assert require_time({"createdAt": text}) == time


@given(
    numbers=st.tuples(
        st.integers(0, 9_999),
        *(st.integers(0, most) for most in (14, 33, 25, 61, 61, 999)),
    ),
    form=st.sampled_from(
        [
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:04}Z",
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}+00:00",
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}Z",
        ]
    ),
)
def test_usual_times_parse_like_others(numbers: tuple[int, ...], form: str) -> None:
    text = form.format(*numbers)
    try:
        time = require_time({"createdAt": text})
    except InvalidRecordError:
        assert not is_datetime(text)
        return
    assert is_datetime(text)
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    oldest = datetime(1, 1, 1, tzinfo=UTC)
    assert time == oldest or since // timedelta(microseconds=1) == datetime_us(text)


@pytest.mark.parametrize("text", ["", "2026-02-30T00:00:00Z", "now", 5, None])
def test_bad_times(text: Any) -> None:
    with pytest.raises(InvalidRecordError):
        require_time({"createdAt": text})


def test_gallery_is_of_images_with_texts() -> None:
    item = {"$type": "app.bsky.embed.gallery#image", "alt": "a heron"}
    embed = {"$type": "app.bsky.embed.gallery", "items": [item, {"alt": 1}, 2]}
    text = post.to_text({"text": "t", "embed": embed})
    assert text.alt == "a heron"
    assert {"media", "images"} <= {*text.features}
