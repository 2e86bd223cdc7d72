"""The registration of methods."""

from __future__ import annotations

from importlib import import_module

import pytest

from appview.server import find_methods, nsid_of
from protocol.lexicon import Catalog


def test_every_method_file_is_a_method_of_a_lexicon() -> None:
    catalog = Catalog.load()
    found = dict(find_methods())
    assert "app.bsky.feed.getPosts" in found
    assert [nsid for nsid in found if catalog.method(nsid) is None] == []
    assert [m for m in found.values() if not hasattr(import_module(m), "METHOD")] == []


@pytest.mark.parametrize(
    ("module", "nsid"),
    [
        ("appview.app_bsky.feed.search_posts_v2", "app.bsky.feed.searchPostsV2"),
        (
            "appview.app_bsky.unspecced.skeleton.get_trends_skeleton",
            "app.bsky.unspecced.getTrendsSkeleton",
        ),
        ("appview.shapes.feed", None),
        ("appview.server", None),
    ],
)
def test_module_names_give_nsids(module: str, nsid: str | None) -> None:
    assert nsid_of(module) == nsid
