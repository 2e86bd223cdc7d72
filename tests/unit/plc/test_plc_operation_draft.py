"""New PLC operations, and the limits of a directory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from plc_accounts import NOW, OWNER, SERVER, THIEF, entry, legacy_create

from plc.operation import check_next_operation
from plc.operation_document import operation_document
from plc.operation_draft import (
    check_submission,
    create_genesis,
    create_tombstone,
    create_update,
)
from plc.operation_format import (
    Operation,
    PlcService,
    Tombstone,
    operation_bytes,
    operation_cid,
    sign_operation,
)
from protocol.errors import (
    InvalidSignatureError,
    InvalidSyntaxError,
    LimitExceededError,
    ProtocolError,
)
from protocol.identity.did_document import parse_did_document
from protocol.identity.keys import PrivateKey

SIGNING = PrivateKey.from_bytes("k256", b"\x07" * 32).public.did_key

KEYS = [
    PrivateKey.from_bytes("k256", bytes([n]) * 32).public.did_key for n in range(6, 11)
]

DRAFT: dict[str, Any] = {
    "signing_key": SIGNING,
    "rotation_keys": [OWNER.public.did_key, SERVER.public.did_key],
    "handle": "Alice.Test",
    "pds_url": "https://pds.example.com/",
    "signer": SERVER,
}


def test_create_genesis_is_accepted_by_a_directory() -> None:
    did, genesis = create_genesis(**DRAFT)
    verdict = check_next_operation(did, [], genesis, NOW)
    assert verdict.signer == SERVER.public.did_key
    document = parse_did_document(operation_document(did, genesis), did)
    assert document.handles == ("alice.test",)
    assert document.signing_key == SIGNING
    assert document.pds == "https://pds.example.com"
    assert genesis.rotation_keys == tuple(DRAFT["rotation_keys"])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"handle": "alice"}, InvalidSyntaxError),
        ({"handle": "at://alice.test"}, InvalidSyntaxError),
        ({"pds_url": "https://pds.example.com/x"}, InvalidSyntaxError),
        ({"pds_url": "pds.example.com"}, InvalidSyntaxError),
        ({"signing_key": "zQ3sh"}, InvalidSyntaxError),
        ({"signing_key": "did:key:z" + "2" * 300}, LimitExceededError),
        ({"rotation_keys": []}, InvalidSignatureError),
        ({"rotation_keys": [OWNER.public.did_key]}, InvalidSignatureError),
        ({"rotation_keys": [SERVER.public.did_key] * 2}, LimitExceededError),
        (
            {"rotation_keys": [SERVER.public.did_key, "did:key:z6Mk"]},
            InvalidSyntaxError,
        ),
        ({"rotation_keys": [SERVER.public.did_key, *KEYS]}, LimitExceededError),
    ],
)
def test_create_genesis_refuses_invalid_values(
    change: dict[str, Any], error: type[ProtocolError]
) -> None:
    with pytest.raises(error):
        create_genesis(**(DRAFT | change))


def test_create_update_changes_only_the_given_parts() -> None:
    did, genesis = create_genesis(**DRAFT)
    log = [entry(did, genesis, NOW)]
    moved = create_update(genesis, SERVER, pds_url="http://localhost:2583")
    check_next_operation(did, log, moved, NOW + 1)
    assert moved.services["atproto_pds"].endpoint == "http://localhost:2583"
    assert moved.also_known_as == genesis.also_known_as
    assert moved.rotation_keys == genesis.rotation_keys
    renamed = create_update(moved, OWNER, handle="bob.test")
    assert renamed.also_known_as == ("at://bob.test",)
    assert renamed.services == moved.services
    assert renamed.prev == operation_cid(moved)
    rekeyed = create_update(renamed, OWNER, signing_key=OWNER.public.did_key)
    assert rekeyed.verification_methods == {"atproto": OWNER.public.did_key}
    # The signer may remove itself.
    left = create_update(renamed, SERVER, rotation_keys=[OWNER.public.did_key])
    assert left.rotation_keys == (OWNER.public.did_key,)
    with pytest.raises(InvalidSignatureError):
        create_update(left, SERVER, handle="carol.test")


def test_create_update_replaces_the_first_handle() -> None:
    _, genesis = create_genesis(**DRAFT)
    aliases = ("https://alice.test", "at://alice.test", "at://a.test")
    state = sign_operation(replace(genesis, also_known_as=aliases), SERVER)
    renamed = create_update(state, SERVER, handle="bob.test")
    assert renamed.also_known_as == (aliases[0], "at://bob.test", aliases[2])
    again = create_update(state, SERVER, handle="a.test")
    assert again.also_known_as == (aliases[0], aliases[2])
    nameless = sign_operation(replace(genesis, also_known_as=aliases[:1]), SERVER)
    named = create_update(nameless, SERVER, handle="bob.test")
    assert named.also_known_as == ("at://bob.test", aliases[0])


def test_create_update_after_a_legacy_operation() -> None:
    old = legacy_create()
    update = create_update(old, SERVER, handle="bob2.test")
    assert update.rotation_keys == (OWNER.public.did_key, SERVER.public.did_key)
    assert update.prev == operation_cid(old)


def test_create_tombstone() -> None:
    did, genesis = create_genesis(**DRAFT)
    log = [entry(did, genesis, NOW)]
    check_next_operation(did, log, create_tombstone(genesis, OWNER), NOW + 1)
    with pytest.raises(InvalidSignatureError):
        create_tombstone(genesis, THIEF)


def submission(**changes: object) -> Operation:
    _, genesis = create_genesis(**DRAFT)
    fields: dict[str, Any] = changes
    return sign_operation(replace(genesis, **fields), SERVER)


KEY_TEXT = "did:key:z" + "2" * 247
SERVICE = PlcService("T", "https://s.test")


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (
            {"also_known_as": tuple(f"at://{n}.test" for n in range(10))},
            {"also_known_as": tuple(f"at://{n}.test" for n in range(11))},
        ),
        ({"also_known_as": ("x" * 258,)}, {"also_known_as": ("x" * 259,)}),
        ({"also_known_as": ("a", "b")}, {"also_known_as": ("a", "a")}),
        (
            {"rotation_keys": (SIGNING,) * 10},
            {"rotation_keys": (SIGNING,) * 11},
        ),
        ({"rotation_keys": ()}, {"rotation_keys": ("did:key:z6Mk",)}),
        (
            {"services": {f"{n}": SERVICE for n in range(10)}},
            {"services": {f"{n}": SERVICE for n in range(11)}},
        ),
        ({"services": {"i" * 32: SERVICE}}, {"services": {"i" * 33: SERVICE}}),
        (
            {"services": {"i": PlcService("t" * 256, "e")}},
            {"services": {"i": PlcService("t" * 257, "e")}},
        ),
        (
            {"services": {"i": PlcService("t", "e" * 512)}},
            {"services": {"i": PlcService("t", "e" * 513)}},
        ),
        (
            {"verification_methods": {f"{n}": KEY_TEXT for n in range(10)}},
            {"verification_methods": {f"{n}": KEY_TEXT for n in range(11)}},
        ),
        (
            {"verification_methods": {"i" * 32: KEY_TEXT}},
            {"verification_methods": {"i" * 33: KEY_TEXT}},
        ),
        (
            {"verification_methods": {"i": KEY_TEXT}},
            {"verification_methods": {"i": KEY_TEXT + "2"}},
        ),
        (
            {"verification_methods": {"i": "did:key:z6MkUnknown"}},
            {"verification_methods": {"i": "did:key:z6MkUnkn0wn"}},
        ),
        ({"verification_methods": {}}, {"verification_methods": {"i": "zQ3sh"}}),
    ],
)
def test_check_submission_limits(good: dict[str, Any], bad: dict[str, Any]) -> None:
    check_submission(submission(**good))
    with pytest.raises((LimitExceededError, InvalidSyntaxError)):
        check_submission(submission(**bad))


def test_check_submission_limits_the_size() -> None:
    def sized(size: int) -> Operation:
        services = {
            f"{n}": PlcService("t", "e" * 512) for n in range(6)
        } | {"last": PlcService("t", "e" * 300)}  # fmt: skip
        draft = submission(services=services)
        missing = size - len(operation_bytes(draft))
        services["last"] = PlcService("t", "e" * (300 + missing))
        return submission(services=services)

    assert len(operation_bytes(sized(4_000))) == 4_000
    check_submission(sized(4_000))
    with pytest.raises(LimitExceededError):
        check_submission(sized(4_001))
    check_submission(Tombstone("x"))
