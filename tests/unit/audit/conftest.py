"""Fixtures of the tests of the audit."""

from __future__ import annotations

from typing import Any

import pytest
from indexer_world import (
    POST,
    PROFILE,
    Author,
    author,
    follow,
    like,
    post,
    profile,
    quote,
    reply,
)


@pytest.fixture
def two(apply: Any) -> list[Author]:
    """Create two accounts that follow, like, quote and reply to each other."""
    a, b = author(1), author(2)
    for someone, other in ((a, b), (b, a)):
        path, event = someone.write(POST, post("hello"))
        apply(event)
        for value in (
            *(
                like(someone.uri(path)),
                follow(other.did),
                reply(a.uri(path), b.uri(path)),
            ),
            *(
                quote(someone.uri(path)),
                {"$type": "org.example.note", "about": other.did},
            ),
        ):
            apply(someone.write(value["$type"], value)[1])
        apply(someone.commit({f"{PROFILE}/self": profile("Someone")}))
    return [a, b]
