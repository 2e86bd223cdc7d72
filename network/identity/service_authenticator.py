"""Authentication by bearer tokens between services (specs/xrpc)."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Literal, TypeAlias

from starlette.requests import Request

from network.errors import IdentityError, NetworkError, XrpcError
from network.identity.jti import JtiStore, TooManyTokensError
from network.identity.resolver import IdentityResolver, parse_key
from network.xrpc.server import Auth
from protocol.errors import ProtocolError
from protocol.identity.did_document import LABEL_KEY, SIGNING_KEY, DidDocument
from protocol.identity.keys import PublicKey
from protocol.identity.service_auth import (
    BadJwtSignatureError,
    ServiceAuthError,
    ServiceJwt,
    check_claims,
    check_signature,
    parse_service_jwt,
)
from protocol.limits import MAX_SERVICE_JWT_LIFETIME_S

SERVICE: Final = "service"
_SCHEME: Final = "bearer"

IsActive: TypeAlias = Callable[[str], bool | Awaitable[bool]]
TokenUse: TypeAlias = Literal["many", "jti", "once"]


class ServiceAuthenticator:
    """The authenticator of a server: `await authenticate(request, nsid)`.

    Returns None without a token; another scheme than Bearer counts as no token.
    `Auth.did` is the issuer as sent. One with a fragment is a service of an account,
    without the account's rights.

    `audiences` are our own names, DID and DID#service; methods in `any_audience` accept
    a token for any service. `lxm` maps a method to further names that its token may
    carry. `is_active(did)` False refuses an issuer.

    `use_policy` "jti" accepts a token with a jti once, "once" also one without, "many"
    accepts each until it expires, as the reference does. The first two need
    `jti_store`.

    Verifies form, time, audience, method, signature by the issuer's current key, and
    first use. A bad signature refreshes the key, at most once a minute for each DID.
    Raises XrpcError: 401, or 429 for an issuer of too many tokens.
    """

    def __init__(
        self,
        resolver: IdentityResolver,
        audiences: Collection[str],
        now: Callable[[], float] = time.time,
        jti_store: JtiStore | None = None,
        *,
        use_policy: TokenUse = "jti",
        is_active: IsActive | None = None,
        lxm: Mapping[str, Collection[str]] | None = None,
        any_audience: Collection[str] = (),
        max_lifetime: int = MAX_SERVICE_JWT_LIFETIME_S,
    ) -> None:
        self._resolver = resolver
        self._audiences = frozenset(audiences)
        self._now = now
        self._jti_store = None if use_policy == "many" else jti_store
        self._once = use_policy == "once"
        self._is_active = is_active
        self._lxm = lxm or {}
        self._any_audience = frozenset(any_audience)
        self._max_lifetime = max_lifetime

    async def __call__(self, request: Request, nsid: str) -> Auth | None:
        values = request.headers.getlist("authorization")
        if len(values) > 1:
            raise _refused("BadJwt", "there are two authorization headers")
        scheme, _, token = (values[0] if values else "").partition(" ")
        token = token.strip()
        if scheme.lower() != _SCHEME or not token:
            return None
        return await self.check_token(token, nsid)

    async def check_token(self, token: str, nsid: str) -> Auth:
        """Return the Auth of a token for a method. Raises XrpcError."""
        try:
            jwt = parse_service_jwt(token)
            check_claims(
                jwt,
                now=self._now(),
                audiences=None if nsid in self._any_audience else self._audiences,
                lxm={nsid, *self._lxm.get(nsid, ())},
                max_lifetime=self._max_lifetime,
            )
            await self._check_signature(jwt)
        except ServiceAuthError as error:
            raise _refused(error.name, str(error)) from error
        await self._check_active(jwt)
        await self._check_first_use(jwt)
        return Auth(jwt.iss, SERVICE, {"aud": jwt.aud, "lxm": jwt.lxm, "exp": jwt.exp})

    async def _check_signature(self, jwt: ServiceJwt) -> None:
        key = await self._find_key(jwt, refresh=False)
        if key is not None:
            try:
                return check_signature(jwt, key)
            except BadJwtSignatureError:
                pass
        # The key may have been declared or rotated since it was cached.
        fresh = await self._find_key(jwt, refresh=True)
        if fresh is None:
            raise _refused(
                "AuthenticationRequired", f"{jwt.did} declares no usable key {jwt.kid}"
            )
        check_signature(jwt, fresh)

    async def _find_key(self, jwt: ServiceJwt, *, refresh: bool) -> PublicKey | None:
        try:
            document = await self._resolver.resolve_did(
                jwt.did, refresh=refresh, insist=refresh
            )
        except (IdentityError, NetworkError, ProtocolError) as error:
            raise _refused(
                "AuthenticationRequired", f"identity unknown: {error}"
            ) from error
        declared = _declared_key(document, jwt.kid)
        return None if declared is None else parse_key(declared)

    async def _check_active(self, jwt: ServiceJwt) -> None:
        if self._is_active is None:
            return
        active = self._is_active(jwt.did)
        if inspect.isawaitable(active):
            active = await active
        if not active:
            raise _refused(
                "AuthenticationRequired", f"the account {jwt.did} is not active"
            )

    async def _check_first_use(self, jwt: ServiceJwt) -> None:
        token_id = jwt.jti
        if token_id is None and self._once:
            token_id = jwt.digest
        if token_id is None or self._jti_store is None:
            return
        # Held for as long as the token passes the check of its time.
        until = math.ceil(jwt.exp)
        try:
            first = await self._jti_store.use(jwt.did, token_id, until)
        except TooManyTokensError as error:
            raise XrpcError(
                "RateLimitExceeded",
                str(error),
                429,
                {"Retry-After": str(math.ceil(error.retry_after))},
            ) from error
        if not first:
            raise _refused("BadJwt", "token was used before")


def _declared_key(document: DidDocument, kid: str) -> str | None:
    return {SIGNING_KEY: document.signing_key, LABEL_KEY: document.label_key}.get(kid)


def _refused(name: str, message: str) -> XrpcError:
    return XrpcError(name, message, 401)
