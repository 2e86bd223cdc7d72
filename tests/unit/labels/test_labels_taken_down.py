"""Taken-down accounts, records and blobs appear in no answer of any method."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from appview_world import Provider, serve_world
from every_method import MAL, fill, records_of, shown
from labeler_world import Labeler
from small_world import did

from appview.takedowns import TakedownCache
from protocol.data.cid import raw_cid_for
from storage.postgres.pool import open_pool
from storage.private.takedowns import blob_subject, take_down, undo_takedown
from storage.records.interning import Interner

LABELER = did("labeler")


@pytest.fixture(scope="module")
def provider(databases: Any) -> Iterator[Provider]:
    url = databases.make("index")
    changes = {"takedowns": TakedownCache(0), "default_labelers": (LABELER,)}
    with serve_world(url, fill, **changes) as provider:
        asyncio.run(_label(provider))
        yield provider
    databases.drop(url)


async def _label(provider: Provider) -> None:
    with open_pool(provider.database, max=2) as pool:
        labeler = Labeler(LABELER, pool, Interner(pool))
        for name in ("mal", "carol"):
            for uri in [did(name), *records_of(provider.world, name)]:
                await labeler.label(uri, "seen")


def _decide(provider: Provider, subjects: list[str], *, undo: bool = False) -> None:
    with psycopg.connect(provider.database) as conn:
        for subject in subjects:
            if undo:
                undo_takedown(conn, subject, operator="me", reason="")
            else:
                take_down(conn, subject, operator="me", reason="law")


@pytest.mark.slow
def test_an_account_that_is_taken_down_is_in_no_answer(provider: Provider) -> None:
    before = shown(provider, [MAL])
    assert len(before) > 25, sorted(before)
    _decide(provider, [MAL])
    found = {
        nsid: named
        for nsid, traces in shown(provider, [MAL]).items()
        if (named := [t for t in traces if MAL in t or "mal.test" in t])
    }
    assert not found, found
    _decide(provider, [MAL], undo=True)
    assert shown(provider, [MAL]).keys() == before.keys()


@pytest.mark.slow
def test_records_that_are_taken_down_are_in_no_answer(provider: Provider) -> None:
    records = [
        *records_of(provider.world, "mal"),
        *records_of(provider.world, "carol"),
    ]
    assert len(shown(provider, records)) > 15
    _decide(provider, records)
    found = shown(provider, records)
    assert not found, found
    _decide(provider, records, undo=True)


def test_blobs_that_are_taken_down_are_in_no_view(provider: Provider) -> None:
    blob = blob_subject(did("alice"), raw_cid_for(b"picture"))
    asked = {"actor": did("alice"), "viewer": "alice"}
    avatar = provider.get("app.bsky.actor.getProfile", **asked)["avatar"]
    _decide(provider, [blob])
    assert "avatar" not in provider.get("app.bsky.actor.getProfile", **asked)
    # The same picture of another account stays.
    other = provider.get("app.bsky.actor.getProfile", actor=did("bob"))
    assert other["avatar"] == avatar.replace(
        "alice".ljust(24, "a"), "bob".ljust(24, "a")
    )
    _decide(provider, [blob], undo=True)
    assert provider.get("app.bsky.actor.getProfile", **asked)["avatar"] == avatar
