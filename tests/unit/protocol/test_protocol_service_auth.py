from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.base64url import decode_base64url, encode_base64url
from protocol.keys import K256_ORDER, P256_ORDER, PrivateKey
from protocol.service_auth import (
    ALGORITHMS,
    BadJwtAudienceError,
    BadJwtError,
    BadJwtIssError,
    BadJwtLexiconMethodError,
    BadJwtSignatureError,
    BadJwtTypeError,
    JwtExpiredError,
    ServiceAuthError,
    ServiceJwt,
    check_claims,
    check_service_jwt,
    check_signature,
    create_service_jwt,
    parse_service_jwt,
)
from protocol.syntax import Did, Nsid

K256 = PrivateKey.from_bytes("k256", b"\x11" * 32)
P256 = PrivateKey.from_bytes("p256", b"\x12" * 32)
ISS = Did("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
US = "did:web:indexer.example.com"
LXM = Nsid("app.bsky.feed.searchPosts")
NOW = 1_790_000_000
AUDIENCES = frozenset({US, US + "#bsky_appview"})


def header(**changes: object) -> dict[str, object]:
    return {"typ": "JWT", "alg": "ES256K"} | changes


def payload(**changes: object) -> dict[str, object]:
    return {
        "iss": ISS,
        "aud": US,
        "lxm": LXM,
        "iat": NOW,
        "exp": NOW + 60,
        "jti": "a1",
    } | changes


def raw_token(head: str | bytes, body: str | bytes, key: PrivateKey = K256) -> str:
    parts = (
        encode_base64url(p.encode() if isinstance(p, str) else p) for p in (head, body)
    )
    signing_input = ".".join(parts)
    return f"{signing_input}.{encode_base64url(key.sign(signing_input.encode()))}"


def token(
    head: dict[str, object] | None = None,
    body: dict[str, object] | None = None,
    key: PrivateKey = K256,
) -> str:
    return raw_token(
        json.dumps(header() if head is None else head),
        json.dumps(payload() if body is None else body),
        key,
    )


def check(text: str, key: PrivateKey = K256, **changes: Any) -> ServiceJwt:
    jwt = parse_service_jwt(text)
    arguments: dict[str, Any] = {"now": NOW, "audiences": AUDIENCES, "lxm": LXM}
    check_service_jwt(jwt, key.public, **(arguments | changes))
    return jwt


@pytest.mark.parametrize("key", [K256, P256], ids=["k256", "p256"])
def test_what_we_mint_we_take(key: PrivateKey) -> None:
    text = create_service_jwt(iss=ISS, aud=US, lxm=LXM, key=key, now=NOW)
    jwt = check(text, key)
    assert (jwt.alg, jwt.kid) == (ALGORITHMS[key.curve], "#atproto")
    assert (jwt.iss, jwt.aud, jwt.lxm) == (ISS, US, LXM)
    assert (jwt.iat, jwt.exp) == (NOW, NOW + 60)
    assert jwt.jti is not None
    assert len(jwt.jti) == 32
    again = create_service_jwt(iss=ISS, aud=US, lxm=LXM, key=key, now=NOW)
    assert parse_service_jwt(again).jti != jwt.jti


def test_an_audience_may_name_the_service() -> None:
    check(token(body=payload(aud=US + "#bsky_appview")))


def test_a_token_without_iat_and_jti_is_taken() -> None:
    claims = payload(exp=NOW + 300)
    del claims["iat"], claims["jti"]
    jwt = check(token(body=claims))
    assert jwt.iat is None
    assert jwt.jti is None


def test_a_method_may_go_by_several_names() -> None:
    skeleton = "app.bsky.feed.getFeedSkeleton"
    check(token(body=payload(lxm=skeleton)), lxm={skeleton, "app.bsky.feed.getFeed"})
    with pytest.raises(BadJwtLexiconMethodError):
        check(token(), lxm={skeleton, "app.bsky.feed.getFeed"})


def without(claims: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in claims.items() if key != name}


def high_s(text: str, key: PrivateKey = K256) -> str:
    head, body, signature = text.split(".")
    raw = decode_base64url(signature)
    order = K256_ORDER if key.curve == "k256" else P256_ORDER
    flipped = (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    return f"{head}.{body}.{encode_base64url(raw[:32] + flipped)}"


def hs256(secret: bytes) -> str:
    head = encode_base64url(json.dumps(header(alg="HS256")).encode())
    body = encode_base64url(json.dumps(payload()).encode())
    mac = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{encode_base64url(mac * 2)}"


def cut(text: str, part: int, change: Callable[[str], str]) -> str:
    parts = text.split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


FORGERIES: dict[str, tuple[str, type[ServiceAuthError]]] = {
    "nothing": ("", BadJwtError),
    "two parts": (token().rpartition(".")[0], BadJwtError),
    "four parts": (token() + ".", BadJwtError),
    "alg none": (
        raw_token(json.dumps(header(alg="none")), json.dumps(payload())),
        BadJwtError,
    ),
    "alg none, no signature": (
        cut(token(header(alg="none")), 2, lambda _: ""),
        BadJwtError,
    ),
    "alg HS256 with the public key": (hs256(K256.public.point), BadJwtError),
    "alg HS256 with the key text": (
        hs256(K256.public.did_key.encode()),
        BadJwtError,
    ),
    "alg of the other curve": (token(header(alg="ES256")), BadJwtSignatureError),
    "alg RS256": (token(header(alg="RS256")), BadJwtError),
    "alg in lower case": (token(header(alg="es256k")), BadJwtError),
    "alg a list": (token(header(alg=["ES256K"])), BadJwtError),
    "no alg": (token(without(header(), "alg")), BadJwtError),
    "another key of the same curve": (
        token(key=PrivateKey.from_bytes("k256", b"\x13" * 32)),
        BadJwtSignatureError,
    ),
    "a key of the other curve": (
        token(header(alg="ES256"), key=P256),
        BadJwtSignatureError,
    ),
    "key in the header": (
        token(
            header(jwk={"kty": "EC", "crv": "P-256"}),
            key=PrivateKey.from_bytes("k256", b"\x13" * 32),
        ),
        BadJwtSignatureError,
    ),
    "typ at+jwt": (token(header(typ="at+jwt")), BadJwtTypeError),
    "typ refresh+jwt": (token(header(typ="refresh+jwt")), BadJwtTypeError),
    "typ dpop+jwt": (token(header(typ="dpop+jwt")), BadJwtTypeError),
    "typ AT+JWT": (token(header(typ="AT+JWT")), BadJwtTypeError),
    "typ a number": (token(header(typ=1)), BadJwtTypeError),
    "crit": (token(header(crit=["exp"])), BadJwtError),
    "crit, empty": (token(header(crit=[])), BadJwtError),
    "iss twice": (
        raw_token(
            json.dumps(header()),
            json.dumps(payload())[:-1] + f', "iss": "{ISS}"}}',
        ),
        BadJwtError,
    ),
    "alg twice": (
        raw_token('{"alg":"none","typ":"JWT","alg":"ES256K"}', json.dumps(payload())),
        BadJwtError,
    ),
    "NaN": (
        raw_token(json.dumps(header()), json.dumps(payload(exp=float("nan")))),
        BadJwtError,
    ),
    "not UTF-8": (raw_token(b'{"alg":"\xff"}', json.dumps(payload())), BadJwtError),
    "header a list": (raw_token("[]", json.dumps(payload())), BadJwtError),
    "payload a string": (raw_token(json.dumps(header()), '"x"'), BadJwtError),
    "nested without end": (
        raw_token(json.dumps(header()), "[" * 3_000 + "]" * 3_000),
        BadJwtError,
    ),
    "padded signature": (token() + "==", BadJwtError),
    "spare bits in the signature": (
        cut(token(), 2, lambda s: s[:-1] + chr(ord(s[-1]) + 1)),
        BadJwtError,
    ),
    "newline behind": (token() + "\n", BadJwtError),
    "space before": (" " + token(), BadJwtError),
    "standard base64 in the header": (
        cut(token(), 0, lambda s: s + "+"),
        BadJwtError,
    ),
    "signature cut": (cut(token(), 2, lambda s: s[:-4]), BadJwtError),
    "signature of zeros": (
        cut(token(), 2, lambda _: encode_base64url(bytes(64))),
        BadJwtSignatureError,
    ),
    "other header, same signature": (
        cut(token(), 0, lambda _: encode_base64url(b'{"alg":"ES256K"}')),
        BadJwtSignatureError,
    ),
    "other payload, same signature": (
        cut(
            token(),
            1,
            lambda _: encode_base64url(json.dumps(payload(jti="b")).encode()),
        ),
        BadJwtSignatureError,
    ),
    "aud of another service": (
        token(body=payload(aud="did:web:other.example.com")),
        BadJwtAudienceError,
    ),
    "aud a list": (token(body=payload(aud=[US])), BadJwtAudienceError),
    "aud a prefix": (token(body=payload(aud=US[:-1])), BadJwtAudienceError),
    "aud with more behind": (token(body=payload(aud=US + ".x")), BadJwtAudienceError),
    "aud in upper case": (token(body=payload(aud=US.upper())), BadJwtAudienceError),
    "aud with another fragment": (
        token(body=payload(aud=US + "#bsky_fg")),
        BadJwtAudienceError,
    ),
    "no aud": (token(body=without(payload(), "aud")), BadJwtAudienceError),
    "lxm of another method": (
        token(body=payload(lxm="app.bsky.feed.getPosts")),
        BadJwtLexiconMethodError,
    ),
    "lxm in another case": (
        token(body=payload(lxm="app.bsky.feed.searchposts")),
        BadJwtLexiconMethodError,
    ),
    "lxm *": (token(body=payload(lxm="*")), BadJwtLexiconMethodError),
    "lxm a list": (token(body=payload(lxm=[LXM])), BadJwtLexiconMethodError),
    "no lxm": (token(body=without(payload(), "lxm")), BadJwtLexiconMethodError),
    "exp past": (token(body=payload(iat=NOW - 90, exp=NOW - 30)), JwtExpiredError),
    "exp a string": (token(body=payload(exp=str(NOW + 60))), BadJwtError),
    "exp a float": (token(body=payload(exp=NOW + 60.5)), BadJwtError),
    "exp true": (token(body=payload(exp=True)), BadJwtError),
    "exp beyond 64 bits": (token(body=payload(exp=2**64)), BadJwtError),
    "exp negative": (token(body=payload(exp=-1)), BadJwtError),
    "no exp": (token(body=without(payload(), "exp")), BadJwtError),
    "exp in ten years": (token(body=payload(exp=NOW + 315_360_000)), BadJwtError),
    "lives 301 seconds": (token(body=payload(exp=NOW + 301)), BadJwtError),
    "lives long without iat": (
        token(body=without(payload(exp=NOW + 331), "iat")),
        BadJwtError,
    ),
    "iat a string": (token(body=payload(iat=str(NOW))), BadJwtError),
    "iat in the future": (
        token(body=payload(iat=NOW + 31, exp=NOW + 90)),
        BadJwtError,
    ),
    "nbf in the future": (token(body=payload(nbf=NOW + 31)), BadJwtError),
    "iss not a DID": (token(body=payload(iss="alice.test")), BadJwtIssError),
    "iss a list": (token(body=payload(iss=[ISS])), BadJwtIssError),
    "iss with a fragment": (
        token(body=payload(iss=ISS + "#atproto")),
        BadJwtIssError,
    ),
    "no iss": (token(body=without(payload(), "iss")), BadJwtIssError),
    "kid of the labeler": (token(header(kid="#atproto_label")), BadJwtIssError),
    "kid in full": (token(header(kid=ISS + "#atproto")), BadJwtIssError),
    "kid a number": (token(header(kid=1)), BadJwtIssError),
    "jti a number": (token(body=payload(jti=7)), BadJwtError),
    "jti empty": (token(body=payload(jti="")), BadJwtError),
    "jti long": (token(body=payload(jti="x" * 257)), BadJwtError),
    "endless": (token(body=payload(more="x" * 9_000)), BadJwtError),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_refuses_a_forgery(name: str) -> None:
    text, error = FORGERIES[name]
    with pytest.raises(error) as caught:
        check(text)
    assert type(caught.value) is error


def test_names_of_errors() -> None:
    assert [e.name for e in (BadJwtError, BadJwtTypeError, BadJwtIssError)] == [
        "BadJwt",
        "BadJwtType",
        "BadJwtIss",
    ]
    assert [
        e.name
        for e in (
            BadJwtAudienceError,
            BadJwtLexiconMethodError,
            JwtExpiredError,
            BadJwtSignatureError,
        )
    ] == ["BadJwtAudience", "BadJwtLexiconMethod", "JwtExpired", "BadJwtSignature"]


@pytest.mark.parametrize(
    "good",
    [
        token(header(kid="#atproto")),
        token(without(header(), "typ")),
        token(header(typ="jwt")),
        token(body=payload(iat=NOW + 30, exp=NOW + 90)),
        token(body=payload(iat=NOW - 60, exp=NOW - 29)),
        token(body=payload(exp=NOW + 300)),
        token(body=payload(nbf=NOW)),
        token(body=payload(jti=None)),
        token(body=payload(sub="x", scope=[1])),
    ],
)
def test_takes_what_is_at_the_edge(good: str) -> None:
    check(good)


@pytest.mark.parametrize("key", [K256, P256], ids=["k256", "p256"])
def test_high_s_is_let_pass(key: PrivateKey) -> None:
    text = token(header(alg=ALGORITHMS[key.curve]), key=key)
    flipped = high_s(text, key)
    assert flipped != text
    check(flipped, key)


def test_a_caller_may_let_tokens_live_longer() -> None:
    hour = token(body=payload(exp=NOW + 3_600))
    check(hour, max_lifetime=3_600)
    with pytest.raises(BadJwtError):
        check(token(body=payload(exp=NOW + 3_601)), max_lifetime=3_600)
    for lifetime in (0, 3_601):
        with pytest.raises(ValueError, match="max_lifetime"):
            check(hour, max_lifetime=lifetime)


def test_a_caller_may_allow_another_key() -> None:
    labeler = token(header(kid="#atproto_label"))
    jwt = parse_service_jwt(labeler, kids={"#atproto", "#atproto_label"})
    assert jwt.kid == "#atproto_label"
    old = token(body=payload(iss=ISS + "#atproto_label"))
    with pytest.raises(BadJwtIssError):
        parse_service_jwt(old, legacy_issuer=True)
    kids = {"#atproto_label"}
    jwt = parse_service_jwt(old, kids=kids, legacy_issuer=True)
    assert (jwt.iss, jwt.kid) == (ISS, "#atproto_label")
    both = token(header(kid="#atproto"), payload(iss=ISS + "#atproto_label"))
    with pytest.raises(BadJwtIssError):
        parse_service_jwt(both, kids={"#atproto", *kids}, legacy_issuer=True)


def test_claims_need_no_key_and_the_signature_no_clock() -> None:
    jwt = parse_service_jwt(token(key=PrivateKey.from_bytes("k256", b"\x13" * 32)))
    check_claims(jwt, now=NOW, audiences=AUDIENCES, lxm=LXM)
    with pytest.raises(BadJwtSignatureError):
        check_signature(jwt, K256.public)
    check_signature(parse_service_jwt(token(body=payload(exp=1))), K256.public)


GOOD = token()


@given(
    st.integers(0, len(GOOD) - 1),
    st.sampled_from("ABab01_-=+/. \n"),
)
def test_no_changed_character_passes(position: int, char: str) -> None:
    changed = GOOD[:position] + char + GOOD[position + 1 :]
    if changed == GOOD:
        check(changed)
        return
    with pytest.raises(ServiceAuthError):
        check(changed)


@given(st.text(max_size=300))
def test_any_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(ServiceAuthError):
        parse_service_jwt(text)
