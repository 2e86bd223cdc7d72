"""A folder of Python feeds beside a small index, and the provider that serves both."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appview_world import serve_index
from recipe_world import SERVICE, RecipeWorld, did

from appview.app import AppView
from feeds.scripts.script_book import ScriptBook
from feeds.scripts.script_feed import shared_runs
from feeds.scripts.script_process import Limits
from feeds.served_feeds import ServedFeeds

SKELETON = "app.bsky.feed.getFeedSkeleton"
PATIENT = Limits(load_s=60, run_s=60, memory=256 << 20)
"""Limits that a slow machine keeps, with less memory than the tests may use up."""
HASTY = Limits(load_s=60, run_s=0.5, memory=256 << 20)


@dataclass
class ScriptWorld:
    """Files are loaded by `write`."""

    world: RecipeWorld
    folder: Path
    book: ScriptBook
    app: AppView
    url: str

    def write(self, name: str, text: str) -> dict[str, str]:
        """Write a file and load it; return the errors of the folder."""
        (self.folder / f"{name}.py").write_text(text)
        return self.book.refresh()

    def uri(self, name: str) -> str:
        return f"at://{SERVICE}/app.bsky.feed.generator/{name}"

    def get(
        self, name: str, viewer: str | None = None, nsid: str = SKELETON, **params: Any
    ) -> tuple[int, dict[str, Any]]:
        """Return status and body of a page."""
        query = urllib.parse.urlencode({"feed": self.uri(name), **params})
        request = urllib.request.Request(f"{self.url}/xrpc/{nsid}?{query}")
        if viewer is not None:
            request.add_header("x-viewer", did(viewer))
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return reply.status, json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def posts(self, name: str, viewer: str | None = None, **params: Any) -> list[str]:
        status, body = self.get(name, viewer, **params)
        assert status == 200, body
        return [item["post"] for item in body["feed"]]


@contextmanager
def serve_scripts(
    world: RecipeWorld, folder: Path, limits: Limits = PATIENT
) -> Iterator[ScriptWorld]:
    """Serve the index of a world with the Python files of a folder."""
    book = ScriptBook(folder, shared_runs(limits))
    feeds = ServedFeeds(0.0, book)
    try:
        with serve_index(world.pool, world.private.pool, feeds=feeds) as (url, app):
            yield ScriptWorld(world, folder, book, app, url)
    finally:
        book.close()
