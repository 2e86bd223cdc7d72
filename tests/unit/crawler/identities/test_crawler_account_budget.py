"""Commit budgets and identity refreshes of accounts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.identities.accounts import EARLY_REFRESHES, SAVED_S, Account, AccountBook
from protocol.syntax import Did

RATE = 10.0
CALM = 60.0
SAVED = int(RATE * SAVED_S)


class Clock:
    def __init__(self) -> None:
        self.now = 5_000.0

    def __call__(self) -> float:
        return self.now


class Budget:
    """One account of a book with a clock that is turned."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.book = AccountBook(
            10,
            dev=False,
            refresh_interval=60.0,
            commits_per_s=RATE,
            cooldown=CALM,
            clock=self.clock,
        )
        self.account = Account(Did("did:plc:" + "a" * 24))

    def write(self, count: int, per_s: float) -> int:
        """Return how many of so many commits were taken."""
        taken = 0
        for _ in range(count):
            self.clock.now += 1.0 / per_s
            taken += self.book.may_write(self.account)
        return taken


@given(st.lists(st.floats(0.0, 500.0), max_size=200))
def test_account_within_its_budget_is_never_throttled(pauses: list[float]) -> None:
    budget = Budget()
    for pause in pauses:
        budget.clock.now += pause + 1.0 / RATE
        assert budget.book.may_write(budget.account)


def test_account_may_save_up_its_budget() -> None:
    budget = Budget()
    assert budget.write(SAVED, 1e9) == SAVED
    # And as many again once they are saved up.
    budget.clock.now += SAVED_S + 1.0
    assert budget.write(SAVED, 1e9) == SAVED
    assert budget.write(100, 1e9) == 0


@pytest.mark.parametrize("per_s", [20.0, 1_000.0, 10_000.0])
def test_account_that_does_not_slow_down_stays_throttled(per_s: float) -> None:
    budget = Budget()
    budget.write(SAVED * 3, per_s)
    assert budget.write(int(per_s * 100), per_s) == 0
    # Calm, he is followed again in a minute, however much it was.
    budget.clock.now += CALM + 0.2
    assert budget.book.may_write(budget.account)
    assert budget.write(100, RATE / 2) == 100


def test_identity_refreshes_are_one_a_minute_on_average() -> None:
    """Several changes of a handle in a minute are; somebody who goes on is not."""
    budget = Budget()
    book, account, early = budget.book, budget.account, EARLY_REFRESHES
    assert [book.refresh_in(account) for _ in range(early)] == [0.0] * EARLY_REFRESHES
    looks = 0
    for _ in range(3_600):
        budget.clock.now += 1.0
        wait = book.refresh_in(account)
        assert wait <= 60.0
        looks += wait == 0.0
    assert looks == 60
    budget.clock.now += 60.0 * (early + 1)
    assert [book.refresh_in(account) for _ in range(early)] == [0.0] * EARLY_REFRESHES
