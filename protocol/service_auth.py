"""Tokens by which one service calls another in an account's name (specs/xrpc).

An own reader, because the freedom of JWT libraries is what forgeries live on: here
there are two algorithms, told by the key, and one way to write each part.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import orjson

from protocol.base64url import decode_base64url, encode_base64url
from protocol.did_document import SIGNING_KEY
from protocol.errors import InvalidEncodingError, LimitExceededError, ProtocolError
from protocol.json_form import loads
from protocol.keys import SIGNATURE_BYTES, Curve, PrivateKey, PublicKey
from protocol.limits import MAX_CLOCK_SKEW_S, MAX_INT, MAX_SERVICE_JWT_LIFETIME_S
from protocol.syntax import Did, Nsid, is_did, is_nsid

ALGORITHMS: Final[Mapping[Curve, str]] = {"k256": "ES256K", "p256": "ES256"}

DEFAULT_LIFETIME_S: Final = 60
# What a PDS may mint for a client that asks for a long one (getServiceAuth).
MAX_LONG_LIFETIME_S: Final = 3_600
MAX_TOKEN_CHARS: Final = 8_192
MAX_JTI_CHARS: Final = 256

_TYPE: Final = "JWT"
_JTI_BYTES: Final = 16


class ServiceAuthError(ProtocolError):
    """A token that is refused; `name` is the XRPC error for it, with status 401."""

    name: ClassVar[str] = "BadJwt"


class BadJwtError(ServiceAuthError):
    """Not a token, or not in the strict form."""


class BadJwtTypeError(ServiceAuthError):
    """A token for another purpose: an access, refresh or proof-of-possession token."""

    name = "BadJwtType"


class BadJwtIssError(ServiceAuthError):
    """The issuer is not a DID, or signs with a key that may not be used here."""

    name = "BadJwtIss"


class BadJwtAudienceError(ServiceAuthError):
    """The token is for another service."""

    name = "BadJwtAudience"


class BadJwtLexiconMethodError(ServiceAuthError):
    """The token is for another method, or for none."""

    name = "BadJwtLexiconMethod"


class JwtExpiredError(ServiceAuthError):
    """The time of the token is over."""

    name = "JwtExpired"


class BadJwtSignatureError(ServiceAuthError):
    """Not signed by the key. Worth one retry with a freshly resolved key."""

    name = "BadJwtSignature"


@dataclass(frozen=True, slots=True)
class ServiceJwt:
    """A token taken apart; nothing in it is true until it is checked.

    `kid` is the fragment of the issuer's key. Times are Unix seconds. `jti` is what a
    caller remembers until `exp` to refuse a second use; None where the issuer sends
    none.
    """

    alg: str
    kid: str
    iss: Did
    aud: str
    lxm: Nsid | None
    exp: int
    iat: int | None
    nbf: int | None
    jti: str | None
    signing_input: bytes
    signature: bytes


def create_service_jwt(
    *,
    iss: Did,
    aud: str,
    lxm: Nsid | None,
    key: PrivateKey,
    now: int,
    lifetime: int = DEFAULT_LIFETIME_S,
    jti: str | None = None,
) -> str:
    """A signed token of `iss` for the service `aud` (DID or DID#service) and a method.

    `now` is Unix seconds. `jti` is random unless given. A token without `lxm` opens
    any method of services that are less strict than ours: mint it only on request.
    """
    payload = {
        "iat": now,
        "iss": iss,
        "aud": aud,
        "exp": now + lifetime,
        "lxm": lxm,
        "jti": jti or secrets.token_hex(_JTI_BYTES),
    }
    header = {"typ": _TYPE, "alg": ALGORITHMS[key.curve]}
    parts = (
        encode_base64url(orjson.dumps({k: v for k, v in part.items() if v is not None}))
        for part in (header, payload)
    )
    signing_input = ".".join(parts)
    signature = encode_base64url(key.sign(signing_input.encode("ascii")))
    return f"{signing_input}.{signature}"


def parse_service_jwt(
    token: str,
    *,
    kids: Collection[str] = (SIGNING_KEY,),
    legacy_issuer: bool = False,
) -> ServiceJwt:
    """Takes a token apart, strictly: form, header and the types of the claims.

    `kids` are the key fragments that the caller lets an issuer sign with; a token
    without `kid` means `#atproto`. `legacy_issuer` also reads the old way to name the
    key, `iss` = `did:...#fragment` (the fragment, too, must be in `kids`).

    Verifies: three parts in canonical base64url, JSON objects without a repeated
    name, algorithm ES256 or ES256K, no `crit`, a type that is JWT or absent, an
    issuer that is a DID. Does not verify time, audience, method and signature: see
    `check_claims` and `check_signature`. Raises a ServiceAuthError.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise BadJwtError("token is too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise BadJwtError("token does not have three parts")
    header, payload = _object(parts[0]), _object(parts[1])
    signature = _decode(parts[2])
    if len(signature) != SIGNATURE_BYTES:
        raise BadJwtError("signature is not 64 bytes")
    kind = header.get("typ", _TYPE)
    if not isinstance(kind, str) or kind.upper() != _TYPE:
        raise BadJwtTypeError("token is of another type")
    if "crit" in header:
        raise BadJwtError("token demands an extension")
    alg = header.get("alg")
    if not isinstance(alg, str) or alg not in ALGORITHMS.values():
        raise BadJwtError("algorithm is neither ES256 nor ES256K")
    iss, kid = _issuer(header, payload, legacy_issuer)
    if kid not in kids:
        raise BadJwtIssError("the issuer may not use that key here")
    aud = payload.get("aud")
    if not isinstance(aud, str):
        raise BadJwtAudienceError("aud is not one string")
    lxm = payload.get("lxm")
    if lxm is not None and not (isinstance(lxm, str) and is_nsid(lxm)):
        raise BadJwtLexiconMethodError("lxm is not an NSID")
    exp = _time(payload, "exp")
    if exp is None:
        raise BadJwtError("token never ends")
    jti = payload.get("jti")
    if jti is not None and not (isinstance(jti, str) and 0 < len(jti) <= MAX_JTI_CHARS):
        raise BadJwtError("jti is not a short string")
    return ServiceJwt(
        alg=alg,
        kid=kid,
        iss=iss,
        aud=aud,
        lxm=None if lxm is None else Nsid(lxm),
        exp=exp,
        iat=_time(payload, "iat"),
        nbf=_time(payload, "nbf"),
        jti=jti,
        signing_input=f"{parts[0]}.{parts[1]}".encode("ascii"),
        signature=signature,
    )


def check_claims(
    jwt: ServiceJwt,
    *,
    now: int,
    audiences: Collection[str],
    lxm: str | Collection[str],
    max_lifetime: int = MAX_SERVICE_JWT_LIFETIME_S,
) -> None:
    """Whether the token is for us, for this method, and for now (Unix seconds).

    Needs no key, so it comes before an issuer is looked up. `audiences` are the
    names of this service (its DID, DID#service), compared as whole strings. `lxm` is
    the method called, or the few that a token for it may name. `max_lifetime` is in
    seconds, at most 3,600, and counts from `iat`, or from now where there is none.

    Does not verify the signature, nor that `jti` is new. Raises a ServiceAuthError.
    """
    if not 0 < max_lifetime <= MAX_LONG_LIFETIME_S:
        raise ValueError(f"max_lifetime must be 1 to {MAX_LONG_LIFETIME_S} seconds")
    if jwt.aud not in audiences:
        raise BadJwtAudienceError("token is for another service")
    methods = (lxm,) if isinstance(lxm, str) else lxm
    if jwt.lxm is None or jwt.lxm not in methods:
        raise BadJwtLexiconMethodError("token is not for this method")
    if now >= jwt.exp + MAX_CLOCK_SKEW_S:
        raise JwtExpiredError("token has expired")
    for start in (jwt.iat, jwt.nbf):
        if start is not None and start > now + MAX_CLOCK_SKEW_S:
            raise BadJwtError("token is from the future")
    issued = now + MAX_CLOCK_SKEW_S if jwt.iat is None else jwt.iat
    if jwt.exp - issued > max_lifetime:
        raise BadJwtError("token lives too long")


def check_signature(jwt: ServiceJwt, key: PublicKey) -> None:
    """Whether `key` signed the token; raises BadJwtSignatureError.

    The algorithm must be the one of the key's curve. High-S is let pass, here and
    nowhere else in the protocol: signers in use write it, and since nothing is named
    by the hash of a token, its other form is no second token (`jti` is the same).
    """
    if jwt.alg != ALGORITHMS[key.curve]:
        raise BadJwtSignatureError("algorithm is not the one of the issuer's key")
    if not key.verify(jwt.signature, jwt.signing_input, allow_high_s=True):
        raise BadJwtSignatureError("not signed by the issuer's key")


def check_service_jwt(
    jwt: ServiceJwt,
    key: PublicKey,
    *,
    now: int,
    audiences: Collection[str],
    lxm: str | Collection[str],
    max_lifetime: int = MAX_SERVICE_JWT_LIFETIME_S,
) -> None:
    """`check_claims`, then `check_signature`. `jti` stays the caller's to remember."""
    check_claims(jwt, now=now, audiences=audiences, lxm=lxm, max_lifetime=max_lifetime)
    check_signature(jwt, key)


def _decode(part: str) -> bytes:
    try:
        return decode_base64url(part)
    except InvalidEncodingError as error:
        raise BadJwtError(str(error)) from error


def _object(part: str) -> Mapping[str, object]:
    try:
        value = loads(_decode(part))
    except (InvalidEncodingError, LimitExceededError) as error:
        raise BadJwtError("token holds no strict JSON") from error
    if not isinstance(value, dict):
        raise BadJwtError("token holds no JSON object")
    return value


def _issuer(
    header: Mapping[str, object], payload: Mapping[str, object], legacy: bool
) -> tuple[Did, str]:
    iss = payload.get("iss")
    if not isinstance(iss, str):
        raise BadJwtIssError("iss is not a string")
    kid = header.get("kid", SIGNING_KEY)
    if not isinstance(kid, str):
        raise BadJwtIssError("kid is not a string")
    name, mark, fragment = iss.partition("#")
    if mark:
        if not legacy or "kid" in header:
            raise BadJwtIssError("iss has a fragment")
        kid = mark + fragment
    if not is_did(name):
        raise BadJwtIssError("iss is not a DID")
    return Did(name), kid


def _time(payload: Mapping[str, object], name: str) -> int | None:
    value = payload.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= MAX_INT:
        raise BadJwtError(f"{name} is not a whole number of seconds")
    return value
