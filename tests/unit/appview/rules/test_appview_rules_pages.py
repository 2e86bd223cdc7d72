from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from appview_world import serve_world
from rules_world import NO_UNAUTHENTICATED
from small_world import World, did
from starlette.applications import Starlette

from network.server.listener import serving_in_thread
from service.web.routes import page_routes


@dataclass
class Site:
    url: str
    uris: dict[str, str]

    def read(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as answer:
                return answer.status, _unmarked(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def post(self, name: str) -> tuple[int, str]:
        owner, _, rkey = self.uris[name].removeprefix("at://").split("/")
        return self.read(f"/post/{owner}/{rkey}")


def _unmarked(page: str) -> str:
    """Return a page without the highlights of the searched words."""
    return page.replace("<mark>", "").replace("</mark>", "")


def _fill(world: World) -> dict[str, str]:
    world.write("alice", "app.bsky.actor.profile", {"displayName": "Alice"}, "self")
    world.write("blank", "app.bsky.actor.profile", {"displayName": ""}, "self")
    world.write(
        "opted",
        "app.bsky.actor.profile",
        {"displayName": "Opted", "labels": NO_UNAUTHENTICATED},
        "self",
    )
    uris = {
        "hello": world.post("alice", "hello quokka"),
        "secret": world.post("opted", "secret quokka"),
        "bare": world.post("bare", "bare quokka"),
        "blank": world.post("blank", "blank quokka"),
        "labelled": world.post("alice", "private quokka", labels=NO_UNAUTHENTICATED),
    }

    def reply(name: str, text: str, parent: str) -> str:
        return world.reply(name, uris[parent], text=text)

    # The allowance of profiles, in one record.
    world.write("loud", "app.bsky.actor.profile", {"junk": [{}] * 99_990}, "self")
    uris["loud"] = world.post("loud", "a loud one")
    reply("opted", "secret answer to it", "loud")
    reply("bare", "bare answer to it", "loud")
    uris["to secret"] = reply("alice", "alice answers it", "secret")
    reply("opted", "secret answer", "hello")
    hidden = reply("bare", "hidden answer", "hello")
    reply("bare", "shown answer", "hello")
    uris["quoting"] = world.quote("alice", uris["secret"], "alice quotes it")
    world.repost("alice", uris["secret"])
    world.post("labeler", "I label")
    for name in ("flagged", "removed", "partly"):
        uris[name] = world.post(name, f"wicked quokka of {name}")
        reply(name, "wicked answer", "hello")
    uris["harmless"] = world.post("partly", "harmless quokka")
    world.write(
        "alice",
        "app.bsky.feed.threadgate",
        {"post": uris["hello"], "hiddenReplies": [hidden]},
        uris["hello"].rsplit("/", 1)[1],
    )
    return uris


def _label(url: str) -> None:
    """Let a labeler hide two accounts, and one post of a third."""
    with psycopg.connect(url) as conn:
        conn.execute(
            """
            INSERT INTO label (actor, collection, rkey, src, val, cid, cts, raw)
            SELECT a.id, 0, 0, s.id, l.val, ''::bytea, now(), ''::bytea
            FROM (VALUES (%s, '!hide'), (%s, '!takedown')) AS l (did, val)
            JOIN actor a ON a.did = l.did JOIN actor s ON s.did = %s
            UNION ALL
            SELECT a.id, 1, p.rkey, s.id, '!hide', ''::bytea, now(), ''::bytea
            FROM actor a JOIN actor s ON s.did = %s
            JOIN LATERAL (
                SELECT rkey FROM post WHERE actor = a.id ORDER BY rkey LIMIT 1
            ) p ON true
            WHERE a.did = %s
            """,
            (
                did("flagged"),
                did("removed"),
                did("labeler"),
                did("labeler"),
                did("partly"),
            ),
        )


@pytest.fixture(scope="module")
def site(databases: Any) -> Iterator[Site]:
    url = databases.make("index")
    with serve_world(url, _fill, {}, unnamed={"bare"}) as provider:
        _label(url)
        labelled = replace(provider.app, default_labelers=(did("labeler"),))
        app = Starlette(routes=list(page_routes(labelled)))
        with serving_in_thread(app) as served:
            yield Site(served, provider.uris)
    databases.drop(url)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?q=quokka",
        "/?q=opted&kind=people",
        "/feed/latest",
        "/feed/popular",
        f"/profile/{did('alice')}",
        f"/profile/{did('opted')}",
    ],
)
def test_pages_leave_out_accounts_that_opted_out(site: Site, path: str) -> None:
    status, text = site.read(path)
    assert status == (404 if path.endswith(quote(did("opted"), safe=":")) else 200)
    assert "secret" not in text
    assert "private" not in text
    assert "Opted" not in text


@pytest.mark.parametrize(
    ("name", "status"),
    [("hello", 200), ("secret", 404), ("to secret", 200), ("quoting", 200)],
)
def test_page_of_a_thread_leaves_out_accounts_that_opted_out(
    site: Site, name: str, status: int
) -> None:
    found, text = site.post(name)
    assert found == status
    assert "secret" not in text


def test_large_profiles_do_not_show_accounts_that_opted_out(site: Site) -> None:
    _, text = site.post("loud")
    assert "bare answer to it" in text
    assert "secret" not in text


def test_page_of_a_thread_leaves_out_hidden_replies(site: Site) -> None:
    _, text = site.post("hello")
    assert "shown answer" in text
    assert "hidden answer" not in text


@pytest.mark.parametrize("name", ["bare", "blank"])
def test_pages_show_accounts_without_a_name(site: Site, name: str) -> None:
    status, text = site.post(name)
    assert (status, f"{name} quokka" in text) == (200, True)
    status, text = site.read(f"/profile/{did(name)}")
    assert (status, f"{name} quokka" in text) == (200, True)
    handle = {"bare": "handle.invalid", "blank": "blank.test"}[name]
    assert f"@{handle}" in text
    for path in ("/", "/?q=quokka"):
        status, text = site.read(path)
        assert (status, f"{name} quokka" in text) == (200, True)


def test_pages_leave_out_labelled_accounts_and_posts(site: Site) -> None:
    for path in ("/", "/?q=quokka", "/feed/latest"):
        _, text = site.read(path)
        assert "harmless" in text
        assert "wicked quokka" not in text
    for name in ("flagged", "removed", "partly"):
        assert site.post(name)[0] == 404
    _, text = site.post("hello")
    assert text.count("wicked answer") == 1
    assert site.read(f"/profile/{did('flagged')}")[0] == 404
    assert site.read(f"/profile/{did('partly')}")[0] == 200
