from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.data.base64url import decode_base64url, encode_base64url
from protocol.identity.keys import K256_ORDER, P256_ORDER, PrivateKey
from protocol.identity.service_auth import (
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
    check_claims(jwt, **(arguments | changes))
    check_signature(jwt, key.public)
    return jwt


@pytest.mark.parametrize("key", [K256, P256], ids=["k256", "p256"])
def test_what_we_mint_we_take(key: PrivateKey) -> None:
    text = create_service_jwt(iss=ISS, aud=US, lxm=LXM, key=key, now=NOW)
    jwt = check(text, key)
    assert (jwt.alg, jwt.kid) == (ALGORITHMS[key.curve], "#atproto")
    assert (jwt.iss, jwt.aud, jwt.lxm) == (ISS, US, LXM)
    assert jwt.exp == NOW + 60
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
    assert jwt.jti is None
    flipped = parse_service_jwt(high_s(token(body=claims)))
    assert flipped.digest == jwt.digest
    assert parse_service_jwt(token(body=claims | {"exp": NOW})).digest != jwt.digest


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
        BadJwtSignatureError,
    ),
    "alg none, no signature": (
        cut(token(header(alg="none")), 2, lambda _: ""),
        BadJwtSignatureError,
    ),
    "alg HS256 with the public key": (hs256(K256.public.point), BadJwtSignatureError),
    "alg HS256 with the key text": (
        hs256(K256.public.did_key.encode()),
        BadJwtSignatureError,
    ),
    "alg of the other curve": (token(header(alg="ES256")), BadJwtSignatureError),
    "alg RS256": (token(header(alg="RS256")), BadJwtSignatureError),
    "alg in lower case": (token(header(alg="es256k")), BadJwtSignatureError),
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
    "padded signature": (token() + "==", BadJwtSignatureError),
    "spare bits in the signature": (
        cut(token(), 2, lambda s: s[:-1] + chr(ord(s[-1]) + 1)),
        BadJwtSignatureError,
    ),
    "newline behind": (token() + "\n", BadJwtSignatureError),
    "space before": (" " + token(), BadJwtError),
    "standard base64 in the header": (
        cut(token(), 0, lambda s: s + "+"),
        BadJwtError,
    ),
    "signature cut": (cut(token(), 2, lambda s: s[:-4]), BadJwtSignatureError),
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
    "aud a list": (token(body=payload(aud=[US])), BadJwtError),
    "aud a prefix": (token(body=payload(aud=US[:-1])), BadJwtAudienceError),
    "aud with more behind": (token(body=payload(aud=US + ".x")), BadJwtAudienceError),
    "aud in upper case": (token(body=payload(aud=US.upper())), BadJwtAudienceError),
    "aud with another fragment": (
        token(body=payload(aud=US + "#bsky_fg")),
        BadJwtAudienceError,
    ),
    "no aud": (token(body=without(payload(), "aud")), BadJwtError),
    "lxm of another method": (
        token(body=payload(lxm="app.bsky.feed.getPosts")),
        BadJwtLexiconMethodError,
    ),
    "lxm in another case": (
        token(body=payload(lxm="app.bsky.feed.searchposts")),
        BadJwtLexiconMethodError,
    ),
    "lxm *": (token(body=payload(lxm="*")), BadJwtLexiconMethodError),
    "lxm a list": (token(body=payload(lxm=[LXM])), BadJwtError),
    "no lxm": (token(body=without(payload(), "lxm")), BadJwtLexiconMethodError),
    "exp a string": (token(body=payload(exp=str(NOW + 60))), BadJwtError),
    "exp past": (token(body=payload(iat=NOW - 90, exp=NOW - 0.5)), JwtExpiredError),
    "exp negative": (token(body=payload(exp=-1)), JwtExpiredError),
    "exp past, for others": (
        token(body=payload(exp=NOW - 1, aud="did:web:x.example.com")),
        JwtExpiredError,
    ),
    "exp infinite": (
        raw_token(
            json.dumps(header()), json.dumps(payload()).replace(str(NOW + 60), "1e999")
        ),
        BadJwtError,
    ),
    "exp true": (token(body=payload(exp=True)), BadJwtError),
    "exp beyond 64 bits": (token(body=payload(exp=2**64)), BadJwtError),
    "no exp": (token(body=without(payload(), "exp")), BadJwtError),
    "exp in ten years": (token(body=payload(exp=NOW + 315_360_000)), BadJwtError),
    "lives over an hour": (token(body=payload(exp=NOW + 3_901)), BadJwtError),
    "nbf in the future": (token(body=payload(nbf=NOW + 301)), BadJwtError),
    "iss with an empty fragment": (token(body=payload(iss=ISS + "#")), BadJwtIssError),
    "iss with two fragments": (token(body=payload(iss=ISS + "#a#b")), BadJwtIssError),
    "iss with a NUL": (token(body=payload(iss=ISS + "#a\0")), BadJwtIssError),
    "typ in the long form": (token(header(typ="application/at+jwt")), BadJwtTypeError),
    "iss not a DID": (token(body=payload(iss="alice.test")), BadJwtIssError),
    "iss a list": (token(body=payload(iss=[ISS])), BadJwtError),
    "no iss": (token(body=without(payload(), "iss")), BadJwtError),
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
        token(without(header(), "typ")),
        token(header(typ="jwt")),
        token(header(typ="something+else")),
        token(header(typ=1)),
        token(header(kid="#atproto")),
        token(header(kid="key-1")),
        token(body=payload(iat=NOW + 250, exp=NOW + 310)),
        token(body=payload(iat=str(NOW))),
        token(body=payload(exp=NOW + 60.5)),
        token(body=payload(exp=NOW)),
        token(body=payload(exp=NOW + 3_600)),
        token(body=payload(iat=NOW + 300, exp=NOW + 3_900)),
        token(body=payload(nbf=NOW + 300)),
        token(body=payload(jti=None)),
        token(body=payload(jti=7)),
        token(body=payload(jti="x" * 2_000)),
        token(body=payload(sub="x", scope=[1])),
        token(body=payload(iss=ISS + "#anything")),
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


def test_check_claims_bounds_the_lifetime() -> None:
    minute = token(body=payload(exp=NOW + 360))
    check(minute, max_lifetime=60)
    with pytest.raises(BadJwtError):
        check(token(body=payload(exp=NOW + 361)), max_lifetime=60)
    for lifetime in (0, 3_601):
        with pytest.raises(ValueError, match="max_lifetime"):
            check(minute, max_lifetime=lifetime)


def test_check_claims_compares_decoded_audiences() -> None:
    here = "did:web:localhost%3A2580"
    ours = {here, here + "#bsky_appview"}
    for aud in (
        here,
        "did:web:localhost:2580",
        here + "#bsky_appview",
        here + "%23bsky_appview",
        "did:web:localhost:2580#bsky_appview",
    ):
        check(token(body=payload(aud=aud)), audiences=ours)
    for aud in ("did:web:localhost%253A2580", here + "#bsky_fg"):
        with pytest.raises(BadJwtAudienceError):
            check(token(body=payload(aud=aud)), audiences=ours)
    check(token(body=payload(aud="did:web:x.example.com")), audiences=None)


def test_check_claims_accepts_methods_by_prefix() -> None:
    methods = {"app.bsky.feed.getPosts", "chat.bsky.*"}
    for lxm in ("app.bsky.feed.getPosts", "chat.bsky.convo.listConvos"):
        check(token(body=payload(lxm=lxm)), lxm=methods)
    for lxm in ("chat.bskyx.convo.listConvos", "app.bsky.feed.getPostsX"):
        with pytest.raises(BadJwtLexiconMethodError):
            check(token(body=payload(lxm=lxm)), lxm=methods)


def test_labeler_signs_with_its_label_key_and_may_omit_lxm() -> None:
    iss = ISS + "#atproto_labeler"
    jwt = check(token(body=payload(iss=iss)))
    assert (jwt.iss, jwt.did, jwt.kid) == (iss, ISS, "#atproto_label")
    check(token(body=without(payload(iss=iss), "lxm")))
    with pytest.raises(BadJwtLexiconMethodError):
        check(token(body=payload(iss=iss, lxm="app.bsky.feed.getPosts")))
    with pytest.raises(BadJwtLexiconMethodError):
        check(token(body=without(payload(iss=ISS + "#x"), "lxm")))
    assert parse_service_jwt(token(body=payload(iss=ISS + "#x"))).kid == "#atproto"


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
