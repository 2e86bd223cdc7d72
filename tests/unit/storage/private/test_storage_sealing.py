"""Keys of private state."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from storage.postgres.pool import Conn, Pool
from storage.private import account_data
from storage.private.account_data import delete_data, export_all, export_page
from storage.private.mutes import Mute, seal_plain_mutes
from storage.private.private_items import Kind, find_item, save_item
from storage.private.private_state import load_private_state
from storage.private.sealing import DamagedItemError, Vault

VAULT = Vault(b"s" * 32)
ADA, BEN = VAULT.account("did:web:ada.test"), VAULT.account("did:web:ben.test")
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def test_sealed_value_opens_only_in_its_row() -> None:
    sealed = ADA.seal(1, 5, {"a": "b"})
    assert ADA.open(1, 5, sealed) == {"a": "b"}
    assert sealed != ADA.seal(1, 5, {"a": "b"})
    for account, kind, subject in ((ADA, 1, 6), (ADA, 2, 5), (BEN, 1, 5)):
        with pytest.raises(DamagedItemError):
            account.open(kind, subject, sealed)
    for damaged in (b"", sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(DamagedItemError):
            ADA.open(1, 5, damaged)


def test_subjects_of_two_accounts_differ() -> None:
    assert ADA.subject("x") == VAULT.account("did:web:ada.test").subject("x")
    assert ADA.subject("x") != BEN.subject("x")
    other = Vault(b"t" * 32).account("did:web:ada.test")
    assert (other.id, other.subject("x")) != (ADA.id, ADA.subject("x"))
    assert VAULT.account_by_id(ADA.id).subject("x") == ADA.subject("x")


def test_vault_refuses_a_short_secret() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(b"short")


@pytest.fixture
def conn(pool: Pool) -> Conn:
    with pool.connection() as conn:
        yield conn  # type: ignore[misc]
        conn.execute("DELETE FROM private_item; DELETE FROM mute")


def test_plain_mutes_of_an_earlier_version_are_encrypted(conn: Conn) -> None:
    conn.execute(
        "INSERT INTO mute (viewer, subject, only_reposts, only_quotes, muted_at)"
        " VALUES ('did:web:ada.test', 'did:web:x.test', true, false, %s)",
        (NOW,),
    )
    assert seal_plain_mutes(conn, VAULT) == 1
    assert seal_plain_mutes(conn, VAULT) == 0
    held = load_private_state(conn, ADA)
    assert held.mute_of("did:web:x.test") == Mute(only_reposts=True)
    assert load_private_state(conn, BEN).mute_of("did:web:x.test") is None
    found = find_item(conn, ADA, Kind.MUTE, "did:web:x.test")
    assert found is not None
    assert (found.at, found.value) == (NOW, {"subject": "did:web:x.test"})


def test_export_yields_every_item_once(conn: Conn) -> None:
    for number in range(1_100):
        value = {"subject": str(number)}
        save_item(conn, ADA, Kind.BOOKMARK, str(number), value, NOW)
    save_item(conn, BEN, Kind.BOOKMARK, "other", {"subject": "other"}, NOW)
    found = [item["value"]["subject"] for item in export_all(conn, ADA)]
    assert sorted(found, key=int) == [str(number) for number in range(1_100)]
    assert delete_data(conn, ADA) == 1_100
    assert [*export_all(conn, ADA)] == []
    assert len([*export_all(conn, BEN)]) == 1


def test_page_of_an_export_is_bounded_in_bytes(
    conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_data, "MAX_PAGE_BYTES", 1_000)
    monkeypatch.setattr(account_data, "_ROWS", 2)
    for number in range(5):
        value = {"subject": str(number), "text": "x" * 600}
        save_item(conn, ADA, Kind.DRAFT, str(number), value, NOW)
    page = export_page(conn, ADA, 100)
    assert len(page.items) == 2
    assert len([*export_all(conn, ADA)]) == 5
