"""Links to any target: bigworld.link and blue.microcosm.links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from appview_world import Provider, RefusedError, serve_world
from small_world import World, did

LINKS = "bigworld.link.getBacklinks"
COUNTS = "bigworld.link.getBacklinkCounts"
MICROCOSM = "blue.microcosm.links"
PAGE = "https://example.com/an/article?x=1"
REVIEW = "org.example.review"


def fill(world: World) -> dict[str, str]:
    hello = world.post("alice", "Hello")
    uris = {"hello": hello, "like": world.like("bob", hello)}
    world.like("carol", hello)
    world.like("dan", hello)
    world.follow("bob", "alice")
    card = {"uri": PAGE + "#part", "title": "An article", "description": "…"}
    uris["card"] = world.post(
        "bob",
        "read this",
        embed={"$type": "app.bsky.embed.external", "external": card},
    )
    for number in range(9):
        uris[f"review{number}"] = world.write(
            "carol" if number % 2 else "bob",
            REVIEW,
            {
                "about": world.reference(hello),
                "page": PAGE.replace("https://example", "HTTPS://EXAMPLE")
                if number == 8
                else PAGE,
                "places": [{"$type": "org.example.defs#place", "who": did("alice")}],
                "stars": f"at://{did('eve')}/org.example.stars/{number % 3}",
            },
            f"review-{number}" if number < 4 else "",
        )
    return uris


@pytest.fixture(scope="module")
def served(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    with serve_world(url, fill) as provider:
        yield provider
    databases.drop(url)


def reviews(served: Provider) -> set[str]:
    return {uri for name, uri in served.uris.items() if name.startswith("review")}


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
@pytest.mark.parametrize(
    ("subject", "source"),
    [
        ("hello", f"{REVIEW}:about.uri"),
        (PAGE, f"{REVIEW}:page"),
        (f"{PAGE}#fragment", f"{REVIEW}:page"),
        (did("alice"), f"{REVIEW}:places[org.example.defs#place].who"),
        ("alice.test", REVIEW),
        (f"at://{did('alice')}", REVIEW),
    ],
)
def test_pages_of_backlinks_hold_every_record_once(
    served: Provider, subject: str, source: str, limit: int
) -> None:
    if source.endswith(":page"):
        # Only the scheme's lower case is a web address.
        wanted = reviews(served) - {served.uris["review8"]}
    else:
        wanted = reviews(served)
    asked = {"subject": served.uris.get(subject, subject), "source": source}
    links = served.pages(LINKS, "links", limit=limit, **asked)
    assert len(links) == len(wanted)
    assert {link["uri"] for link in links} == wanted
    for link in links:
        assert link["uri"].split("/")[2:] == [
            link["did"],
            link["collection"],
            link["rkey"],
        ]
    if ":" in source:
        found = served.pages(
            f"{MICROCOSM}.getBacklinks", "records", limit=limit, **asked
        )
        assert {
            f"at://{r['did']}/{r['collection']}/{r['rkey']}" for r in found
        } == wanted


def test_links_of_every_source_are_found(served: Provider) -> None:
    links = served.pages(LINKS, "links", subject=served.uris["hello"], limit=3)
    kinds = {(link["collection"], link["path"]) for link in links}
    assert kinds == {("app.bsky.feed.like", "subject.uri"), (REVIEW, "about.uri")}
    # Dan is deactivated.
    assert len(links) == len({link["uri"] for link in links}) == 11
    links = served.pages(LINKS, "links", subject=PAGE)
    assert served.uris["card"] in {link["uri"] for link in links}


def test_links_of_named_accounts(served: Provider) -> None:
    asked = {"subject": served.uris["hello"], "source": REVIEW}
    links = served.pages(LINKS, "links", did=[did("bob")], limit=2, **asked)
    assert {link["did"] for link in links} == {did("bob")}
    assert len(links) == 5
    assert served.get(LINKS, did=[did("stranger")], **asked) == {"links": []}


def test_counts_by_source(served: Provider) -> None:
    answer = served.get(COUNTS, subject=served.uris["hello"])
    found = {c["source"]: (c["links"], c["accounts"]) for c in answer["counts"]}
    assert found == {
        "app.bsky.feed.like:subject.uri": (3, 3),
        f"{REVIEW}:about.uri": (9, 2),
    }
    assert not any(count["atLeast"] for count in answer["counts"])
    web = served.get(COUNTS, subject=PAGE)["counts"]
    assert {c["source"]: c["links"] for c in web} == {
        "app.bsky.feed.post:embed.external.uri": 1,
        f"{REVIEW}:page": 8,
    }
    one = served.get(COUNTS, subject=did("alice"), source="app.bsky.graph.follow")
    assert [count["links"] for count in one["counts"]] == [1]


def test_microcosm_counts_and_accounts(served: Provider) -> None:
    asked = {
        "subject": served.uris["hello"],
        "source": "app.bsky.feed.like:subject.uri",
    }
    assert served.get(f"{MICROCOSM}.getBacklinksCount", **asked) == {"total": 3}
    dids = served.pages(
        f"{MICROCOSM}.getBacklinkDids", "linking_dids", limit=1, **asked
    )
    assert sorted(dids) == [did("bob"), did("carol")]
    whole = served.get(f"{MICROCOSM}.getBacklinks", **asked)
    assert whole["total"] == 3
    assert len(whole["records"]) == 2


@pytest.mark.parametrize("limit", [1, 2, 16])
def test_many_to_many_counts(served: Provider, limit: int) -> None:
    found = served.pages(
        f"{MICROCOSM}.getManyToManyCounts",
        "counts_by_other_subject",
        subject=served.uris["hello"],
        source=f"{REVIEW}:about.uri",
        pathToOther="stars",
        limit=limit,
    )
    stars = f"at://{did('eve')}/org.example.stars"
    assert found == [
        {"subject": f"{stars}/{number}", "total": 3, "distinct": 2}
        for number in range(3)
    ]
    [only] = served.get(
        f"{MICROCOSM}.getManyToManyCounts",
        subject=served.uris["hello"],
        source=f"{REVIEW}:about.uri",
        pathToOther="places[org.example.defs#place].who",
        did=[did("bob")],
    )["counts_by_other_subject"]
    assert only == {"subject": did("alice"), "total": 5, "distinct": 1}


@pytest.mark.parametrize(
    ("subject", "source", "error"),
    [
        ("nonsense", REVIEW, "InvalidSubject"),
        ("at://x", REVIEW, "InvalidSubject"),
        (did("alice"), "nonsense", "InvalidSource"),
        (did("alice"), ":x", "InvalidSource"),
    ],
)
def test_invalid_subjects_and_sources_are_refused(
    served: Provider, subject: str, source: str, error: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        served.get(LINKS, subject=subject, source=source)
    assert (refused.value.status, refused.value.name) == (400, error)


@pytest.mark.parametrize(
    "subject",
    [
        did("never"),
        "never.example.com",
        f"at://{did('alice')}/org.never.seen/x",
        f"at://{did('alice')}/app.bsky.feed.post/never",
        "https://never.example.com/",
        "https://[",
    ],
)
def test_unknown_subject_has_no_links(served: Provider, subject: str) -> None:
    assert served.get(LINKS, subject=subject) == {"links": []}
    assert served.get(LINKS, subject=subject, source=REVIEW) == {"links": []}
    assert served.get(COUNTS, subject=subject)["counts"] == []
