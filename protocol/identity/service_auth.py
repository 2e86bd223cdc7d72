"""Service tokens, by which one service calls another for an account (specs/xrpc).

Strict by design: two algorithms, chosen by the key, and one encoding of each part.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, Final
from urllib.parse import unquote

import orjson

from protocol.data.base64url import decode_base64url, encode_base64url
from protocol.data.json_form import loads
from protocol.errors import InvalidEncodingError, LimitExceededError, ProtocolError
from protocol.identity.did_document import LABEL_KEY, LABELER_SERVICE, SIGNING_KEY
from protocol.identity.keys import SIGNATURE_BYTES, Curve, PrivateKey, PublicKey
from protocol.limits import MAX_CLOCK_SKEW_S, MAX_SERVICE_JWT_LIFETIME_S
from protocol.syntax import Did, Nsid, is_did

ALGORITHMS: Final[Mapping[Curve, str]] = {"k256": "ES256K", "p256": "ES256"}

DEFAULT_LIFETIME_S: Final = 60
# The fragment of a service, bounded because the issuer chooses it.
_FRAGMENT: Final = re.compile(r"[\w.-]{1,100}", re.ASCII)
MAX_TOKEN_CHARS: Final = 8_192

_TYPE: Final = "JWT"
# Access, refresh and proof-of-possession tokens; the specification names no type.
_OTHER_TYPES: Final = frozenset({"at+jwt", "refresh+jwt", "dpop+jwt"})
_JTI_BYTES: Final = 16


class ServiceAuthError(ProtocolError):
    """A refused token; `name` is the XRPC error, with status 401."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__.removesuffix("Error")


class BadJwtError(ServiceAuthError):
    """Text that is not a token in the strict form."""


class BadJwtTypeError(ServiceAuthError):
    """An access, refresh or proof-of-possession token."""


class BadJwtIssError(ServiceAuthError):
    """An issuer that is not a DID, or may not use its key here."""


class BadJwtAudienceError(ServiceAuthError):
    """A token for another service."""


class BadJwtLexiconMethodError(ServiceAuthError):
    """A token for another method, or for none."""


class JwtExpiredError(ServiceAuthError):
    """An expired token."""


class BadJwtSignatureError(ServiceAuthError):
    """A wrong signature; worth one retry with a newly resolved key."""


@dataclass(frozen=True, slots=True)
class ServiceJwt:
    """A parsed token, not verified yet.

    `iss` is the issuer as sent: `did`, or `did#fragment` for a service of the account.
    `kid` is the fragment of the key that must have signed. Times are Unix seconds.
    """

    alg: str
    kid: str
    iss: str
    did: Did
    aud: str
    lxm: str | None
    exp: float
    nbf: float | None
    jti: str | None
    signing_input: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        """Return an id of the token, the same for both forms of its signature."""
        return sha256(self.signing_input).hexdigest()


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
    """Return a signed token of `iss` for a service (DID or DID#service) and method.

    `now` is Unix seconds; `jti` is random unless given. Less strict services accept a
    token without `lxm` for any method: create one only on request.
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


def parse_service_jwt(token: str) -> ServiceJwt:
    """Parse a token; see `check_claims` and `check_signature` for the rest.

    Verifies the three parts in canonical base64url, strict JSON, a known algorithm, no
    `crit`, a suitable type, and an issuer that is a DID. An issuer
    `did:…#atproto_labeler` signs with its label key, any other with its repo key; the
    header's `kid` is ignored. Raises a ServiceAuthError.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise BadJwtError("token is too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise BadJwtError("token does not have three parts")
    header, payload = _object(parts[0]), _object(parts[1])
    kind = header.get("typ")
    if (
        isinstance(kind, str)
        and kind.lower().removeprefix("application/") in _OTHER_TYPES
    ):
        raise BadJwtTypeError(f"tokens of type {kind} are for another purpose")
    if "crit" in header:
        raise BadJwtError("token demands an extension")
    alg = header.get("alg")
    if not isinstance(alg, str):
        raise BadJwtError("alg is not a string")
    aud, lxm = payload.get("aud"), payload.get("lxm")
    if not isinstance(aud, str):
        raise BadJwtError("aud is not one string")
    if lxm is not None and not isinstance(lxm, str):
        raise BadJwtError("lxm is not a string")
    exp = _time(payload, "exp")
    if exp is None:
        raise BadJwtError("exp is missing")
    iss, did, kid = _issuer(payload)
    jti = payload.get("jti")
    return ServiceJwt(
        alg=alg,
        kid=kid,
        iss=iss,
        did=did,
        aud=aud,
        lxm=lxm,
        exp=exp,
        nbf=_time(payload, "nbf"),
        jti=jti if isinstance(jti, str) and jti else None,
        signing_input=f"{parts[0]}.{parts[1]}".encode("ascii"),
        signature=_signature(alg, parts[2]),
    )


def check_claims(
    jwt: ServiceJwt,
    *,
    now: float,
    audiences: Collection[str] | None,
    lxm: str | Collection[str],
    max_lifetime: int = MAX_SERVICE_JWT_LIFETIME_S,
) -> None:
    """Raise a ServiceAuthError unless the token is for us, this method and `now`.

    `audiences` are the names of this service; None accepts any. `lxm` is the method
    called, or the names that the token may carry ("chat.bsky.*" is a prefix).
    `max_lifetime` is the most seconds left, without clock skew. Does not verify the
    signature or `jti`.
    """
    if not 0 < max_lifetime <= MAX_SERVICE_JWT_LIFETIME_S:
        raise ValueError(
            f"max_lifetime must be 1 to {MAX_SERVICE_JWT_LIFETIME_S} seconds"
        )
    if now > jwt.exp:
        raise JwtExpiredError("token has expired")
    if audiences is not None and not is_audience(jwt.aud, audiences):
        raise BadJwtAudienceError("token is for another service")
    methods = (lxm,) if isinstance(lxm, str) else lxm
    if not _names_method(jwt, methods):
        problem = "no method" if jwt.lxm is None else "another method"
        raise BadJwtLexiconMethodError(
            f"token is for {problem} (lxm), not for {', '.join(sorted(methods))}"
        )
    # `iat` is ignored: the issuer's clock may be ahead.
    if jwt.nbf is not None and jwt.nbf > now + MAX_CLOCK_SKEW_S:
        raise BadJwtError("token is not valid yet")
    if jwt.exp > now + max_lifetime + MAX_CLOCK_SKEW_S:
        raise BadJwtError(f"token is valid for more than {max_lifetime} seconds")


def is_audience(aud: str, names: Collection[str]) -> bool:
    """Return True if `aud` is one of `names`, both percent-decoded once.

    The port of a did:web may be written with or without escapes.
    """
    return aud in names or unquote(aud) in {unquote(name) for name in names}


def _names_method(jwt: ServiceJwt, methods: Collection[str]) -> bool:
    lxm = jwt.lxm
    if lxm is None:
        # Older labelers send no lxm.
        return jwt.kid == LABEL_KEY
    return lxm in methods or any(
        lxm.startswith(name[:-1]) for name in methods if name.endswith(".*")
    )


def check_signature(jwt: ServiceJwt, key: PublicKey) -> None:
    """Raise BadJwtSignatureError unless `key` signed the token.

    High-S is accepted here only, since existing signers produce it.
    """
    if jwt.alg != ALGORITHMS[key.curve]:
        raise BadJwtSignatureError("alg does not match the issuer's key")
    if not key.verify(jwt.signature, jwt.signing_input, allow_high_s=True):
        raise BadJwtSignatureError("not signed by the issuer's key")


def _object(part: str) -> Mapping[str, object]:
    try:
        value = loads(decode_base64url(part))
    except (InvalidEncodingError, LimitExceededError) as error:
        raise BadJwtError("token part is not strict JSON") from error
    if not isinstance(value, dict):
        raise BadJwtError("token part is not a JSON object")
    return value


def _issuer(payload: Mapping[str, object]) -> tuple[str, Did, str]:
    """Return `iss`, its DID, and the fragment of the key that it signs with."""
    iss = payload.get("iss")
    if not isinstance(iss, str):
        raise BadJwtError("iss is not a string")
    did, mark, fragment = iss.partition("#")
    if not is_did(did) or (mark and not _FRAGMENT.fullmatch(fragment)):
        raise BadJwtIssError("iss is not a DID")
    kid = LABEL_KEY if mark + fragment == LABELER_SERVICE else SIGNING_KEY
    return iss, Did(did), kid


def _signature(alg: str, part: str) -> bytes:
    if alg not in ALGORITHMS.values():
        raise BadJwtSignatureError("algorithm is neither ES256 nor ES256K")
    try:
        signature = decode_base64url(part)
    except InvalidEncodingError as error:
        raise BadJwtSignatureError("signature is not strict base64url") from error
    if len(signature) != SIGNATURE_BYTES:
        raise BadJwtSignatureError(f"signature is not {SIGNATURE_BYTES} bytes")
    return signature


def _time(payload: Mapping[str, object], name: str) -> float | None:
    """Return a time in seconds; fractions are allowed (RFC 7519, section 2)."""
    value = payload.get(name)
    if value is None:
        return None
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return value
    raise BadJwtError(f"{name} is not a number of seconds")
