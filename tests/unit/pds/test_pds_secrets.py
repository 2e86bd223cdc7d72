"""Passwords, sealed keys, tokens and the queue of hashes: no database, no sockets."""

from __future__ import annotations

import asyncio
import threading
from statistics import median
from time import perf_counter

import pytest

from network.errors import XrpcError
from pds.identity.vault import Vault, VaultError, derive_key
from pds.server.passwords import (
    MAX_PASSWORD_CHARS,
    HashQueue,
    check_password,
    hash_password,
)
from pds.settings import PdsSettings
from protocol.identity.keys import Curve, PrivateKey

SECRET = b"s" * 32
DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


def test_password_matches_only_its_hash() -> None:
    stored = hash_password("correct horse")
    assert check_password("correct horse", stored)
    assert not check_password("correct hors", stored)
    assert not check_password("", stored)
    assert not check_password("x" * (MAX_PASSWORD_CHARS + 1), stored)


def test_equal_passwords_have_different_hashes() -> None:
    assert hash_password("same") != hash_password("same")


def test_hash_does_not_contain_the_password() -> None:
    assert "correct" not in hash_password("correct horse")


def test_unknown_account_takes_as_long_as_a_wrong_password() -> None:
    stored = hash_password("correct horse")

    def cost(target: str | None) -> float:
        started = perf_counter()
        assert not check_password("wrong", target)
        return perf_counter() - started

    known = median(cost(stored) for _ in range(7))
    unknown = median(cost(None) for _ in range(7))
    # A skipped hash would be a thousand times faster; shared cores are noisy.
    assert 0.4 < unknown / known < 2.5


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_vault_opens_a_sealed_key(curve: Curve) -> None:
    vault = Vault(SECRET)
    key = PrivateKey.generate(curve)
    sealed = vault.seal(key, did=DID, role="signing")
    assert key.to_bytes() not in sealed
    opened = vault.open(sealed, did=DID, role="signing")
    assert opened.public == key.public
    assert opened.to_bytes() == key.to_bytes()


def test_vault_binds_a_key_to_its_did_and_role() -> None:
    vault = Vault(SECRET)
    sealed = vault.seal(PrivateKey.generate(), did=DID, role="signing")
    tampered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for box, did, role in [
        (tampered, DID, "signing"),
        (sealed, DID, "rotation"),
        (sealed, DID.replace("a", "b"), "signing"),
    ]:
        with pytest.raises(VaultError):
            vault.open(box, did=did, role=role)
    with pytest.raises(VaultError):
        Vault(b"t" * 32).open(sealed, did=DID, role="signing")


def test_derived_keys_differ_by_purpose_and_secret() -> None:
    keys = {
        derive_key(SECRET, "one"),
        derive_key(SECRET, "two"),
        derive_key(b"t" * 32, "one"),
    }
    assert len(keys) == 3
    assert derive_key(SECRET, "one") == derive_key(SECRET, "one")


def test_hash_queue_refuses_over_the_waiting_limit() -> None:
    async def scenario() -> None:
        queue = HashQueue(at_once=2, waiting=3)
        begin = threading.Event()
        calls = [asyncio.create_task(queue.run(begin.wait, 10)) for _ in range(5)]
        for _ in range(20):
            await asyncio.sleep(0)
        with pytest.raises(XrpcError) as caught:
            await queue.run(begin.wait, 10)
        assert caught.value.status == 503
        assert caught.value.headers == {"Retry-After": "2"}
        begin.set()
        assert await asyncio.gather(*calls) == [True] * 5
        assert await queue.run(begin.wait)

    asyncio.run(scenario())


def _settings(**changes: object) -> PdsSettings:
    values: dict[str, object] = {
        "public_url": "https://pds.example.com",
        "handle_domains": (".example.com",),
        "plc_url": "https://plc.directory",
        "secret": SECRET,
    }
    return PdsSettings(**(values | changes))  # type: ignore[arg-type]


def test_settings_derive_host_and_did() -> None:
    settings = _settings(
        public_url="http://localhost:2582/", dev=True, handle_domains=("A.test",)
    )
    assert settings.origin == "http://localhost:2582"
    assert settings.host == "localhost:2582"
    assert settings.service_did == "did:web:localhost%3A2582"
    assert settings.domains == (".a.test",)


@pytest.mark.parametrize(
    "changes",
    [
        {"public_url": "http://pds.example.com"},
        {"public_url": "pds.example.com"},
        {"public_url": "https://pds.example.com/path"},
        {"secret": b"short"},
        {"handle_domains": ()},
        {"blob_grace": 60.0},
        {"default_indexer": "did:web:a.example"},
        {"default_indexer": "did:web:a.example#b#c"},
        {"default_indexer_url": "https://a.example"},
    ],
)
def test_settings_refuse_bad_combinations(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        _settings(**changes)
