"""Private state beside an index that is rebuilt: its rows, and the answers from it."""

from __future__ import annotations

from typing import Any

import psycopg
from appview_world import Provider
from notice_reader import NOTICES
from oracle import Expected

from storage.migrate import merged_metadata

GRAPH = "app.bsky.graph."


def write_private_state(provider: Provider, accounts: list[Expected]) -> None:
    viewer, *others = [a.did.removeprefix("did:plc:") for a in accounts]
    post = next(
        (a, key.decode()) for a in accounts for key in a.records if b"feed.post" in key
    )
    uri = f"at://{post[0].did}/{post[1]}"
    cid = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
    draft = {"posts": [{"text": "kept"}]}
    for nsid, body in (
        (f"{GRAPH}muteActor", {"actor": f"did:plc:{others[0]}"}),
        (f"{GRAPH}muteThread", {"root": uri}),
        ("app.bsky.bookmark.createBookmark", {"uri": uri, "cid": cid}),
        ("app.bsky.notification.updateSeen", {"seenAt": "2025-06-15T00:00:00Z"}),
        ("app.bsky.draft.createDraft", {"draft": draft}),
    ):
        provider.post(nsid, body, viewer=viewer)


def private_answers(provider: Provider, accounts: list[Expected]) -> list[Any]:
    viewer = accounts[0].did.removeprefix("did:plc:")

    def pages(nsid: str, name: str) -> list[Any]:
        return [
            item.get("uri") or item.get("did") or item
            for item in provider.pages(nsid, name, viewer=viewer)
        ]

    mutes = pages(f"{GRAPH}getMutes", "mutes")
    drafts = pages("app.bsky.draft.getDrafts", "drafts")
    marks = [
        item["subject"]["uri"]
        for item in provider.pages(
            "app.bsky.bookmark.getBookmarks", "bookmarks", viewer=viewer
        )
    ]
    notices = [
        (n["uri"], n["reason"], n["isRead"], n["indexedAt"])
        for n in provider.pages(NOTICES, "notifications", viewer=viewer, limit=100)
        if n["record"].get("createdAt") and n["reason"] != "unverified"
    ]
    assert mutes
    assert drafts
    assert marks
    assert notices
    return [mutes, drafts, marks, sorted(notices)]


def private_rows(url: str) -> dict[str, list[Any]]:
    with psycopg.connect(url) as conn:
        found = {
            name: sorted(map(repr, conn.execute(f"SELECT * FROM {name}").fetchall()))
            for name in merged_metadata("private").tables
        }
    assert sum(map(len, found.values())) > 4
    return found
