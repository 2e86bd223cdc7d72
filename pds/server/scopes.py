"""Scopes of sessions: the whole account, an app, or a way out after a takedown."""

from __future__ import annotations

from typing import Final

from pds.exceptions import InvalidRequestError, InvalidTokenError

FULL: Final = "com.atproto.access"
APP: Final = "com.atproto.appPass"
PRIVILEGED_APP: Final = "com.atproto.appPassPrivileged"
TAKENDOWN: Final = "com.atproto.takendown"
REFRESH: Final = "com.atproto.refresh"

CREATE_ACCOUNT: Final = "com.atproto.server.createAccount"
CREATE_REPORT: Final = "com.atproto.moderation.createReport"

# An app password must not be able to take the account over, or move it.
_FULL_ONLY: Final = frozenset(
    f"com.atproto.{name}"
    for name in [
        "identity.requestPlcOperationSignature",
        "identity.signPlcOperation",
        "repo.importRepo",
        "server.activateAccount",
        "server.createAppPassword",
        "server.deactivateAccount",
        "server.getAccountInviteCodes",
        "server.requestAccountDelete",
        "server.requestEmailUpdate",
        "server.updateEmail",
    ]
)

# Methods that the owner of an account needs after a takedown, to leave and to object.
_AFTER_TAKEDOWN: Final = frozenset(
    {
        "app.bsky.actor.getPreferences",
        "com.atproto.identity.requestPlcOperationSignature",
        "com.atproto.identity.signPlcOperation",
        "com.atproto.server.deactivateAccount",
        "com.atproto.server.getServiceAuth",
        CREATE_REPORT,
        *(
            f"com.atproto.sync.{name}"
            for name in ["getBlob", "getBlocks", "getLatestCommit", "getRecord"]
        ),
        "com.atproto.sync.getRepo",
        "com.atproto.sync.listBlobs",
    }
)

_PRIVATE_PREFIX: Final = "chat.bsky."


def require_scope(scope: str, nsid: str) -> None:
    """Raise InvalidTokenError unless a session of that scope may call a method."""
    if scope == TAKENDOWN:
        allowed = nsid in _AFTER_TAKEDOWN
    else:
        allowed = scope == FULL or nsid not in _FULL_ONLY
    if not allowed:
        raise InvalidTokenError("Bad token scope")


def may_forward(scope: str, nsid: str) -> bool:
    """Return True if a session may call a method of another service."""
    private = nsid.startswith(_PRIVATE_PREFIX) or nsid == CREATE_ACCOUNT
    return not private or scope in (FULL, PRIVILEGED_APP)


def check_service_token(scope: str, lxm: str | None) -> None:
    """Raise unless a session may have a token for another service's method."""
    if scope == TAKENDOWN:
        if lxm != CREATE_ACCOUNT:
            raise InvalidTokenError("Bad token scope")
    elif lxm is not None and not may_forward(scope, lxm):
        raise InvalidRequestError(
            "insufficient access to request a service auth token for the following"
            f" method: {lxm}"
        )
