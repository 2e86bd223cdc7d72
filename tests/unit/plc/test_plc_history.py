"""The history of an identity in words."""

from __future__ import annotations

from dataclasses import replace

from plc_accounts import NOW, OWNER, SERVER, THIEF, entry, genesis, legacy_create
from plc_client import Client

from plc.history import tell_history
from plc.operation import LogEntry
from plc.operation_draft import create_amendment, create_tombstone, create_update
from plc.operation_format import AnyOperation, PlcService, did_for_genesis
from protocol.identity.keys import PrivateKey
from protocol.syntax import Did

OWNER_KEY, SERVER_KEY, THIEF_KEY = (k.public.did_key for k in (OWNER, SERVER, THIEF))


def log_of(did: Did, *operations: AnyOperation) -> list[LogEntry]:
    return [entry(did, each, NOW + place) for place, each in enumerate(operations)]


def changes(*operations: AnyOperation) -> list[list[str]]:
    steps = tell_history(log_of(Did("did:plc:" + "a" * 24), *operations))
    return [[*step.changes] for step in steps]


def test_first_operation_names_everything() -> None:
    did, first = genesis()
    (step,) = tell_history(log_of(did, first))
    assert step.changes == (
        "the identity began",
        "name: @alice.test",
        "server: https://pds.example.com",
        f"signing key: {SERVER_KEY}",
        f"rotation key added, the strongest of 2: {OWNER_KEY}",
        f"rotation key added, the second of 2: {SERVER_KEY}",
    )
    assert step.signer == f"signed by the rotation key {SERVER_KEY}, the second of 2"


def test_each_change_is_told_once() -> None:
    _, first = genesis()
    moved = create_amendment(
        first,
        OWNER,
        rotation_keys=[THIEF_KEY, OWNER_KEY],
        methods={"atproto": THIEF_KEY, "atproto_label": SERVER_KEY},
        also_known_as=["at://bob.test", "https://bob.example.com"],
        services={
            "atproto_pds": PlcService("AtprotoPersonalDataServer", "https://new.test"),
            "bsky_fg": PlcService("BskyFeedGenerator", "https://feeds.test"),
        },
    )
    swapped = create_amendment(moved, OWNER, rotation_keys=[OWNER_KEY, THIEF_KEY])
    bare = create_amendment(swapped, OWNER, methods={}, also_known_as=[], services={})
    again = create_amendment(bare, OWNER)
    end = create_tombstone(again, OWNER)
    assert changes(first, moved, swapped, bare, again, end)[1:] == [
        [
            "name changed from @alice.test to @bob.test",
            "another name was added: https://bob.example.com",
            "server changed from https://pds.example.com to https://new.test",
            "service #bsky_fg: https://feeds.test",
            f"signing key changed from {SERVER_KEY} to {THIEF_KEY}",
            f"key #atproto_label: {SERVER_KEY}",
            f"rotation key added, the strongest of 2: {THIEF_KEY}",
            f"rotation key removed: {SERVER_KEY}",
        ],
        [f"rotation keys are in another order: {OWNER_KEY}, {THIEF_KEY}"],
        [
            "name was removed: @bob.test",
            "another name was removed: https://bob.example.com",
            "server was removed: https://new.test",
            "service #bsky_fg was removed: https://feeds.test",
            f"signing key was removed: {THIEF_KEY}",
            f"key #atproto_label was removed: {SERVER_KEY}",
        ],
        ["nothing changed"],
        ["the identity ended"],
    ]


def test_legacy_operation_and_invalid_signatures_are_told() -> None:
    first = legacy_create()
    did = did_for_genesis(first)
    forged = create_update(first, SERVER, handle="x.test")
    steps = tell_history(log_of(did, first, replace(forged, sig="A" * 86)))
    assert steps[0].changes[1] == "name: @bob.test"
    assert steps[1].signer == "without a valid signature of a rotation key"
    steps = tell_history(log_of(did, first, replace(forged, sig="odd")))
    assert steps[1].signer == "without a valid signature of a rotation key"


def test_page_shows_the_undone_part_and_no_markup_of_others(directory: Client) -> None:
    did, first = genesis()
    assert directory.get(f"/{did}/history").status == 404
    assert directory.post(did, first).status == 200
    directory.clock.now_ms += 1
    names = ["at://alice.test", '<script src="//x"></script>']
    theft = create_amendment(
        first, SERVER, rotation_keys=[SERVER_KEY], also_known_as=names
    )
    assert directory.post(did, theft).status == 200
    directory.clock.now_ms += 1
    assert (
        directory.post(did, create_update(first, OWNER, handle="b.test")).status == 200
    )
    page = directory.get(f"/{did}/history")
    text = page.body.decode()
    assert (page.status, text.count('class="step')) == (200, 3)
    assert text.count("undone by a stronger key") == 1
    assert text.index("to @b.test") < text.index("rotation key removed")
    assert "<script" not in text
    assert "script-src" not in page.headers["content-security-policy"]
    for odd in ("did:plc:x", "did:web:x.test", "%00"):
        assert directory.get(f"/{odd}/history").status == 404


def test_long_lists_of_keys_are_placed() -> None:
    keys = [PrivateKey.generate() for _ in range(5)]
    _, first = genesis()
    many = create_amendment(
        first, OWNER, rotation_keys=[OWNER_KEY, *(k.public.did_key for k in keys[:4])]
    )
    told = changes(first, many)[1]
    assert f"rotation key added, number 5 of 5: {keys[3].public.did_key}" in told
