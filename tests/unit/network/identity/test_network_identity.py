from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from identity_world import ALICE, BOB, KEY, OTHER_KEY, DictCache, Txt, World, document
from starlette.responses import JSONResponse, PlainTextResponse, Response

from network.errors import (
    BadDocumentError,
    BadResponseError,
    DidNotFoundError,
    DidTombstonedError,
    HandleMismatchError,
    HandleNotFoundError,
    IdentityError,
    NetworkError,
    RateLimitedError,
    UnreachableError,
    UnsupportedDidError,
)
from network.http.breaker import Breaker
from network.http.client import Fetcher
from network.http.policy import Policy
from network.http.single_flight import SingleFlight
from network.identity.did_sources import MirroredDocument, did_web_url
from network.identity.handle_sources import HandleSources
from network.identity.resolver import IdentityLimits, IdentityResolver
from protocol.errors import InvalidSyntaxError
from protocol.syntax import Did, Handle


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def resolver(world: World) -> AsyncIterator[IdentityResolver]:
    async with world.resolver() as resolver:
        yield resolver


# DIDs.


async def test_did_plc(world: World, resolver: IdentityResolver) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE)
    found = await resolver.resolve_did(ALICE)
    assert found.did == ALICE
    assert found.handles == ("alice.test",)
    assert found.pds == "https://pds.net"
    assert (await resolver.resolve_did(ALICE)).signing_key == KEY.public.did_key
    assert world.asked[f"/{ALICE}"] == 1


async def test_did_web_of_a_local_server(
    world: World, resolver: IdentityResolver
) -> None:
    did = f"did:web:localhost%3A{world.port}"
    world.answers["/.well-known/did.json"] = document(did)
    assert (await resolver.resolve_did(did)).did == did


@pytest.mark.parametrize(
    ("did", "url"),
    [
        ("did:web:host.net", "https://host.net/.well-known/did.json"),
        ("did:web:a-b.host.co", "https://a-b.host.co/.well-known/did.json"),
        ("did:web:host.net:user:alice", None),
        ("did:web:host.net%3A8443", None),
        ("did:web:host.net%2Fpath", None),
        ("did:web:Host.net", None),
        ("did:web:xn--bcher-kva.net", None),
        ("did:web:a.xn--bcher-kva.net", None),
        ("did:web:localhost", None),
        ("did:web:localhost%3A2580", None),
        ("did:web:127.0.0.1", None),
        ("did:web:2130706433", None),
        ("did:web:0x7f000001", None),
        ("did:web:1.0.0.127.in-addr.arpa", None),
        ("did:web:host.internal", None),
        ("did:web:host", None),
        ("did:web:host.net.", None),
        ("did:web:user%40host.net", None),
        ("did:web:%6c%6f.net", None),
    ],
)
def test_which_did_web_forms_are_in_use(did: str, url: str | None) -> None:
    if url is None:
        with pytest.raises(UnsupportedDidError):
            did_web_url(Did(did), dev=False)
    else:
        assert did_web_url(Did(did), dev=False) == url


def test_development_adds_local_did_web_and_nothing_else() -> None:
    local = "http://localhost:2580/.well-known/did.json"
    assert did_web_url(Did("did:web:localhost%3A2580"), dev=True) == local
    for did in ("did:web:127.0.0.1%3A80", "did:web:host.net%3A80", "did:web:host"):
        with pytest.raises(UnsupportedDidError):
            did_web_url(Did(did), dev=True)


@pytest.mark.parametrize(
    ("did", "error"),
    [
        ("", InvalidSyntaxError),
        ("alice.test", InvalidSyntaxError),
        ("did:plc:short", InvalidSyntaxError),
        ("did:plc:" + "A" * 24, InvalidSyntaxError),
        ("did:plc:" + "a" * 24 + "\n", InvalidSyntaxError),
        ("did:plc:" + "a" * 24 + "?x=1", InvalidSyntaxError),
        ("did:plc:" + "a" * 2_050, InvalidSyntaxError),
        ("did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", IdentityError),
        ("did:example:123", UnsupportedDidError),
        ("did:web:host.net:path", UnsupportedDidError),
        (BOB, DidNotFoundError),
    ],
)
async def test_classes_of_dids_that_do_not_resolve(
    did: str, error: type[Exception], world: World, resolver: IdentityResolver
) -> None:
    with pytest.raises(error):
        await resolver.resolve_did(did)
    assert sum(world.asked.values()) == (did == BOB)


GONE, UNKNOWN = DidTombstonedError, DidNotFoundError


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (JSONResponse({}, 410), GONE),
        (JSONResponse({}, 404), UNKNOWN),
        (JSONResponse({}, 400), UNKNOWN),
        (JSONResponse({"message": f"DID not available: {ALICE}"}, 404), GONE),
        (JSONResponse({"message": f"DID not registered: {ALICE}"}, 404), UNKNOWN),
        (JSONResponse(["DID not available"], 404), UNKNOWN),
        (JSONResponse({}, 401), BadResponseError),
        (PlainTextResponse("<html>", 403), BadResponseError),
        (JSONResponse({}, 500), BadResponseError),
        (Response(b"", 302, {"Location": "/elsewhere"}), BadResponseError),
        (PlainTextResponse("<html>"), BadDocumentError),
        (JSONResponse([]), BadDocumentError),
        (JSONResponse({}), BadDocumentError),
        (JSONResponse(document(BOB)), BadDocumentError),
        (JSONResponse({**document(ALICE), "id": ALICE.upper()}), BadDocumentError),
        (JSONResponse({**document(ALICE), "pad": "x" * 70_000}), BadDocumentError),
        (PlainTextResponse(f'{{"id":"{BOB}","id":"{ALICE}"}}'), BadDocumentError),
        (JSONResponse({**document(ALICE), "service": [{}] * 200}), BadDocumentError),
    ],
)
async def test_documents_that_are_none(
    answer: Response, error: type[Exception], world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = answer
    world.answers["/elsewhere"] = document(ALICE)
    with pytest.raises(error) as raised:
        await resolver.resolve_did(ALICE)
    assert raised.type is error
    assert world.asked["/elsewhere"] == 0


# Caching.


async def test_documents_are_cached_until_they_are_old(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE)
    for _ in range(3):
        await resolver.resolve_did(ALICE)
    assert world.asked[f"/{ALICE}"] == 1
    world.clock.now += 86_401
    await resolver.resolve_did(ALICE)
    assert world.asked[f"/{ALICE}"] == 2


async def test_failures_are_cached_for_five_minutes(
    world: World, resolver: IdentityResolver
) -> None:
    for _ in range(3):
        with pytest.raises(DidNotFoundError):
            await resolver.resolve_did(ALICE)
    world.clock.now += 299
    with pytest.raises(DidNotFoundError):
        await resolver.resolve_did(ALICE)
    assert world.asked[f"/{ALICE}"] == 1
    world.answers[f"/{ALICE}"] = document(ALICE)
    world.clock.now += 2
    await resolver.resolve_did(ALICE)
    assert world.asked[f"/{ALICE}"] == 2


async def test_many_askers_make_one_question(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE)
    found = await asyncio.gather(*(resolver.resolve_did(ALICE) for _ in range(200)))
    assert {item.did for item in found} == {ALICE}
    assert world.asked[f"/{ALICE}"] == 1


async def test_a_refresh_happens_once_a_minute_however_often_it_is_wanted(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE)
    assert (await resolver.resolve_did(ALICE)).signing_key == KEY.public.did_key
    world.answers[f"/{ALICE}"] = document(ALICE, key=OTHER_KEY)
    # Asked seconds ago: a rotation is seen after a minute at the latest.
    assert (
        await resolver.resolve_did(ALICE, refresh=True)
    ).signing_key == KEY.public.did_key
    world.clock.now += 61
    for _ in range(1_000):
        key = (await resolver.resolve_did(ALICE, refresh=True)).signing_key
    assert key == OTHER_KEY.public.did_key
    assert world.asked[f"/{ALICE}"] == 2
    for _ in range(10):
        world.clock.now += 30
        await resolver.resolve_did(ALICE, refresh=True)
    assert world.asked[f"/{ALICE}"] == 2 + 5


async def test_who_insists_is_answered_anew_on_the_account_of_the_next_minute(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE)
    await resolver.resolve_did(ALICE)
    world.answers[f"/{ALICE}"] = document(ALICE, key=OTHER_KEY)
    world.clock.now += 5
    for _ in range(100):
        found = await resolver.resolve_did(ALICE, refresh=True, insist=True)
    assert found.signing_key == OTHER_KEY.public.did_key
    assert world.asked[f"/{ALICE}"] == 2
    # However loudly: two more than the minutes that have passed, at the most.
    for _ in range(600):
        world.clock.now += 1
        await resolver.resolve_did(ALICE, refresh=True, insist=True)
    assert 10 <= world.asked[f"/{ALICE}"] <= 12
    # Three more changes at once are seen at once, and paid for.
    for early in (2, 3, 4):
        await resolver.resolve_did(ALICE, refresh=True, insist=early)
    assert 13 <= world.asked[f"/{ALICE}"] <= 15
    assert resolver.refresh_in(ALICE) > 180
    assert resolver.refresh_in(ALICE, insist=5) == 0


async def test_a_mirror_serves_refreshes_that_need_not_be_of_this_second(
    world: World, resolver: IdentityResolver
) -> None:
    class Mirror:
        async def find(self, did: str) -> MirroredDocument:
            return MirroredDocument(document(did, key=OTHER_KEY))

    world.answers[f"/{ALICE}"] = document(ALICE)
    mirrored = IdentityResolver(
        resolver._dids._fetcher,
        resolver._dids._plc_url,
        dev=True,
        mirror=Mirror(),
        now=world.clock,
    )
    assert (await mirrored.resolve_did(ALICE)).signing_key == OTHER_KEY.public.did_key
    world.clock.now += 61
    await mirrored.resolve_did(ALICE, refresh=True, mirrored=True)
    assert world.asked[f"/{ALICE}"] == 0
    world.clock.now += 61
    found = (await mirrored.resolve_did(ALICE, refresh=True)).signing_key
    assert found == KEY.public.did_key
    assert world.asked[f"/{ALICE}"] == 1


async def test_an_unknown_did_cannot_be_refreshed_more_often_either(
    world: World, resolver: IdentityResolver
) -> None:
    for _ in range(50):
        with pytest.raises(DidNotFoundError):
            await resolver.resolve_did(BOB, refresh=True)
    assert world.asked[f"/{BOB}"] == 1


async def test_the_shared_cache_serves_another_process(world: World) -> None:
    cache = DictCache()
    async with world.resolver(cache) as resolver:
        world.answers[f"/{ALICE}"] = document(ALICE)
        await resolver.resolve_did(ALICE)
        with pytest.raises(DidNotFoundError):
            await resolver.resolve_did(BOB)
    world = World()
    async with world.resolver(cache) as resolver:
        assert (await resolver.resolve_did(ALICE)).did == ALICE
        with pytest.raises(DidNotFoundError):
            await resolver.resolve_did(BOB)
        assert world.asked.total() == 0
        # An entry that is too old is fetched again.
        world.clock.now += 301
        with pytest.raises(DidNotFoundError):
            await resolver.resolve_did(BOB)
        assert world.asked[f"/{BOB}"] == 1


async def test_an_old_document_is_better_than_none_while_the_directory_is_away(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE)
    await resolver.resolve_did(ALICE)
    world.answers[f"/{ALICE}"] = JSONResponse({}, 503)
    world.clock.now += 2 * 86_400
    assert (await resolver.resolve_did(ALICE)).did == ALICE
    world.clock.now += 61
    with pytest.raises(NetworkError):  # a refresh is never faked
        await resolver.resolve_did(ALICE, refresh=True)
    world.clock.now += 8 * 86_400
    with pytest.raises(NetworkError):
        await resolver.resolve_did(ALICE)


async def test_the_directory_is_left_alone_after_twenty_errors(
    world: World, resolver: IdentityResolver
) -> None:
    dids = [
        f"did:plc:{n:0>24}".translate(str.maketrans("0189", "aijk")) for n in range(60)
    ]
    for did in dids:
        world.answers[f"/{did}"] = JSONResponse({}, 500)
    for did in dids[:40]:
        with pytest.raises(NetworkError):
            await resolver.resolve_did(did)
    assert sum(world.asked.values()) == 20
    # After the pause one question may try; it fails, so no second one.
    world.clock.now += 31
    for did in dids[40:50]:
        with pytest.raises(NetworkError):
            await resolver.resolve_did(did)
    assert sum(world.asked.values()) == 21
    world.clock.now += 31
    for did in dids[50:]:
        world.answers[f"/{did}"] = document(did)
        await resolver.resolve_did(did)
    assert sum(world.asked.values()) == 31


async def test_the_directory_is_not_asked_faster_than_configured(world: World) -> None:
    limits = IdentityLimits(plc_rate=40.0)
    async with world.resolver(limits=limits) as resolver:
        loop = asyncio.get_running_loop()
        dids = [f"did:plc:{chr(97 + n) * 24}" for n in range(26)]
        dids += [f"did:plc:{chr(97 + n) * 23}2" for n in range(26)]
        dids += [f"did:plc:{chr(97 + n) * 23}3" for n in range(8)]
        started = loop.time()
        await asyncio.gather(
            *(resolver.resolve_did(did) for did in dids), return_exceptions=True
        )
        assert sum(world.asked.values()) == 60
        assert loop.time() - started > (60 - 40) / 40 - 0.05


# Handles.


class Web(Fetcher):
    """Well-known files by a table of hosts, without any network."""

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
def test_a_handle_is_resolved_by_dns_then_web(
    records: list[str], file: Any, outcome: Any
) -> None:
    web = Web(alice_net=file)
    if isinstance(outcome, str):
        assert find("alice.net", txt(*records), web) == outcome
    else:
        with pytest.raises(outcome):
            find("alice.net", txt(*records), web)


def test_dns_that_fails_is_no_proof_that_there_is_no_record() -> None:
    broken = Txt()
    broken.broken = True
    assert find("alice.net", broken, Web(alice_net=(200, BOB.encode()))) == BOB
    with pytest.raises(UnreachableError):
        find("alice.net", broken, Web())


def test_a_name_too_long_for_dns_is_asked_by_web_only() -> None:
    handle = ".".join(["a" * 60] * 4) + ".net"
    asked = Txt()
    web = Web()
    web.hosts[handle] = (200, ALICE.encode())
    assert find(handle, asked, web) == ALICE
    assert asked.asked == []


async def test_handles_of_the_test_network_are_asked_of_its_servers(
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
async def test_reserved_names_are_never_looked_up(handle: str, world: World) -> None:
    async with world.resolver(dev=False) as resolver:
        with pytest.raises(HandleNotFoundError):
            await resolver.resolve_handle(handle)
        assert world.txt.asked == []
        assert sum(world.asked.values()) == 0


async def test_handles_are_cached_found_or_not(
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


async def test_a_refreshed_handle_is_never_older_than_the_question(
    world: World, resolver: IdentityResolver
) -> None:
    """An account takes the handle that another one freed a second ago."""
    path = "/.well-known/atproto-did"
    world.handles["alice.test"] = ALICE
    world.answers[f"/{BOB}"] = document(BOB, "alice.test")
    bob = await resolver.resolve_did(BOB)
    assert await resolver.verify_handle(bob) is None
    world.handles["alice.test"] = BOB
    world.clock.now += 6
    assert await resolver.verify_handle(bob, refresh=True) == "alice.test"
    assert world.asked[path] == 2
    # A yes may be a minute old; a no may not.
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


async def test_a_handle_is_asked_for_once_in_an_interval(
    monkeypatch: pytest.MonkeyPatch,
    world: World,
    resolver: IdentityResolver,
) -> None:
    """Who comes in between waits, and takes no answer to an older question."""
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


async def test_a_domain_in_trouble_does_not_cost_an_account_its_handle(
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
    # A clear no is believed.
    del world.handles["alice.test"]
    assert await resolver.verify_handle(alice) is None


async def test_the_invalid_handle_is_never_verified(
    world: World, resolver: IdentityResolver
) -> None:
    world.handles["handle.invalid"] = ALICE
    world.txt.names["_atproto.handle.invalid"] = [f"did={ALICE}"]
    world.answers[f"/{ALICE}"] = document(ALICE, "handle.invalid")
    assert await resolver.verify_handle(await resolver.resolve_did(ALICE)) is None


async def test_the_error_of_a_cached_handle_keeps_its_class(world: World) -> None:
    cache = DictCache()

    for _ in range(2):
        async with world.resolver(cache) as resolver:
            world.txt.names["_atproto.alice.net"] = [f"did={ALICE}", f"did={BOB}"]
            with pytest.raises(HandleMismatchError):
                await resolver.resolve_handle("alice.net")


# Both ways.


async def test_a_handle_counts_only_if_both_sides_agree(
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


async def test_no_handle_and_unreachable_handles(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = {**document(ALICE), "alsoKnownAs": []}
    assert await resolver.verify_handle(await resolver.resolve_did(ALICE)) is None
    world.answers[f"/{BOB}"] = document(BOB, "bob.localhost")
    assert await resolver.verify_handle(await resolver.resolve_did(BOB)) is None


# Parts.


def test_the_breaker_counts_failures_in_a_row() -> None:
    now = [0.0]
    breaker = Breaker(3, 10.0, lambda: now[0])
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.may_call()
    for _ in range(3):
        assert breaker.may_call()
        breaker.failed()
    assert not breaker.may_call()
    now[0] = 11.0
    assert breaker.may_call()
    assert not breaker.may_call()  # one probe at a time
    breaker.succeeded()
    assert breaker.may_call()
    assert breaker.may_call()


async def test_long_documents_do_not_fill_the_memory(world: World) -> None:
    """One stranger with a name for each of many documents writes them all."""
    long = [f"at://{'a' * 60}.{n:060}.{'b' * 60}.net" for n in range(100)]
    async with world.resolver(limits=IdentityLimits(memory_bytes=100000)) as resolver:
        dids = [f"did:plc:{name:a>24}" for name in map("b".__mul__, range(20))]
        for did in dids:
            world.answers[f"/{did}"] = {**document(did), "alsoKnownAs": long}
            assert len((await resolver.resolve_did(did)).handles) == 100
        for did in dids[-3:]:
            await resolver.resolve_did(did)
            assert world.asked[f"/{did}"] == 1
        await resolver.resolve_did(dids[0])
        assert world.asked[f"/{dids[0]}"] == 2


async def test_what_was_given_up_counts_as_not_asked(
    monkeypatch: pytest.MonkeyPatch, world: World, resolver: IdentityResolver
) -> None:
    did = f"did:plc:{'a' * 24}"
    world.answers[f"/{did}"] = document(did)
    await resolver.resolve_did(did)
    world.clock.now += 61
    with monkeypatch.context() as patched:
        patched.setattr(resolver._dids, "fetch", lambda *_, **__: asyncio.sleep(60))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await resolver.resolve_did(did, refresh=True)
    await asyncio.sleep(0)
    assert resolver.refresh_in(did) == 0
    await resolver.resolve_did(did, refresh=True)
    assert world.asked[f"/{did}"] == 2
    assert resolver.refresh_in(did) > 0


async def test_single_flight_survives_a_cancelled_asker_and_reports_errors() -> None:
    flight: SingleFlight[str, int] = SingleFlight()
    calls = 0

    async def slow() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        return 7

    first = asyncio.create_task(flight.run("a", slow))
    second = asyncio.create_task(flight.run("a", slow))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 7
    assert calls == 1
    # Once nobody waits for it any more it is given up, and begun anew for others.
    given_up = asyncio.create_task(flight.run("a", slow))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert await flight.run("a", slow) == 7
    assert calls == 3

    async def broken() -> int:
        raise RateLimitedError("no", 1.0)

    for _ in range(2):
        with pytest.raises(RateLimitedError):
            await flight.run("a", broken)
    assert await flight.run("a", slow) == 7
