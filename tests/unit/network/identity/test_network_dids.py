"""DID documents: forms, sources, caches."""

from __future__ import annotations

import asyncio

import pytest
from identity_world import ALICE, BOB, KEY, OTHER_KEY, DictCache, World, document
from starlette.responses import JSONResponse, PlainTextResponse, Response

from network.errors import (
    BadDocumentError,
    BadResponseError,
    DidNotFoundError,
    DidTombstonedError,
    IdentityError,
    NetworkError,
    UnsupportedDidError,
)
from network.identity.did_sources import MirroredDocument, did_web_url
from network.identity.resolver import IdentityLimits, IdentityResolver
from protocol.errors import InvalidSyntaxError
from protocol.syntax import Did


async def test_did_plc_resolves(world: World, resolver: IdentityResolver) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE)
    found = await resolver.resolve_did(ALICE)
    assert found.did == ALICE
    assert found.handles == ("alice.test",)
    assert found.pds == "https://pds.net"
    assert (await resolver.resolve_did(ALICE)).signing_key == KEY.public.did_key
    assert world.asked[f"/{ALICE}"] == 1


async def test_did_web_of_a_local_server_resolves(
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
def test_did_web_url_accepts_bare_hosts_only(did: str, url: str | None) -> None:
    if url is None:
        with pytest.raises(UnsupportedDidError):
            did_web_url(Did(did), dev=False)
    else:
        assert did_web_url(Did(did), dev=False) == url


def test_did_web_url_allows_localhost_in_development() -> None:
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
async def test_bad_did_raises_the_error_of_its_class(
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
async def test_bad_document_raises_the_error_of_its_class(
    answer: Response, error: type[Exception], world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = answer
    world.answers["/elsewhere"] = document(ALICE)
    with pytest.raises(error) as raised:
        await resolver.resolve_did(ALICE)
    assert raised.type is error
    assert world.asked["/elsewhere"] == 0


async def test_documents_are_cached_for_a_day(
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


async def test_concurrent_callers_share_one_lookup(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE)
    found = await asyncio.gather(*(resolver.resolve_did(ALICE) for _ in range(200)))
    assert {item.did for item in found} == {ALICE}
    assert world.asked[f"/{ALICE}"] == 1


async def test_refresh_is_limited_to_once_a_minute(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE)
    assert (await resolver.resolve_did(ALICE)).signing_key == KEY.public.did_key
    world.answers[f"/{ALICE}"] = document(ALICE, key=OTHER_KEY)
    # Fetched seconds ago: a rotation is seen after a minute.
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


async def test_insist_borrows_the_next_refresh(
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
    # At most two more than the minutes that have passed.
    for _ in range(600):
        world.clock.now += 1
        await resolver.resolve_did(ALICE, refresh=True, insist=True)
    assert 10 <= world.asked[f"/{ALICE}"] <= 12
    # Three more changes are seen at once, at the cost of later refreshes.
    for early in (2, 3, 4):
        await resolver.resolve_did(ALICE, refresh=True, insist=early)
    assert 13 <= world.asked[f"/{ALICE}"] <= 15
    assert resolver.refresh_in(ALICE) > 180
    assert resolver.refresh_in(ALICE, insist=5) == 0


async def test_mirror_serves_mirrored_refreshes(
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


async def test_unknown_did_is_refreshed_once_a_minute(
    world: World, resolver: IdentityResolver
) -> None:
    for _ in range(50):
        with pytest.raises(DidNotFoundError):
            await resolver.resolve_did(BOB, refresh=True)
    assert world.asked[f"/{BOB}"] == 1


async def test_shared_cache_serves_another_process(world: World) -> None:
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


async def test_old_document_serves_while_the_directory_is_away(
    world: World, resolver: IdentityResolver
) -> None:
    world.answers[f"/{ALICE}"] = document(ALICE)
    await resolver.resolve_did(ALICE)
    world.answers[f"/{ALICE}"] = JSONResponse({}, 503)
    world.clock.now += 2 * 86_400
    assert (await resolver.resolve_did(ALICE)).did == ALICE
    world.clock.now += 61
    with pytest.raises(NetworkError):  # a refresh never returns an old document
        await resolver.resolve_did(ALICE, refresh=True)
    world.clock.now += 8 * 86_400
    with pytest.raises(NetworkError):
        await resolver.resolve_did(ALICE)


async def test_breaker_opens_after_twenty_directory_errors(
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
    # After the pause one fetch is tried; it fails, so there is no second one.
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


async def test_directory_rate_is_limited(world: World) -> None:
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


async def test_cache_is_bounded_by_document_size(world: World) -> None:
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


async def test_cancelled_refresh_does_not_count(
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
