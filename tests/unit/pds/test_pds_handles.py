"""The rules of handles that a PDS gives out."""

from __future__ import annotations

import pytest

from pds.exceptions import (
    HandleNotAvailableError,
    InvalidHandleError,
    PdsError,
    UnsupportedDomainError,
)
from pds.identity.handles import is_local, parse_requested_handle, require_local

DOMAINS = (".a.test", ".example.com")


def test_requested_handle_is_lowercased() -> None:
    assert parse_requested_handle("Alice.A.test", dev=True) == "alice.a.test"


@pytest.mark.parametrize(
    ("text", "dev"),
    [
        ("alice", True),
        ("alice.a.test", False),
        ("alice.localhost", True),
        ("alice..a.test", True),
        ("alice.a.test\n", True),
        ("älice.a.test", True),
        ("alice_b.a.test", True),
    ],
)
def test_invalid_handle_is_refused(text: str, dev: bool) -> None:
    with pytest.raises(InvalidHandleError):
        parse_requested_handle(text, dev=dev)


@pytest.mark.parametrize(
    "handle", ["abc.a.test", "a-b-c.example.com", "x" * 18 + ".a.test"]
)
def test_one_label_under_a_domain_is_accepted(handle: str) -> None:
    require_local(handle, DOMAINS)


@pytest.mark.parametrize(
    ("handle", "error"),
    [
        ("alice.b.test", UnsupportedDomainError),
        ("a.test", UnsupportedDomainError),
        ("ab.a.test", InvalidHandleError),
        ("x" * 19 + ".a.test", InvalidHandleError),
        ("alice.b.a.test", InvalidHandleError),
        ("admin.a.test", HandleNotAvailableError),
        ("bluesky.example.com", HandleNotAvailableError),
        ("xrpc.a.test", HandleNotAvailableError),
    ],
)
def test_other_local_handles_are_refused(handle: str, error: type[PdsError]) -> None:
    with pytest.raises(error):
        require_local(handle, DOMAINS)


def test_is_local_checks_every_domain() -> None:
    assert is_local("alice.example.com", DOMAINS)
    assert not is_local("aliceexample.com", DOMAINS)
