"""Every event of an account at the reference PDS, under load.

After each phase our index must equal that PDS, live and after a restart with a gap.
Needs `tests/interop/reference/install`; see docs/explanation/reference-servers.md.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from reference_network import is_installed, until
from reference_society import Account, Network

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(
        not is_installed(),
        reason="the reference servers are not installed: "
        "run tests/interop/reference/install",
    ),
]

PATIENCE = 300.0
"""Maximum seconds of a phase, on a busy machine."""
WRITES = 40
"""Writes of a phase, beside the load."""

Phase = Callable[[Network, int], None]


def create(network: Network, turn: int) -> None:
    network.act("create", WRITES, seed=turn)


def update(network: Network, turn: int) -> None:
    network.act("update", WRITES, seed=turn)


def delete(network: Network, turn: int) -> None:
    network.act("delete create", WRITES, seed=turn)


def be_born(network: Network, turn: int) -> None:
    for number in range(2):
        account = network.move_in(f"newborn{turn}x{number}")
        network.write(account, "org.example.garden.plant", {"name": "first"})


def change_handles(network: Network, turn: int) -> None:
    for number, account in enumerate(_quiet(network)):
        handle = f"renamed{turn}x{number}.test"
        network.call(account, "com.atproto.identity.updateHandle", {"handle": handle})
        account.handle = handle


def deactivate(network: Network, turn: int) -> None:
    for account in _quiet(network):
        network.call(account, "com.atproto.server.deactivateAccount", {})
        account.status = "deactivated"


def reactivate(network: Network, turn: int) -> None:
    for account in network.accounts:
        if account.status == "deactivated":
            network.call(account, "com.atproto.server.activateAccount")
            account.status = "active"
    network.act("create update", WRITES // 2, seed=turn)


def take_down(network: Network, turn: int) -> None:
    _judge(network, _quiet(network)[:1], applied=True)


def restore(network: Network, turn: int) -> None:
    taken = [a for a in network.accounts if a.status == "takendown"]
    _judge(network, taken, applied=False)
    network.act("create delete", WRITES // 2, seed=turn)


def give_up(network: Network, turn: int) -> None:
    account = _quiet(network)[-1]
    network.administer("com.atproto.admin.deleteAccount", {"did": account.did})
    account.status = "deleted"


PHASES: tuple[Phase, ...] = (
    create,
    update,
    delete,
    be_born,
    change_handles,
    deactivate,
    reactivate,
    take_down,
    restore,
    give_up,
)


def _quiet(network: Network) -> list[Account]:
    """Return the two newest active accounts, which the load does not use."""
    return network.active()[3:][-2:]


def _judge(network: Network, accounts: list[Account], *, applied: bool) -> None:
    for account in accounts:
        network.administer(
            "com.atproto.admin.updateSubjectStatus",
            {
                "subject": {
                    "$type": "com.atproto.admin.defs#repoRef",
                    "did": account.did,
                },
                "takedown": {"applied": applied, "ref": "test"},
            },
        )
        account.status = "takendown" if applied else "active"


@contextlib.contextmanager
def _timed(network: Network, what: str) -> Iterator[None]:
    """Print the number of writes and the seconds until the index is equal."""
    started, before = time.monotonic(), network.writes
    yield
    seconds = time.monotonic() - started
    print(f"{what:<28} {network.writes - before:4d} writes  {seconds:6.1f} s")


def _settle(network: Network, what: str) -> None:
    try:
        until(network.equal, what, PATIENCE)
    except AssertionError:
        raise AssertionError(f"{what}: {network.difference()}") from None


def test_index_equals_the_reference_after_every_phase(
    network: Network, long: bool
) -> None:
    for name in ("alice", "bob", "carol", "dave", "erin", "frank", "grace"):
        network.move_in(name)
    network.act("create create update delete", WRITES, seed=0)
    with network.start("crawl"):
        with _timed(network, "backfill"):
            _settle(network, "after the backfill")
        for turn, phase in enumerate(PHASES, 1):
            with _timed(network, f"live: {phase.__name__}"):
                with network.under_load(turn):
                    phase(network, turn)
                _settle(network, f"after {phase.__name__}, live")
    for turn, phase in enumerate(PHASES if long else (delete, deactivate), 101):
        with _timed(network, f"gap: {phase.__name__}"):
            with network.under_load(turn):
                phase(network, turn)
            crawl: AbstractContextManager[None] = network.start("crawl")
            with crawl:
                _settle(network, f"after {phase.__name__} in a gap")
    print(f"{len(network.accounts)} accounts, {network.writes} writes")
