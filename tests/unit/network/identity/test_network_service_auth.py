from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from anyio import CapacityLimiter
from identity_world import ALICE, BOB, KEY, OTHER_KEY, UsedTokens, World, document
from starlette.requests import Request
from starlette.responses import JSONResponse

from network.errors import XrpcError
from network.identity.jti import ThreadedJtiStore
from network.identity.service_authenticator import ServiceAuthenticator
from network.xrpc.server import Auth
from protocol.identity.keys import PrivateKey
from protocol.identity.service_auth import create_service_jwt
from protocol.syntax import Did, Nsid

US = "did:web:search.net"
SEARCH = "app.bsky.feed.searchPosts"


def token(
    world: World,
    *,
    iss: str = ALICE,
    aud: str = US,
    lxm: str | None = SEARCH,
    key: PrivateKey = KEY,
    age: int = 0,
    **options: Any,
) -> str:
    return create_service_jwt(
        iss=Did(iss),
        aud=aud,
        lxm=None if lxm is None else Nsid(lxm),
        key=key,
        now=int(world.clock()) - age,
        **options,
    )


@asynccontextmanager
async def authenticating(
    world: World, **options: Any
) -> AsyncIterator[ServiceAuthenticator]:
    options.setdefault("jti_store", UsedTokens())
    world.answers[f"/{ALICE}"] = document(ALICE)
    audiences = [US, f"{US}#bsky_appview"]
    async with world.resolver() as resolver:
        yield ServiceAuthenticator(resolver, audiences, world.clock, **options)


@pytest.fixture
async def authenticator(world: World) -> AsyncIterator[ServiceAuthenticator]:
    async with authenticating(world) as authenticator:
        yield authenticator


async def refused(
    authenticator: ServiceAuthenticator, text: str, nsid: str = SEARCH
) -> tuple[str, int]:
    with pytest.raises(XrpcError) as caught:
        await authenticator.check_token(text, nsid)
    return caught.value.name, caught.value.status


def request(*values: str) -> Request:
    headers = [(b"authorization", value.encode()) for value in values]
    return Request({"type": "http", "headers": headers})


async def test_good_token_is_accepted(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    for aud in (US, f"{US}#bsky_appview"):
        header = f"Bearer {token(world, aud=aud)}"
        auth = await authenticator(request(header), SEARCH)
        assert auth is not None
        assert (auth.did, auth.kind) == (ALICE, "service")
        assert auth.claims["lxm"] == SEARCH
    assert isinstance(
        await authenticator(request(f"bearer {token(world)}"), SEARCH), Auth
    )
    assert world.asked[f"/{ALICE}"] == 1


async def test_other_schemes_count_as_no_token(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    good = token(world)
    for values in (
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        ("Basic dXNlcjpwYXNz",),
        (f"DPoP {good}",),
        (good,),
    ):
        assert await authenticator(request(*values), SEARCH) is None, values
    for values in ((f"Bearer {good}", f"Bearer {good}"), (f"Bearer x {good}",)):
        with pytest.raises(XrpcError) as caught:
            await authenticator(request(*values), SEARCH)
        assert (caught.value.name, caught.value.status) == ("BadJwt", 401)


async def test_bad_token_gets_the_error_name_of_its_fault(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    world.answers[f"/{BOB}"] = {**document(BOB), "verificationMethod": []}
    unknown = "did:plc:" + "c" * 24
    cases = {
        token(world, aud="did:web:other.net"): "BadJwtAudience",
        token(world, aud=f"{US}#other"): "BadJwtAudience",
        token(world, aud=US.upper()): "BadJwtAudience",
        token(world, lxm=None): "BadJwtLexiconMethod",
        token(world, lxm="app.bsky.feed.getPosts"): "BadJwtLexiconMethod",
        token(world, age=61): "JwtExpired",
        token(world, lifetime=7_200): "BadJwt",
        token(world, key=OTHER_KEY): "BadJwtSignature",
        token(world, iss="alice.test"): "BadJwtIss",
        token(world, iss=unknown): "AuthenticationRequired",
        token(world, iss=BOB): "AuthenticationRequired",
        token(world, iss="did:example:x"): "AuthenticationRequired",
        token(world, iss="did:plc:short"): "AuthenticationRequired",
        token(world)[:-6] + "AAAAAA": "BadJwtSignature",
        "a.b.c": "BadJwt",
        "": "BadJwt",
    }
    for text, name in cases.items():
        assert await refused(authenticator, text) == (name, 401), name


async def test_long_token_and_fast_clock_are_accepted(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    for options in ({"lifetime": 3_600}, {"age": -240}):
        await authenticator.check_token(token(world, **options), SEARCH)


async def test_labeler_token_needs_the_label_key(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    labeler = f"{ALICE}#atproto_labeler"
    name, status = await refused(authenticator, token(world, iss=labeler))
    assert (name, status) == ("AuthenticationRequired", 401)
    made = document(ALICE)
    made["verificationMethod"] += [
        {
            **made["verificationMethod"][0],
            "id": f"{ALICE}#atproto_label",
            "publicKeyMultibase": OTHER_KEY.public.multikey,
        }
    ]
    world.answers[f"/{ALICE}"] = made
    world.clock.now += 61
    auth = await authenticator.check_token(
        token(world, iss=labeler, key=OTHER_KEY), SEARCH
    )
    assert auth.did == labeler
    for iss, key in ((ALICE, OTHER_KEY), (labeler, KEY)):
        answer = await refused(authenticator, token(world, iss=iss, key=key))
        assert answer == ("BadJwtSignature", 401)


async def test_token_for_another_audience_causes_no_lookup(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    for number in range(20):
        iss = f"did:plc:{chr(97 + number) * 24}"
        await refused(authenticator, token(world, iss=iss, aud="did:web:x.net"))
        await refused(authenticator, token(world, iss=iss, age=1_000))
    assert sum(world.asked.values()) == 0


async def test_lxm_option_accepts_further_methods(world: World) -> None:
    async with authenticating(
        world, lxm={"app.bsky.feed.getFeed": ["app.bsky.feed.getFeedSkeleton"]}
    ) as authenticator:
        skeleton = token(world, lxm="app.bsky.feed.getFeedSkeleton")
        await authenticator.check_token(skeleton, "app.bsky.feed.getFeed")
        again = token(world, lxm="app.bsky.feed.getFeedSkeleton")
        assert (await refused(authenticator, again))[0] == "BadJwtLexiconMethod"


async def test_any_audience_skips_only_the_audience(world: World) -> None:
    feed = "app.bsky.feed.getFeed"
    async with authenticating(world, any_audience=[feed]) as authenticator:
        theirs = {"aud": "did:web:feeds.net", "lxm": feed}
        auth = await authenticator.check_token(token(world, **theirs), feed)
        assert (auth.did, auth.claims["aud"]) == (ALICE, "did:web:feeds.net")
        for change, name in (
            ({"lxm": SEARCH}, "BadJwtLexiconMethod"),
            ({"age": 61}, "JwtExpired"),
            ({"key": OTHER_KEY}, "BadJwtSignature"),
        ):
            text = token(world, **(theirs | change))
            assert await refused(authenticator, text, feed) == (name, 401)
        text = token(world, aud="did:web:feeds.net")
        assert await refused(authenticator, text) == ("BadJwtAudience", 401)


async def test_rotated_key_is_found_and_forgeries_cause_no_lookups(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    await authenticator.check_token(token(world), SEARCH)
    world.answers[f"/{ALICE}"] = document(ALICE, key=OTHER_KEY)
    # Right after the first lookup, in place of the next one.
    await authenticator.check_token(token(world, key=OTHER_KEY), SEARCH)
    assert world.asked[f"/{ALICE}"] == 2
    forger = PrivateKey.generate()
    for minutes in range(3):
        for _ in range(100):
            await refused(authenticator, token(world, key=forger))
        assert world.asked[f"/{ALICE}"] == 2 + minutes
        world.clock.now += 61
    # The old key is no longer accepted.
    assert (await refused(authenticator, token(world)))[0] == "BadJwtSignature"


async def test_unreachable_issuer_is_401(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    world.answers[f"/{ALICE}"] = JSONResponse({}, 500)
    answer = await refused(authenticator, token(world))
    assert answer == ("AuthenticationRequired", 401)


@pytest.mark.parametrize("is_async", [False, True])
async def test_inactive_issuers_are_refused(is_async: bool, world: World) -> None:
    async def later(did: str) -> bool:
        return did != ALICE

    def now(did: str) -> bool:
        return did != ALICE

    async with authenticating(
        world, is_active=later if is_async else now
    ) as authenticator:
        world.answers[f"/{BOB}"] = document(BOB)
        answer = await refused(authenticator, token(world))
        assert answer == ("AuthenticationRequired", 401)
        await authenticator.check_token(token(world, iss=BOB), SEARCH)


async def test_token_is_accepted_once(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    used = token(world)
    await authenticator.check_token(used, SEARCH)
    for wait in (0, 1, 59, 1):
        world.clock.now += wait
        name, status = await refused(authenticator, used)
        assert (name, status) in (("BadJwt", 401), ("JwtExpired", 401))
    # Another issuer may use the same jti.
    world.answers[f"/{BOB}"] = document(BOB)
    for iss in (ALICE, BOB):
        await authenticator.check_token(token(world, iss=iss, jti="1"), SEARCH)


async def test_concurrent_uses_of_a_token_succeed_once(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    used = token(world)
    results = await asyncio.gather(
        *(authenticator.check_token(used, SEARCH) for _ in range(50)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Auth) for result in results) == 1


async def test_forged_copy_does_not_use_up_the_token(
    world: World, authenticator: ServiceAuthenticator
) -> None:
    forged = token(world, jti="abc", key=PrivateKey.generate())
    await refused(authenticator, forged)
    await authenticator.check_token(token(world, jti="abc"), SEARCH)


@pytest.mark.parametrize("use", ["jti", "once", "many"])
async def test_use_policy_decides_on_reuse(use: str, world: World) -> None:
    import orjson

    from protocol.data.base64url import encode_base64url

    def bare(world: World) -> str:
        now = int(world.clock())
        parts = [
            encode_base64url(orjson.dumps({"alg": "ES256K", "typ": "JWT"})),
            encode_base64url(
                orjson.dumps({"iss": ALICE, "aud": US, "lxm": SEARCH, "exp": now + 60})
            ),
        ]
        signing = ".".join(parts)
        return f"{signing}.{encode_base64url(KEY.sign(signing.encode()))}"

    once, many = use == "once", use == "many"

    async with authenticating(world, use_policy=use) as authenticator:
        await authenticator.check_token(bare(world), SEARCH)
        if once:
            assert await refused(authenticator, bare(world)) == ("BadJwt", 401)
            world.clock.now += 1
        await authenticator.check_token(bare(world), SEARCH)
        used = token(world)
        await authenticator.check_token(used, SEARCH)
        if many:
            await authenticator.check_token(used, SEARCH)
        else:
            assert await refused(authenticator, used) == ("BadJwt", 401)


async def test_issuer_has_a_share_of_the_token_store(world: World) -> None:
    store = ThreadedJtiStore(
        lambda *token: True, CapacityLimiter(2), rate=0.05, burst=3, clock=world.clock
    )
    async with authenticating(world, jti_store=store) as authenticator:
        world.answers[f"/{BOB}"] = document(BOB)
        for _ in range(3):
            await authenticator.check_token(token(world), SEARCH)
        answer = await refused(authenticator, token(world))
        assert answer == ("RateLimitExceeded", 429)
        await authenticator.check_token(token(world, iss=BOB), SEARCH)
        world.clock.now += 62
        await authenticator.check_token(token(world), SEARCH)
