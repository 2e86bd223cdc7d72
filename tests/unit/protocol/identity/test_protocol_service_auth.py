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
def test_created_token_is_accepted(key: PrivateKey) -> None:
    text = create_service_jwt(iss=ISS, aud=US, lxm=LXM, key=key, now=NOW)
    jwt = check(text, key)
    assert (jwt.alg, jwt.kid) == (ALGORITHMS[key.curve], "#atproto")
    assert (jwt.iss, jwt.aud, jwt.lxm) == (ISS, US, LXM)
    assert jwt.exp == NOW + 60
    assert jwt.jti is not None
    assert len(jwt.jti) == 32
    again = create_service_jwt(iss=ISS, aud=US, lxm=LXM, key=key, now=NOW)
    assert parse_service_jwt(again).jti != jwt.jti


def test_token_audience_may_name_the_service() -> None:
    check(token(body=payload(aud=US + "#bsky_appview")))


def test_token_without_iat_and_jti_is_accepted() -> None:
    claims = payload(exp=NOW + 300)
    del claims["iat"], claims["jti"]
    jwt = check(token(body=claims))
    assert jwt.jti is None
    flipped = parse_service_jwt(high_s(token(body=claims)))
    assert flipped.digest == jwt.digest
    assert parse_service_jwt(token(body=claims | {"exp": NOW})).digest != jwt.digest


def test_token_method_may_have_several_names() -> None:
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


def claim(**changes: object) -> str:
    return token(body=payload(**changes))


def head(**changes: object) -> str:
    return token(header(**changes))


def raw_body(body: str) -> str:
    return raw_token(json.dumps(header()), body)


FORGERIES: dict[str, tuple[str, type[ServiceAuthError]]] = {
    "nothing": ("", BadJwtError),
    "two parts": (token().rpartition(".")[0], BadJwtError),
    "four parts": (token() + ".", BadJwtError),
    "alg none": (
        raw_token(json.dumps(header(alg="none")), json.dumps(payload())),
        BadJwtSignatureError,
    ),
    "alg none, no signature": (
        cut(head(alg="none"), 2, lambda _: ""),
        BadJwtSignatureError,
    ),
    "alg HS256 with the public key": (hs256(K256.public.point), BadJwtSignatureError),
    "alg HS256 with the key text": (
        hs256(K256.public.did_key.encode()),
        BadJwtSignatureError,
    ),
    "alg of the other curve": (head(alg="ES256"), BadJwtSignatureError),
    "alg RS256": (head(alg="RS256"), BadJwtSignatureError),
    "alg in lower case": (head(alg="es256k"), BadJwtSignatureError),
    "alg a list": (head(alg=["ES256K"]), BadJwtError),
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
    "typ at+jwt": (head(typ="at+jwt"), BadJwtTypeError),
    "typ refresh+jwt": (head(typ="refresh+jwt"), BadJwtTypeError),
    "typ dpop+jwt": (head(typ="dpop+jwt"), BadJwtTypeError),
    "typ AT+JWT": (head(typ="AT+JWT"), BadJwtTypeError),
    "crit": (head(crit=["exp"]), BadJwtError),
    "crit, empty": (head(crit=[]), BadJwtError),
    "iss twice": (
        raw_body(
            json.dumps(payload())[:-1] + f', "iss": "{ISS}"}}',
        ),
        BadJwtError,
    ),
    "alg twice": (
        raw_token('{"alg":"none","typ":"JWT","alg":"ES256K"}', json.dumps(payload())),
        BadJwtError,
    ),
    "NaN": (
        raw_body(json.dumps(payload(exp=float("nan")))),
        BadJwtError,
    ),
    "not UTF-8": (raw_token(b'{"alg":"\xff"}', json.dumps(payload())), BadJwtError),
    "header a list": (raw_token("[]", json.dumps(payload())), BadJwtError),
    "payload a string": (raw_body('"x"'), BadJwtError),
    "nested without end": (
        raw_body("[" * 3_000 + "]" * 3_000),
        BadJwtError,
    ),
    "padded signature": (token() + "==", BadJwtSignatureError),
    "spare bits in the signature": (
        cut(token(), 2, lambda s: s[:-1] + chr(ord(s[-1]) + 1)),
        BadJwtSignatureError,
    ),
    "newline after": (token() + "\n", BadJwtSignatureError),
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
        claim(aud="did:web:other.example.com"),
        BadJwtAudienceError,
    ),
    "aud a list": (claim(aud=[US]), BadJwtError),
    "aud a prefix": (claim(aud=US[:-1]), BadJwtAudienceError),
    "aud with a suffix": (claim(aud=US + ".x"), BadJwtAudienceError),
    "aud in upper case": (claim(aud=US.upper()), BadJwtAudienceError),
    "aud with another fragment": (
        claim(aud=US + "#bsky_fg"),
        BadJwtAudienceError,
    ),
    "no aud": (token(body=without(payload(), "aud")), BadJwtError),
    "lxm of another method": (
        claim(lxm="app.bsky.feed.getPosts"),
        BadJwtLexiconMethodError,
    ),
    "lxm in another case": (
        claim(lxm="app.bsky.feed.searchposts"),
        BadJwtLexiconMethodError,
    ),
    "lxm *": (claim(lxm="*"), BadJwtLexiconMethodError),
    "lxm a list": (claim(lxm=[LXM]), BadJwtError),
    "no lxm": (token(body=without(payload(), "lxm")), BadJwtLexiconMethodError),
    "exp a string": (claim(exp=str(NOW + 60)), BadJwtError),
    "exp past": (claim(iat=NOW - 90, exp=NOW - 0.5), JwtExpiredError),
    "exp negative": (claim(exp=-1), JwtExpiredError),
    "exp past, for others": (
        claim(exp=NOW - 1, aud="did:web:x.example.com"),
        JwtExpiredError,
    ),
    "exp infinite": (
        raw_body(json.dumps(payload()).replace(str(NOW + 60), "1e999")),
        BadJwtError,
    ),
    "exp true": (claim(exp=True), BadJwtError),
    "exp beyond 64 bits": (claim(exp=2**64), BadJwtError),
    "no exp": (token(body=without(payload(), "exp")), BadJwtError),
    "exp in ten years": (claim(exp=NOW + 315_360_000), BadJwtError),
    "lives over an hour": (claim(exp=NOW + 3_901), BadJwtError),
    "nbf in the future": (claim(nbf=NOW + 301), BadJwtError),
    "iss with an empty fragment": (claim(iss=ISS + "#"), BadJwtIssError),
    "iss with two fragments": (claim(iss=ISS + "#a#b"), BadJwtIssError),
    "iss with a NUL": (claim(iss=ISS + "#a\0"), BadJwtIssError),
    "typ in the long form": (head(typ="application/at+jwt"), BadJwtTypeError),
    "iss not a DID": (claim(iss="alice.test"), BadJwtIssError),
    "iss a list": (claim(iss=[ISS]), BadJwtError),
    "no iss": (token(body=without(payload(), "iss")), BadJwtError),
    "endless": (claim(more="x" * 9_000), BadJwtError),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_token_is_refused(name: str) -> None:
    text, error = FORGERIES[name]
    with pytest.raises(error) as caught:
        check(text)
    assert type(caught.value) is error


def test_error_names() -> None:
    errors = {error for _, error in FORGERIES.values()}
    assert {error.name for error in errors} == {
        *("BadJwt", "BadJwtType", "BadJwtIss", "BadJwtAudience"),
        *("BadJwtLexiconMethod", "JwtExpired", "BadJwtSignature"),
    }


@pytest.mark.parametrize(
    "good",
    [
        token(without(header(), "typ")),
        head(typ="jwt"),
        head(typ="something+else"),
        head(typ=1),
        head(kid="#atproto"),
        head(kid="key-1"),
        claim(iat=NOW + 250, exp=NOW + 310),
        claim(iat=str(NOW)),
        claim(exp=NOW + 60.5),
        claim(exp=NOW),
        claim(exp=NOW + 3_600),
        claim(iat=NOW + 300, exp=NOW + 3_900),
        claim(nbf=NOW + 300),
        claim(jti=None),
        claim(jti=7),
        claim(jti="x" * 2_000),
        claim(sub="x", scope=[1]),
        claim(iss=ISS + "#anything"),
    ],
)
def test_token_at_the_limits_is_accepted(good: str) -> None:
    check(good)


@pytest.mark.parametrize("key", [K256, P256], ids=["k256", "p256"])
def test_token_with_high_s_is_accepted(key: PrivateKey) -> None:
    text = token(header(alg=ALGORITHMS[key.curve]), key=key)
    flipped = high_s(text, key)
    assert flipped != text
    check(flipped, key)


def test_check_claims_bounds_the_lifetime() -> None:
    minute = claim(exp=NOW + 360)
    check(minute, max_lifetime=60)
    with pytest.raises(BadJwtError):
        check(claim(exp=NOW + 361), max_lifetime=60)
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
        check(claim(aud=aud), audiences=ours)
    for aud in ("did:web:localhost%253A2580", here + "#bsky_fg"):
        with pytest.raises(BadJwtAudienceError):
            check(claim(aud=aud), audiences=ours)
    check(claim(aud="did:web:x.example.com"), audiences=None)


def test_check_claims_accepts_methods_by_prefix() -> None:
    methods = {"app.bsky.feed.getPosts", "chat.bsky.*"}
    for lxm in ("app.bsky.feed.getPosts", "chat.bsky.convo.listConvos"):
        check(claim(lxm=lxm), lxm=methods)
    for lxm in ("chat.bskyx.convo.listConvos", "app.bsky.feed.getPostsX"):
        with pytest.raises(BadJwtLexiconMethodError):
            check(claim(lxm=lxm), lxm=methods)


def test_labeler_signs_with_its_label_key_and_may_omit_lxm() -> None:
    iss = ISS + "#atproto_labeler"
    jwt = check(claim(iss=iss))
    assert (jwt.iss, jwt.did, jwt.kid) == (iss, ISS, "#atproto_label")
    check(token(body=without(payload(iss=iss), "lxm")))
    with pytest.raises(BadJwtLexiconMethodError):
        check(claim(iss=iss, lxm="app.bsky.feed.getPosts"))
    with pytest.raises(BadJwtLexiconMethodError):
        check(token(body=without(payload(iss=ISS + "#x"), "lxm")))
    assert parse_service_jwt(claim(iss=ISS + "#x")).kid == "#atproto"


def test_claims_and_signature_are_checked_separately() -> None:
    jwt = parse_service_jwt(token(key=PrivateKey.from_bytes("k256", b"\x13" * 32)))
    check_claims(jwt, now=NOW, audiences=AUDIENCES, lxm=LXM)
    with pytest.raises(BadJwtSignatureError):
        check_signature(jwt, K256.public)
    check_signature(parse_service_jwt(claim(exp=1)), K256.public)


GOOD = token()


@given(
    st.integers(0, len(GOOD) - 1),
    st.sampled_from("ABab01_-=+/. \n"),
)
def test_token_with_a_changed_character_is_refused(position: int, char: str) -> None:
    changed = GOOD[:position] + char + GOOD[position + 1 :]
    if changed == GOOD:
        check(changed)
        return
    with pytest.raises(ServiceAuthError):
        check(changed)


@given(st.text(max_size=300))
def test_parse_service_jwt_raises_its_own_errors(text: str) -> None:
    with pytest.raises(ServiceAuthError):
        parse_service_jwt(text)
