"""`bigworld feed publish` at our PDS, with our provider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pds_world import PASSWORD, Client, World, free_port, sign_up
from typer.testing import CliRunner

from network.server.listener import serving_in_thread
from service.cli import feed
from service.operator_errors import ServiceError
from service.provider import create_app
from service.runtime.config import Config

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
GENERATOR = "app.bsky.feed.generator"
RECIPE = """
name = "{name}"
title = "{title}"
description = "About gardens"
[[source]]
tags = ["garden"]
"""


@dataclass
class Place:
    """A PDS with an account, and a provider that serves its feeds."""

    alice: Client
    provider: Client
    folder: Path

    def recipe(self, title: str = "Gardens", name: str = "gardens") -> str:
        path = self.folder / "recipe.toml"
        path.write_text(RECIPE.format(name=name, title=title))
        return str(path)

    def run(self, *words: str) -> str:
        account = ("--pds", self.alice.url, "--identifier", "alice.a.test")
        result = CliRunner().invoke(feed.app, [*words, *account])
        if isinstance(result.exception, ServiceError):
            raise result.exception
        assert result.exit_code == 0, (result.output, result.exception)
        assert PASSWORD not in result.output
        return result.output

    def record(self, name: str = "gardens") -> Any:
        nsid = "com.atproto.repo.getRecord"
        found = self.alice.get(
            nsid, repo=self.alice.did, collection=GENERATOR, rkey=name
        )
        return found.json.get("value")

    def served(self) -> list[str]:
        described = self.provider.get("app.bsky.feed.describeFeedGenerator").json
        return [each["uri"] for each in described["feeds"]]


@pytest.fixture
def place(
    index_db: str, network: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    server = network.start_pds("a")
    config = Config.read(
        home=tmp_path,
        dev_network=True,
        plc_url=network.plc_url,
        public_url=f"http://localhost:{free_port()}",
    )
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path))
    monkeypatch.setenv("BIGWORLD_DEV_NETWORK", "true")
    monkeypatch.setenv("BIGWORLD_PUBLIC_URL", config.provider_url)
    monkeypatch.setenv("ATPROTO_PASSWORD", PASSWORD)
    port = int(config.provider_url.rsplit(":", 1)[1])
    alice = sign_up(server, "alice.a.test")
    app = create_app(config, index_db, check_output=True)
    with serving_in_thread(app, port=port):
        yield Place(alice, Client(config.provider_url), tmp_path)


def test_feed_is_published_changed_and_removed(place: Place) -> None:
    avatar = place.folder / "avatar.png"
    avatar.write_bytes(PNG)
    output = place.run("publish", place.recipe(), "--avatar", str(avatar))
    uri = f"at://{place.alice.did}/{GENERATOR}/gardens"
    assert uri in output
    assert "https://bsky.app/profile/alice.a.test/feed/gardens" in output
    record = place.record()
    assert record["displayName"] == "Gardens"
    assert record["description"] == "About gardens"
    assert record["avatar"]["mimeType"] == "image/png"
    did = place.provider.send("GET", "/.well-known/did.json").json["id"]
    assert record["did"] == did
    assert uri in place.served()
    skeleton = place.provider.get("app.bsky.feed.getFeedSkeleton", feed=uri)
    assert (skeleton.status, skeleton.json["feed"]) == (200, [])

    place.run("publish", place.recipe("Other gardens"))
    changed = place.record()
    assert changed["displayName"] == "Other gardens"
    for key in ("avatar", "createdAt"):
        assert changed[key] == record[key]

    place.run("unpublish", "gardens")
    assert place.record() is None
    assert uri not in place.served()
    place.run("unpublish", "gardens")


def test_nothing_is_published_of_a_recipe_that_is_refused(place: Place) -> None:
    (place.folder / "faulty.toml").write_text('name = "x"\ntitle = 3\n')
    with pytest.raises(ServiceError, match="line 2: title"):
        place.run("publish", str(place.folder / "faulty.toml"))
    text = RECIPE.format(name="other", title="Other") + '[filter]\nauthors = "x.test"\n'
    (place.folder / "unknown.toml").write_text(text)
    with pytest.raises(ServiceError, match=r"InvalidRecipe: no account .* x\.test"):
        place.run("publish", str(place.folder / "unknown.toml"))
    assert place.record("other") is None
    assert not [uri for uri in place.served() if place.alice.did in uri]


def test_wrong_password_and_plain_http_are_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = place.recipe()
    words = ["publish", recipe, "--identifier", "alice.a.test"]
    result = CliRunner().invoke(feed.app, [*words, "--pds", "http://pds.example.com"])
    assert "a password is not sent" in str(result.exception)
    monkeypatch.setenv("ATPROTO_PASSWORD", "wrong")
    with pytest.raises(ServiceError, match="refused") as refused:
        place.run("publish", recipe)
    assert "wrong" not in str(refused.value)
    monkeypatch.delenv("ATPROTO_PASSWORD")
    account = ("--pds", place.alice.url, "--identifier", "alice.a.test")
    asked = CliRunner().invoke(feed.app, ["publish", recipe, *account], input=PASSWORD)
    assert asked.exit_code == 0
    assert PASSWORD not in asked.output


def test_other_files_are_no_avatar(place: Place) -> None:
    (place.folder / "avatar.gif").write_bytes(b"GIF89a")
    with pytest.raises(ServiceError, match="neither a PNG nor a JPEG"):
        place.run(
            "publish", place.recipe(), "--avatar", str(place.folder / "avatar.gif")
        )
    assert place.record() is None
