"""The search page: tabs, chips, highlights, errors, odd queries."""

from __future__ import annotations

import html
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from appview_world import serve_world
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape
from small_world import PICTURE, World, did
from small_world import fill as fill_small
from starlette.applications import Starlette

from network.server.listener import serving_in_thread
from search.query.operator_parts import add_operator, find_operators
from search.text.tokens import Clause, tokenize
from service.web.moments import exact_time, short_age, show_moment, show_written
from service.web.richtext import MAX_MARKED, Marks, mark_text, render_text
from service.web.routes import page_routes, show_unknown_paths
from service.web.search_links import fold_fields, make_chips, read_tab, show_total

LONG_WORD = "w" * 3_000
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


def _fill(world: World) -> dict[str, str]:
    uris = fill_small(world)
    image = {"alt": "a green <b>axolotl</b>", "image": PICTURE}
    embed = {"$type": "app.bsky.embed.images", "images": [image]}
    world.post("alice", "<img src=x> lantern", langs=["ja", 5], embed=embed)
    card = {"uri": "https://example.com/", "title": "About lanterns", "description": ""}
    world.post(
        "bob", "a card", embed={"$type": "app.bsky.embed.external", "external": card}
    )
    world.post("bob", LONG_WORD, createdAt="1066-10-14T00:00:00Z")
    world.post("bob", "from the future lantern", createdAt="2148-01-01T00:00:00Z")
    world.post("bob", "lantern \0 with NUL")
    for number in range(30):
        world.post("carol", f"many {number}")
    world.write("bob", "com.example.recipe.dish", {"title": "Lantern <soup>"}, "soup")
    return uris


@pytest.fixture(scope="module")
def site(databases: Any) -> Iterator[str]:
    url = databases.make("index")
    with serve_world(url, _fill) as provider:
        app = Starlette(routes=[*page_routes(provider.app)])
        show_unknown_paths(app, provider.app)
        with serving_in_thread(app) as served:
            yield served
    databases.drop(url)


def read(url: str, status: int = 200) -> str:
    reply = httpx.get(url, timeout=20)
    assert reply.status_code == status, reply.text
    policy = reply.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert " style=" not in reply.text
    assert "<script>" not in reply.text
    return reply.text


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("q=lantern", "&lt;img src=x&gt; <mark>lantern</mark>"),
        ("q=axolotl", "a green &lt;b&gt;<mark>axolotl</mark>&lt;/b&gt;"),
        ("q=lanterns+about", "<mark>About</mark> <mark>lanterns</mark>"),
        ("q=alice&tab=people", "I am <mark>alice</mark>"),
        ("q=alice&kind=people", "I am <mark>alice</mark>"),
        ("q=alice+lang:ja+is:reply&tab=people", "I am <mark>alice</mark>"),
        ("q=carol&tab=people", "<mark>Carol</mark></b>"),
        ("tab=people", 'aria-current="page">People'),
        ("q=foreign&tab=feeds", "<mark>Foreign</mark>"),
        ("q=soup&tab=any", "com.example.recipe.dish"),
        ("q=soup&tab=any", "Lantern &lt;<mark>soup</mark>&gt;"),
        ("q=soup&tab=any&collection=com.example.*", "Lantern"),
        ("q=soup&tab=any&collection=com.example.*", "Remove com.example.*"),
        ("q=soup&tab=any&collection=com.example.other", "Nothing found"),
        ("q=soup&tab=any&collection=<b>", "is neither an NSID nor a prefix"),
        ("q=lantern&tab=any", "&amp;collection=com.example.recipe.dish"),
        ("q=" + LONG_WORD[:200], LONG_WORD),
        ("q=quokka&sort=latest", 'aria-current="page">Latest'),
        ("q=quokka", 'aria-current="page">Top'),
        ("q=quokka&author=alice.test", "from:alice.test"),
        ("q=has:sound", "has:sound is not known"),
        ("q=since:never&tab=any", "is not a date"),
        ("q=%C2%AD", "holds no word"),
        ("q=many", 'rel="next"'),
        ("q=axolotl", "1 post<"),
        ("q=from:bob.test", "14 Oct 1066"),
        ("q=future", "claims 1 Jan 2148, 00:00:00 UTC"),
    ],
)
def test_search_page_shows(site: str, query: str, text: str) -> None:
    assert text in read(f"{site}/?{query}")


def test_search_page_ends_after_all_results(site: str) -> None:
    found: list[str] = []
    path = "/?q=many&tab=latest"
    for _ in range(5):
        page = read(site + path)
        found += [
            part.split("</div>")[0] for part in page.split('dir="auto"><mark>many')[1:]
        ]
        if 'rel="next"' not in page:
            break
        path = "/" + html.unescape(page.split('class="button" href="')[1].split('"')[0])
    assert len(found) == len({*found}) == 30


def test_unknown_path_shows_a_search_box(site: str) -> None:
    for path in ("/nothing", "/static/none.css", "/a/%00/%3Cb%3E", "/" + "x" * 5_000):
        page = read(site + path, 404)
        assert 'role="search"' in page
        assert "<b>" not in page.split("<main")[1]


def test_odd_parameters_are_400(site: str) -> None:
    assert "NUL" in read(f"{site}/?q=%00", 400)
    assert read(f"{site}/?tab=%F0%9F%92%A9&q=quokka")
    assert read(f"{site}/?q={quote('(' * 99)}")
    assert read(f"{site}/?q=quokka&cursor=x")


def test_chips_add_and_remove_operators() -> None:
    chips = make_chips(
        '"a b" -lang:de has:image since:2026-01-01', "latest", ["pt"], NOW
    )
    links = {chip.label: parse_qs(urlsplit(chip.href).query)["q"][0] for chip in chips}
    active = [chip.label for chip in chips if chip.active]
    assert active == ["-lang:de", "has:image", "since:2026-01-01"]
    assert links["-lang:de"] == '"a b" has:image since:2026-01-01'
    assert "Images" not in links
    assert links["Video"] == '"a b" -lang:de has:image since:2026-01-01 has:video'
    assert links["Last day"] == '"a b" -lang:de has:image since:2026-11-30'
    assert [*links][6] == "Portuguese"
    [chip] = make_chips("cats lang:en", "people", (), NOW)
    assert (chip.active, chip.href) == (True, "?q=cats&tab=people")


@pytest.mark.parametrize(
    ("text", "found", "added"),
    [
        ("", [], "has:video"),
        ("a OR b", [], "(a OR b) has:video"),
        ("(a OR lang:de) b", [], "(a OR lang:de) b has:video"),
        ('from: "al" x', ["from"], 'from: "al" x has:video'),
        ("https://x.org 12:30", [], "https://x.org 12:30 has:video"),
        ("“lang:de”", [], "“lang:de” has:video"),
        ("LANG：ja \0", ["lang"], "LANG：ja \0 has:video"),
    ],
)
def test_operators_of_a_query_are_found(
    text: str, found: list[str], added: str
) -> None:
    assert [part.name for part in find_operators(text).operators] == found
    assert add_operator(text, "has:video") == added


@settings(max_examples=60)
@given(text=st.text(st.sampled_from(' "()-:OR|lang:de#@x\0“。'), max_size=40))
def test_operators_lie_in_the_query(text: str) -> None:
    parts = find_operators(text)
    places = [place for part in parts.operators for place in (part.start, part.end)]
    assert places == sorted(places)
    for part in parts.operators:
        assert text[part.start : part.end].lstrip("-").lower().startswith(part.name)
    for chip in make_chips(text, "any", (), NOW):
        assert chip.href.startswith("?q=")


@settings(max_examples=60)
@given(text=st.text(max_size=60), word=st.text(min_size=1, max_size=5))
def test_highlights_keep_the_text(text: str, word: str) -> None:
    marks = Marks(
        [Clause(tuple(tokenize(word)), prefix=True)] if tokenize(word) else []
    )
    shown = str(mark_text(text, marks)).replace("<mark>", "").replace("</mark>", "")
    assert html.unescape(shown) == html.unescape(str(escape(text)))


def test_form_fields_become_operators() -> None:
    asked = {"author": 'a"b c', "lang": "de", "since": "2026-01-01"}
    assert fold_fields("x", asked) == 'x from:"ab c" lang:de since:2026-01-01'
    assert read_tab({"tab": "x"}, True) == "top"
    assert read_tab({}, False) == "latest"


@pytest.mark.parametrize(
    ("total", "shown", "is_whole", "text"),
    [
        (7, 5, True, "5"),
        (None, 25, False, None),
        (99, 25, False, "about 99"),
        (1_234, 25, False, "about 1,200"),
        (987_654_321, 25, False, "about 990,000,000"),
    ],
)
def test_totals_are_rounded(
    total: int | None, shown: int, is_whole: bool, text: str | None
) -> None:
    assert show_total(total, shown, is_whole) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=5), "now"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=3), "3 h"),
        (timedelta(days=2), "2 d"),
        (timedelta(days=30), "1 Nov"),
        (timedelta(days=400), "27 Oct 2025"),
        (timedelta(days=-50_000), "24 Oct 2163"),
        (NOW - datetime(1066, 10, 14, tzinfo=UTC), "14 Oct 1066"),
    ],
)
def test_ages_are_short(age: timedelta, text: str) -> None:
    assert short_age(NOW - age, NOW) == text


def test_odd_times_are_shown() -> None:
    assert show_moment("<b>never", clock=lambda: NOW) == "&lt;b&gt;never"
    assert show_moment("0001-01-01T00:00:00+05:00", clock=lambda: NOW) == "0001-01-01"
    assert exact_time(datetime(33, 4, 3, tzinfo=UTC)) == "3 Apr 33, 00:00:00 UTC"
    view = {"indexedAt": "2026-12-01T09:00:00.000Z", "record": {"createdAt": 7}}
    assert ">3 h<" in show_written(view, clock=lambda: NOW)


def test_marks_join_with_links_of_facets() -> None:
    link = {"$type": "app.bsky.richtext.facet#tag", "tag": "x"}
    index = {"byteStart": 4, "byteEnd": 9}
    record = {"text": "the <big> cat", "facets": [{"index": index, "features": [link]}]}
    marks = Marks([Clause(("big",)), Clause(("ca",), prefix=True)])
    assert render_text(record, marks) == (
        'the <a href="/?q=%23x" rel="nofollow ugc">&lt;<mark>big</mark>&gt;</a>'
        " <mark>cat</mark>"
    )
    assert mark_text("हिन्दी & cat", marks) == "हिन्दी &amp; <mark>cat</mark>"


def test_profile_of_a_world_account_is_reached(site: str) -> None:
    assert "Alice" in read(f"{site}/profile/{did('alice')}")


def test_highlights_of_a_page_are_bounded() -> None:
    marks = Marks([Clause(("cats",))])
    long = "日" * MAX_MARKED + " cats"
    assert "<mark>" not in mark_text(long, marks)
    assert "<mark>" in mark_text("cats", marks)
    for _ in range(100):
        mark_text(long, marks)
    assert mark_text("cats", marks) == "cats"
    assert marks.left == 0
