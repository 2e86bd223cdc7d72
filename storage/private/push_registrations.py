"""Devices that notifications are pushed to, and how far each account was notified."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from storage.postgres.pool import Conn
from storage.private.private_items import (
    NO_SUBJECT,
    Kind,
    delete_item,
    find_item,
    save_item,
)
from storage.private.sealing import Account, DamagedItemError, Vault

_PAUSE: Final = timedelta(seconds=30)
"""Time between two looks at the notifications of an account."""


@dataclass(frozen=True, slots=True)
class Device:
    """A registered device. Its `token` is the push service's."""

    token: str
    platform: str
    app_id: str
    age_restricted: bool = False

    @property
    def subject(self) -> str:
        """Return what a registration is found by."""
        return f"{self.platform} {self.app_id} {self.token}"

    def json(self) -> dict[str, Any]:
        """Return the device as receivers of pushes see it."""
        return {
            "token": self.token,
            "platform": self.platform,
            "appId": self.app_id,
            "ageRestricted": self.age_restricted,
        }


@dataclass(frozen=True, slots=True)
class PushPosition:
    """Time up to which an account was notified, and the notices near that time."""

    at: datetime
    sent: tuple[tuple[int, ...], ...] = ()


def save_device(conn: Conn, account: Account, device: Device, now: datetime) -> None:
    """Register a device. What is older than an account's first one is not pushed."""
    value = {"did": account.did, **device.json()}
    save_item(conn, account, Kind.PUSH, device.subject, value, now)
    if find_position(conn, account) is None:
        save_position(conn, account, PushPosition(now))


def delete_device(conn: Conn, account: Account, device: Device) -> None:
    """End a registration, if there is one."""
    delete_item(conn, account, Kind.PUSH, device.subject)


def claim_devices(
    conn: Conn, vault: Vault, now: datetime, limit: int
) -> dict[str, list[Device]]:
    """Return DID -> devices of accounts whose turn it is, and postpone these."""
    rows = conn.execute(
        """
        UPDATE private_item SET at = %s WHERE kind = %s AND account IN (
            SELECT account FROM private_item WHERE kind = %s AND at <= %s
            ORDER BY at LIMIT %s FOR UPDATE SKIP LOCKED
        ) RETURNING account, subject, sealed
        """,
        (now + _PAUSE, Kind.PUSH, Kind.PUSH, now, limit),
    ).fetchall()
    found: dict[str, list[Device]] = {}
    for number, subject, sealed in rows:
        try:
            value = vault.account_by_id(number).open(Kind.PUSH, subject, sealed)
        except DamagedItemError:
            # Of another secret: its account cannot be found.
            continue
        device = Device(
            value["token"], value["platform"], value["appId"], value["ageRestricted"]
        )
        found.setdefault(value["did"], []).append(device)
    return found


def find_position(conn: Conn, account: Account) -> PushPosition | None:
    """Return how far an account was notified; None if it never had a device."""
    held = find_item(conn, account, Kind.PUSHED, NO_SUBJECT)
    if held is None:
        return None
    return PushPosition(held.at, tuple(map(tuple, held.value["sent"])))


def save_position(conn: Conn, account: Account, position: PushPosition) -> None:
    """Store how far an account was notified."""
    value = {"sent": [[*key] for key in position.sent]}
    save_item(
        conn, account, Kind.PUSHED, NO_SUBJECT, value, position.at, keep_time=False
    )
