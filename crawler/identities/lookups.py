"""One identity lookup, with every outcome as a value."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from network.errors import DidTombstonedError, IdentityError, NetworkError
from network.identity.resolver import IdentityResolver
from protocol.errors import ProtocolError
from protocol.identity.did_document import DidDocument
from protocol.syntax.did import Did

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LookedUp:
    """Result of a lookup; `document` is None when there is no usable one.

    `failed`: no server could be asked, so what was known before still holds. `gone`:
    the DID is tombstoned.
    """

    did: Did
    document: DidDocument | None
    failed: bool = False
    gone: bool = False


async def look_up(
    resolver: IdentityResolver,
    did: Did,
    *,
    refresh: bool,
    insist: int = 0,
    mirrored: bool = False,
) -> LookedUp:
    """Resolve a DID; see `IdentityResolver.resolve_did` for the parameters."""
    try:
        document = await resolver.resolve_did(
            did, refresh=refresh, insist=insist, mirrored=mirrored
        )
    except DidTombstonedError:
        return LookedUp(did, None, gone=True)
    except (IdentityError, ProtocolError):
        return LookedUp(did, None)
    except NetworkError as error:
        log.info("identity_lookup_failed", extra={"did": did, "why": str(error)})
        return LookedUp(did, None, failed=True)
    return LookedUp(did, document)
