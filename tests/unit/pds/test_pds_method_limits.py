"""The numbers of the limits of single methods."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from network.errors import XrpcError
from pds.rate_limits import MethodLimits
from pds.repo.repo_writes import Intent
from pds.settings import PdsSettings

CALL: Any = SimpleNamespace(request=SimpleNamespace(scope={}))
DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
Spend = Callable[[MethodLimits], None]


def settings() -> PdsSettings:
    return PdsSettings(
        public_url="https://pds.example.com",
        handle_domains=(".example.com",),
        plc_url="https://plc.example.com",
        secret=b"s" * 32,
    )


def repeat(times: int, spend: Spend, limits: MethodLimits) -> None:
    """Spend repeatedly; more often than the limit, since points are refilled."""
    for _ in range(times):
        spend(limits)


@pytest.mark.parametrize(
    ("spend", "times", "limit"),
    [
        (lambda limits: limits.delete_account(CALL), 50, 50),
        (lambda limits: limits.upload(CALL, DID), 1000, 1000),
        (lambda limits: limits.change_handle(CALL, DID), 10, 10),
        (lambda limits: limits.sign_up(CALL), 100, 100),
        (lambda limits: limits.log_in(CALL, DID), 30, 30),
        (lambda limits: limits.write(CALL, DID, [Intent.CREATE]), 1666, 5000),
        (lambda limits: limits.write(CALL, DID, [Intent.PUT]), 2500, 5000),
        (lambda limits: limits.write(CALL, DID, [Intent.DELETE] * 200), 25, 5000),
    ],
)
def test_method_limits_are_those_of_the_reference(
    spend: Spend, times: int, limit: int
) -> None:
    limits = MethodLimits(settings())
    repeat(times, spend, limits)
    with pytest.raises(XrpcError) as caught:
        repeat(10, spend, limits)
    assert caught.value.status == 429
    assert caught.value.headers["RateLimit-Limit"] == str(limit)
    assert int(caught.value.headers["Retry-After"]) > 0


def test_method_limits_count_each_account_separately() -> None:
    limits = MethodLimits(settings())
    with pytest.raises(XrpcError):
        repeat(20, lambda limits: limits.change_handle(CALL, DID), limits)
    limits.change_handle(CALL, DID.replace("a", "b"))


def test_method_limits_accept_an_empty_batch() -> None:
    MethodLimits(settings()).write(CALL, DID, [])
