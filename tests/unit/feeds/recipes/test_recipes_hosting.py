"""Recipes of many accounts in one provider: saved, served, listed and removed."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from appview_world import Provider, RefusedError, serve_index
from small_world import SERVICE, did

from appview.app import ClientSettings
from appview.bigworld_feed.put_recipe import PUTS
from storage.postgres.pool import open_pool
from storage.private.feeds import feed_recipes
from storage.private.takedowns import take_down, undo_takedown

PUT = "bigworld.feed.putRecipe"
LIST = "bigworld.feed.listRecipes"
DELETE = "bigworld.feed.deleteRecipe"
DESCRIBE = "app.bsky.feed.describeFeedGenerator"
SKELETON = "app.bsky.feed.getFeedSkeleton"
RECIPE = """
name = "quokkas"
title = "Quokkas"
description = "Posts about quokkas"
{more}
[[source]]
accounts = ["alice.test"]
"""


@pytest.fixture(autouse=True)
def without_recipes(provider: Provider) -> Iterator[None]:
    yield
    for name in ("alice", "bob"):
        for recipe in recipes(provider, name):
            provider.post(DELETE, {"name": recipe["name"]}, viewer=name)


def put(provider: Provider, viewer: str, recipe: str = "", more: str = "") -> Any:
    body = {"recipe": recipe or RECIPE.format(more=more)}
    return json.loads(provider.post(PUT, body, viewer=viewer))


def recipes(provider: Provider, viewer: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = provider.get(LIST, viewer=viewer)["recipes"]
    return found


def served(provider: Provider) -> list[str]:
    return [feed["uri"] for feed in provider.get(DESCRIBE)["feeds"]]


def test_recipe_is_served_from_its_owner_until_it_is_removed(
    provider: Provider,
) -> None:
    saved = put(provider, "alice", more="video = true")
    uri = f"at://{did('alice')}/app.bsky.feed.generator/quokkas"
    assert saved["uri"] == uri
    assert saved["record"] == {
        "$type": "app.bsky.feed.generator",
        "did": SERVICE,
        "displayName": "Quokkas",
        "description": "Posts about quokkas",
        "contentMode": "app.bsky.feed.defs#contentModeVideo",
    }
    assert recipes(provider, "alice") == [saved]
    assert recipes(provider, "bob") == []
    assert uri in served(provider)
    posts = [item["post"] for item in provider.get(SKELETON, feed=uri)["feed"]]
    assert provider.uris["hello"] in posts
    changed = put(provider, "alice", RECIPE.format(more="").replace("alice", "bob"))
    assert changed["recipe"] != saved["recipe"]
    posts = [item["post"] for item in provider.get(SKELETON, feed=uri)["feed"]]
    assert posts
    assert provider.uris["hello"] not in posts
    provider.post(DELETE, {"name": "quokkas"}, viewer="bob")
    assert uri in served(provider)
    provider.post(DELETE, {"name": "quokkas"}, viewer="alice")
    provider.post(DELETE, {"name": "quokkas"}, viewer="alice")
    assert uri not in served(provider)
    with pytest.raises(RefusedError):
        provider.get(SKELETON, feed=uri)


def test_each_feed_needs_a_signed_in_reader_or_not(provider: Provider) -> None:
    uri = put(provider, "alice", more="sign_in = true")["uri"]
    open_uri = put(provider, "bob")["uri"]
    assert provider.get(SKELETON, feed=open_uri)["feed"]
    with pytest.raises(RefusedError, match="signed-in") as refused:
        provider.get(SKELETON, feed=uri)
    assert refused.value.status == 401
    assert provider.get(SKELETON, feed=uri, viewer="bob")["feed"]


def test_recipe_needs_an_account_and_names_its_fault(provider: Provider) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.post(PUT, {"recipe": RECIPE.format(more="")})
    assert refused.value.status == 401
    with pytest.raises(RefusedError, match="line 5: windoow") as refused:
        put(provider, "alice", more='windoow = "3d"')
    assert refused.value.name == "InvalidRecipe"
    with pytest.raises(RefusedError, match=r"nobody\.test") as refused:
        put(provider, "alice", RECIPE.format(more="").replace("alice", "nobody"))
    assert recipes(provider, "alice") == []


def test_quotas_are_named(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    put(provider, "alice")
    other = RECIPE.format(more="").replace('"quokkas"', '"others"')
    monkeypatch.setattr(feed_recipes, "MAX_RECIPES", 1)
    with pytest.raises(RefusedError, match="at most 1 feeds of an account") as refused:
        put(provider, "alice", other)
    assert refused.value.name == "TooManyRecipes"
    put(provider, "alice", more='window = "3d"')
    monkeypatch.setattr(feed_recipes, "MAX_HOSTED", 1)
    with pytest.raises(RefusedError, match="this provider has 1 feeds"):
        put(provider, "bob", other)
    monkeypatch.undo()
    put(provider, "bob", other)


def test_saves_of_an_account_are_limited(provider: Provider) -> None:
    statuses = []
    for _ in range(PUTS + 1):
        with pytest.raises(RefusedError) as refused:
            put(provider, "carol", RECIPE.format(more="sign_in = 3"))
        statuses.append(refused.value.status)
    assert statuses == [400] * PUTS + [429]
    put(provider, "bob")


def test_taken_down_feed_is_neither_listed_nor_served(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider.app.takedowns, "_every_s", 0.0)
    uri = put(provider, "alice")["uri"]
    with psycopg.connect(provider.database) as conn:
        take_down(conn, uri, operator="me", reason="law")
    assert uri not in served(provider)
    with pytest.raises(RefusedError):
        provider.get(SKELETON, feed=uri)
    with psycopg.connect(provider.database) as conn:
        undo_takedown(conn, uri, operator="me", reason="")
    assert uri in served(provider)


def test_recipes_are_removed_with_the_private_data(provider: Provider) -> None:
    put(provider, "alice")
    put(provider, "bob")
    provider.post("bigworld.account.deletePrivateData", None, viewer="alice")
    assert recipes(provider, "alice") == []
    assert len(recipes(provider, "bob")) == 1


def test_policies_are_linked_if_they_are_set(provider: Provider) -> None:
    assert "links" not in provider.get(DESCRIBE)
    settings = ClientSettings(privacy_policy="https://example.com/privacy")
    with (
        open_pool(provider.database) as pool,
        serve_index(pool, pool, client_settings=settings) as (url, _),
        urllib.request.urlopen(f"{url}/xrpc/{DESCRIBE}", timeout=20) as reply,
    ):
        links = json.loads(reply.read())["links"]
    assert links == {"privacyPolicy": "https://example.com/privacy"}
