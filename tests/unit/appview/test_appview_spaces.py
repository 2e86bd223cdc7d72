"""Permissioned data, in spaces, are in no public answer."""

from __future__ import annotations

import pytest
from appview_world import Provider, RefusedError
from small_world import did


def test_address_of_a_space_is_refused_by_name(provider: Provider) -> None:
    uri = f"at://{did('alice')}/space/com.example.forum/main/{did('alice')}/com.example.post/3k"
    for nsid, name in (
        ("app.bsky.feed.getPosts", "uris"),
        ("app.bsky.feed.getPostThread", "uri"),
        ("app.bsky.graph.getList", "list"),
        ("app.bsky.feed.getLikes", "uri"),
    ):
        with pytest.raises(RefusedError) as refused:
            provider.get(nsid, **{name: uri})
        assert (refused.value.status, refused.value.name) == (400, "InvalidRequest")
        assert "permissioned data" in refused.value.message
