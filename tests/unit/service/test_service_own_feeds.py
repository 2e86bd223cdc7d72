"""The provider's own feeds in an empty index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from network.server.listener import serving_in_thread
from service.provider import create_app
from service.runtime.config import Config

DID = "did:web:search.example.org"


def test_own_feeds_are_found_in_an_empty_index(tmp_path: Path, index_db: str) -> None:
    config = Config.read(home=tmp_path, public_url="https://search.example.org")
    with serving_in_thread(create_app(config, index_db, check_output=True)) as url:

        def get(path: str) -> Any:
            return httpx.get(url + path, timeout=30).json()

        feeds = get("/xrpc/app.bsky.feed.describeFeedGenerator")["feeds"]
        uris = [feed["uri"] for feed in feeds]
        views = get(
            "/xrpc/app.bsky.feed.getFeedGenerators?feeds=" + "&feeds=".join(uris)
        )["feeds"]
        assert [view["uri"] for view in views] == uris
        creator = views[0]["creator"]
        assert (creator["did"], creator["handle"]) == (DID, "search.example.org")
        record = get(
            "/xrpc/com.atproto.repo.getRecord?repo=search.example.org"
            "&collection=app.bsky.feed.generator&rkey=latest"
        )
        assert record["uri"] in uris
        assert record["cid"] in {view["cid"] for view in views}
        assert get(f"/xrpc/app.bsky.feed.getFeed?feed={record['uri']}") == {"feed": []}
        assert get("/.well-known/did.json")["alsoKnownAs"] == [
            "at://search.example.org"
        ]
        assert httpx.get(f"{url}/.well-known/atproto-did").text == DID
