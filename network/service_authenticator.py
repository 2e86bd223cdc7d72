"""Who calls us: bearer tokens of one service for another, checked (specs/xrpc)."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeAlias

from starlette.requests import Request

from network.errors import IdentityError, NetworkError, XrpcError
from network.identity import IdentityResolver, parse_key
from network.jti import JtiStore
from network.xrpc_server import Auth
from protocol.did_document import LABEL_KEY, SIGNING_KEY, DidDocument
from protocol.errors import ProtocolError
from protocol.keys import PublicKey
from protocol.limits import MAX_CLOCK_SKEW_S, MAX_SERVICE_JWT_LIFETIME_S
from protocol.service_auth import (
    BadJwtSignatureError,
    ServiceAuthError,
    ServiceJwt,
    check_claims,
    check_signature,
    parse_service_jwt,
)

SERVICE: Final = "service"
_SCHEME: Final = "bearer"

IsActive: TypeAlias = Callable[[str], bool | Awaitable[bool]]


class ServiceAuthenticator:
    """`await authenticate(request, nsid)`: the Auth of a request, None without a token.

    `audiences` are our own names, DID and DID#service. `lxm` maps a method to the
    method names that a token for it may carry besides its own. `kids` are the keys an
    issuer may sign with. With `require_jti` a token without one is refused, else it
    may be used until it expires. `is_active(did)` False refuses an issuer.

    Verifies: form, time, audience, method, signature by the issuer's current key,
    first use. A bad signature makes the key be looked up anew, once a minute for each
    DID at most. Raises XrpcError with status 401, or 502 to 504 if the issuer's
    identity could not be looked up.
    """

    def __init__(
        self,
        resolver: IdentityResolver,
        audiences: Collection[str],
        now: Callable[[], float] = time.time,
        jti_store: JtiStore | None = None,
        *,
        require_jti: bool = False,
        is_active: IsActive | None = None,
        kids: Collection[str] = (SIGNING_KEY,),
        lxm: Mapping[str, Collection[str]] | None = None,
        max_lifetime: int = MAX_SERVICE_JWT_LIFETIME_S,
    ) -> None:
        self._resolver = resolver
        self._audiences = frozenset(audiences)
        self._now = now
        self._jti_store = jti_store
        self._require_jti = require_jti
        self._is_active = is_active
        self._kids = frozenset(kids)
        self._lxm = lxm or {}
        self._max_lifetime = max_lifetime

    async def __call__(self, request: Request, nsid: str) -> Auth | None:
        values = request.headers.getlist("authorization")
        if not values:
            return None
        scheme, _, token = values[0].partition(" ")
        if len(values) > 1 or scheme.lower() != _SCHEME or not token:
            raise _refused("BadJwt", "one bearer token is expected")
        return await self.check_token(token.strip(), nsid)

    async def check_token(self, token: str, nsid: str) -> Auth:
        """The Auth that a token gives for a method; XrpcError if it gives none."""
        try:
            jwt = parse_service_jwt(token, kids=self._kids)
            check_claims(
                jwt,
                now=int(self._now()),
                audiences=self._audiences,
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
        try:
            check_signature(jwt, key)
        except BadJwtSignatureError:
            fresh = await self._find_key(jwt, refresh=True)
            if fresh == key:
                raise
            check_signature(jwt, fresh)

    async def _find_key(self, jwt: ServiceJwt, *, refresh: bool) -> PublicKey:
        try:
            document = await self._resolver.resolve_did(jwt.iss, refresh=refresh)
            return parse_key(_declared_key(document, jwt.kid))
        except IdentityError as error:
            raise _refused("BadJwtIss", f"issuer does not resolve: {error}") from error
        except ProtocolError as error:
            raise _refused("BadJwtIss", str(error)) from error
        except NetworkError as error:
            raise XrpcError(
                "UpstreamFailure", "the issuer's identity could not be looked up", 503
            ) from error

    async def _check_active(self, jwt: ServiceJwt) -> None:
        if self._is_active is None:
            return
        active = self._is_active(jwt.iss)
        if inspect.isawaitable(active):
            active = await active
        if not active:
            raise _refused("BadJwtIss", "the issuer's account is not active")

    async def _check_first_use(self, jwt: ServiceJwt) -> None:
        if jwt.jti is None:
            if self._require_jti:
                raise _refused("BadJwt", "jti is missing")
            return
        if self._jti_store is None:
            return
        # Remembered for as long as the token could pass the check of its time.
        until = jwt.exp + MAX_CLOCK_SKEW_S
        if not await self._jti_store.use(jwt.iss, jwt.jti, until):
            raise _refused("BadJwt", "token was used before")


def _declared_key(document: DidDocument, kid: str) -> str:
    key = {SIGNING_KEY: document.signing_key, LABEL_KEY: document.label_key}.get(kid)
    if key is None:
        raise _refused("BadJwtIss", f"the issuer declares no key {kid}")
    return key


def _refused(name: str, message: str) -> XrpcError:
    return XrpcError(name, message, 401)
