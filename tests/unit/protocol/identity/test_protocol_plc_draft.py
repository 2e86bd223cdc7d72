from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plc.operation import (
    LegacyCreate,
    LogEntry,
    Operation,
    PlcService,
    Tombstone,
    check_next_operation,
    check_submission,
    create_genesis,
    create_tombstone,
    create_update,
    operation_bytes,
    operation_cid,
    operation_document,
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

OWNER = PrivateKey.from_bytes("p256", b"\x05" * 32)
SERVER = PrivateKey.from_bytes("k256", b"\x06" * 32)
SIGNING = PrivateKey.from_bytes("k256", b"\x07" * 32).public.did_key
NOW = 1_790_000_000_000

DRAFT: dict[str, Any] = {
    "signing_key": SIGNING,
    "rotation_keys": [OWNER.public.did_key, SERVER.public.did_key],
    "handle": "Alice.Test",
    "pds_url": "https://pds.example.com/",
    "signer": SERVER,
}


def test_a_new_account_is_one_that_a_directory_takes() -> None:
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
        (
            {
                "rotation_keys": [
                    PrivateKey.from_bytes("k256", bytes([n]) * 32).public.did_key
                    for n in range(6, 12)
                ]
            },
            LimitExceededError,
        ),
    ],
)
def test_faults_show_before_anything_is_sent(
    change: dict[str, Any], error: type[ProtocolError]
) -> None:
    with pytest.raises(error):
        create_genesis(**(DRAFT | change))


def test_updates_change_what_is_given_and_keep_the_rest() -> None:
    did, genesis = create_genesis(**DRAFT)
    entry = LogEntry(did, genesis, operation_cid(genesis), False, NOW)
    moved = create_update(genesis, SERVER, pds_url="http://localhost:2583")
    check_next_operation(did, [entry], moved, NOW + 1)
    assert moved.services["atproto_pds"].endpoint == "http://localhost:2583"
    assert moved.also_known_as == genesis.also_known_as
    assert moved.rotation_keys == genesis.rotation_keys
    renamed = create_update(moved, OWNER, handle="bob.test")
    assert renamed.also_known_as == ("at://bob.test",)
    assert renamed.services == moved.services
    assert renamed.prev == operation_cid(moved)
    rekeyed = create_update(renamed, OWNER, signing_key=OWNER.public.did_key)
    assert rekeyed.verification_methods == {"atproto": OWNER.public.did_key}
    # The signer may take itself out.
    left = create_update(renamed, SERVER, rotation_keys=[OWNER.public.did_key])
    assert left.rotation_keys == (OWNER.public.did_key,)
    with pytest.raises(InvalidSignatureError):
        create_update(left, SERVER, handle="carol.test")


def test_a_new_handle_takes_the_first_handles_place() -> None:
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


def test_updates_an_old_identity() -> None:
    old = sign_operation(
        LegacyCreate(
            SERVER.public.did_key, OWNER.public.did_key, "bob.test", "https://x.test"
        ),
        SERVER,
    )
    update = create_update(old, SERVER, handle="bob2.test")
    assert update.rotation_keys == (OWNER.public.did_key, SERVER.public.did_key)
    assert update.prev == operation_cid(old)


def test_a_tombstone() -> None:
    did, genesis = create_genesis(**DRAFT)
    entry = LogEntry(did, genesis, operation_cid(genesis), False, NOW)
    check_next_operation(did, [entry], create_tombstone(genesis, OWNER), NOW + 1)
    stranger = PrivateKey.from_bytes("k256", b"\x09" * 32)
    with pytest.raises(InvalidSignatureError):
        create_tombstone(genesis, stranger)


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
def test_limits_of_a_directory(good: dict[str, Any], bad: dict[str, Any]) -> None:
    check_submission(submission(**good))
    with pytest.raises((LimitExceededError, InvalidSyntaxError)):
        check_submission(submission(**bad))


def test_size_of_a_submission() -> None:
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
