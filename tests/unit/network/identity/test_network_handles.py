"""Handles: both ways to resolve them, and both directions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from identity_world import ALICE, BOB, DictCache, Txt, World, document

from network.errors import (
    BadResponseError,
    HandleMismatchError,
    HandleNotFoundError,
    NetworkError,
    UnreachableError,
)
from network.http.client import Fetcher
from network.http.policy import Policy
from network.identity.handle_sources import HandleSources
from network.identity.resolver import IdentityResolver
from protocol.syntax import Did, Handle


class Web(Fetcher):
    """A table of well-known files, without any network."""

    def __init__(self, **hosts: Any) -> None:
        super().__init__(Policy())
        self.hosts = {name.replace("_", "."): v for name, v in hosts.items()}
        self.asked: list[str] = []

    async def get(self, url: str, **options: Any) -> Any:
        self.asked.append(url)
        assert options["max_bytes"] == 2_048
        answer = self.hosts.get(url.split("/")[2])
        if isinstance(answer, Exception):
            raise answer
        status, body = answer or (404, b"")

        class Answer:
            pass

        found = Answer()
        found.status, found.body = status, body  # type: ignore[attr-defined]
        return found


def find(handle: str, txt: Txt, web: Web) -> Did:
    return asyncio.run(HandleSources(web, txt).find(Handle(handle)))


def txt(*values: str) -> Txt:
    found = Txt()
    found.names["_atproto.alice.net"] = list(values)
    return found


@pytest.mark.parametrize(
    ("records", "file", "outcome"),
    [
        ([f"did={ALICE}"], None, ALICE),
        ([f"did={ALICE}"], (200, BOB.encode()), ALICE),  # DNS is preferred
        ([f"did={ALICE}", f"did={ALICE}", "v=spf1"], None, ALICE),
        ([f"did={ALICE}", f"did={BOB}"], (200, ALICE.encode()), HandleMismatchError),
        ([f"did={ALICE}", "did=junk"], None, HandleMismatchError),
        (["did=junk"], (200, ALICE.encode()), ALICE),
        ([f" did={ALICE}"], None, HandleNotFoundError),
        ([f"DID={ALICE}"], None, HandleNotFoundError),
        ([f"did={ALICE}\n"], None, HandleNotFoundError),
        ([ALICE], None, HandleNotFoundError),
        ([], (200, ALICE.encode()), ALICE),
        ([], (200, b" \r\n" + ALICE.encode() + b"\n\n"), ALICE),
        ([], (200, b"did=" + ALICE.encode()), HandleNotFoundError),
        ([], (200, ALICE.encode() + b"\n" + BOB.encode()), HandleNotFoundError),
        ([], (200, b"<html>"), HandleNotFoundError),
        ([], (200, b"\xff\xfe"), HandleNotFoundError),
        ([], (404, ALICE.encode()), HandleNotFoundError),
        ([], (410, b""), HandleNotFoundError),
        ([], (401, b""), BadResponseError),
        ([], (403, b"<html>"), BadResponseError),
        ([], (408, b""), BadResponseError),
        ([], (500, ALICE.encode()), BadResponseError),
        ([], (503, b""), BadResponseError),
        ([], None, HandleNotFoundError),
        ([], UnreachableError("down"), UnreachableError),
    ],
)
def test_handle_resolves_by_dns_then_web(
    records: list[str], file: Any, outcome: Any
) -> None:
    web = Web(alice_net=file)
    if isinstance(outcome, str):
        assert find("alice.net", txt(*records), web) == outcome
    else:
        with pytest.raises(outcome):
            find("alice.net", txt(*records), web)


def test_failing_dns_does_not_prove_a_missing_record() -> None:
    broken = Txt()
    broken.broken = True
    assert find("alice.net", broken, Web(alice_net=(200, BOB.encode()))) == BOB
    with pytest.raises(UnreachableError):
        find("alice.net", broken, Web())


def test_handle_too_long_for_dns_resolves_by_web() -> None:
    handle = ".".join(["a" * 60] * 4) + ".net"
    asked = Txt()
    web = Web()
    web.hosts[handle] = (200, ALICE.encode())
    assert find(handle, asked, web) == ALICE
    assert asked.asked == []


async def test_test_handle_resolves_at_the_development_servers(
    world: World, resolver: IdentityResolver
) -> None:
    world.handles["alice.test"] = ALICE
    assert await resolver.resolve_handle("Alice.TEST") == ALICE
    assert world.txt.asked == []
    with pytest.raises(HandleNotFoundError):
        await resolver.resolve_handle("bob.test")


@pytest.mark.parametrize(
    "handle",
    ["alice.test", "a.localhost", "a.onion", "a.local", "a.internal", "a.arpa"],
)
async def test_reserved_names_cause_no_lookup(handle: str, world: World) -> None:
    async with world.resolver(dev=False) as resolver:
        with pytest.raises(HandleNotFoundError):
            await resolver.resolve_handle(handle)
        assert world.txt.asked == []
        assert sum(world.asked.values()) == 0


async def test_handles_are_cached_also_if_not_found(
    world: World, resolver: IdentityResolver
) -> None:
    path = "/.well-known/atproto-did"
    for _ in range(3):
        with pytest.raises(HandleNotFoundError):
            await resolver.resolve_handle("alice.test")
    assert world.asked[path] == 1
    world.handles["alice.test"] = ALICE
    world.clock.now += 301
    for _ in range(3):
        assert await resolver.resolve_handle("alice.test") == ALICE
    assert world.asked[path] == 2
    world.handles["alice.test"] = BOB
    assert await resolver.resolve_handle("alice.test") == ALICE
    world.clock.now += 5
    assert await resolver.resolve_handle("alice.test", refresh=True) == BOB


async def test_refreshed_handle_is_not_older_than_the_call(
    world: World, resolver: IdentityResolver
) -> None:
    """Move a handle to another account within a second."""
    path = "/.well-known/atproto-did"
    world.handles["alice.test"] = ALICE
    world.answers[f"/{BOB}"] = document(BOB, "alice.test")
    bob = await resolver.resolve_did(BOB)
    assert await resolver.verify_handle(bob) is None
    world.handles["alice.test"] = BOB
    world.clock.now += 6
    assert await resolver.verify_handle(bob, refresh=True) == "alice.test"
    assert world.asked[path] == 2
    # A match may be a minute old, a mismatch may not.
    world.clock.now += 59
    assert await resolver.verify_handle(bob, refresh=True) == "alice.test"
    assert world.asked[path] == 2
    del world.handles["alice.test"]
    world.clock.now += 6
    assert await resolver.verify_handle(bob, refresh=True) is None
    world.clock.now += 6
    world.handles["alice.test"] = BOB
    asked = [resolver.verify_handle(bob, refresh=True) for _ in range(50)]
    assert set(await asyncio.gather(*asked)) == {"alice.test"}
    assert world.asked[path] == 4


async def test_handle_lookup_waits_for_its_interval(
    monkeypatch: pytest.MonkeyPatch, world: World, resolver: IdentityResolver
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        world.clock.now += seconds

    monkeypatch.setattr("network.identity.resolver.asyncio.sleep", sleep)
    world.handles["alice.test"] = ALICE
    for _ in range(3):
        world.clock.now += 1
        assert await resolver.resolve_handle("alice.test", refresh=True) == ALICE
    assert waited == [4, 4]


async def test_failing_domain_does_not_invalidate_a_handle(
    world: World, resolver: IdentityResolver
) -> None:
    world.handles["alice.test"] = ALICE
    world.answers[f"/{ALICE}"] = document(ALICE, "alice.test")
    alice = await resolver.resolve_did(ALICE)
    assert await resolver.verify_handle(alice) == "alice.test"
    world.handles["alice.test"] = "500"
    for _ in range(4):
        world.clock.now += 8 * 3_600
        assert await resolver.verify_handle(alice) == "alice.test"
        with pytest.raises(NetworkError):
            await resolver.resolve_handle("alice.test", refresh=True)
    world.clock.now += 8 * 86_400
    with pytest.raises(NetworkError):
        await resolver.verify_handle(alice)
    # A clear mismatch counts at once.
    del world.handles["alice.test"]
    assert await resolver.verify_handle(alice) is None


async def test_invalid_handle_is_never_verified(
    world: World, resolver: IdentityResolver
) -> None:
    world.handles["handle.invalid"] = ALICE
    world.txt.names["_atproto.handle.invalid"] = [f"did={ALICE}"]
    world.answers[f"/{ALICE}"] = document(ALICE, "handle.invalid")
    assert await resolver.verify_handle(await resolver.resolve_did(ALICE)) is None


async def test_cached_handle_error_keeps_its_class(world: World) -> None:
    cache = DictCache()

    for _ in range(2):
        async with world.resolver(cache) as resolver:
            world.txt.names["_atproto.alice.net"] = [f"did={ALICE}", f"did={BOB}"]
            with pytest.raises(HandleMismatchError):
                await resolver.resolve_handle("alice.net")


async def test_handle_needs_both_directions(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE, "alice.test")
    world.answers[f"/{BOB}"] = document(BOB, "alice.test")
    world.handles["alice.test"] = ALICE
    alice = await resolver.resolve_did(ALICE)
    bob = await resolver.resolve_did(BOB)
    assert await resolver.verify_handle(alice) == "alice.test"
    assert await resolver.verify_handle(bob) is None
    assert await resolver.resolve_identity("ALICE.test") == (alice, "alice.test")
    assert await resolver.resolve_identity(ALICE) == (alice, "alice.test")
    assert await resolver.resolve_identity(BOB) == (bob, "handle.invalid")
    world.handles["other.test"] = ALICE
    with pytest.raises(HandleMismatchError):
        await resolver.resolve_identity("other.test")


async def test_missing_and_unreachable_handles_are_not_verified(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = {**document(ALICE), "alsoKnownAs": []}
    assert await resolver.verify_handle(await resolver.resolve_did(ALICE)) is None
    world.answers[f"/{BOB}"] = document(BOB, "bob.localhost")
    assert await resolver.verify_handle(await resolver.resolve_did(BOB)) is None
