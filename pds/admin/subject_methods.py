"""com.atproto.admin.*SubjectStatus: takedowns, and deactivation by the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from network.xrpc.server import Call, XrpcServer
from pds.admin.hidden_subjects import ACCOUNT, find_takedown, restore, take_down
from pds.context import PdsContext, utc_now
from pds.exceptions import InvalidRequestError, NotFoundError
from pds.identity.document_check import DocumentCheck
from pds.server import lifecycle
from pds.server.accounts import DELETED, Account, find_account, is_deactivated
from protocol.data.cid import cid_from_text, cid_to_text
from protocol.errors import ProtocolError
from protocol.syntax import parse_at_uri
from storage.postgres.pool import Conn

_NS: Final = "com.atproto.admin"
_REPO: Final = f"{_NS}.defs#repoRef"
_BLOB: Final = f"{_NS}.defs#repoBlobRef"
_RECORD: Final = "com.atproto.repo.strongRef"


def add_methods(server: XrpcServer, host: PdsContext) -> None:
    methods = _SubjectMethods(host)
    server.add(f"{_NS}.updateSubjectStatus", methods.update, "required")
    server.add(f"{_NS}.getSubjectStatus", methods.get, "required")


@dataclass(frozen=True, slots=True)
class _Subject:
    """An account, or a record or blob of it; `name` is its key in takedowns."""

    did: str
    name: str


class _SubjectMethods:
    def __init__(self, host: PdsContext) -> None:
        self._host = host
        self._documents = DocumentCheck(host)

    async def update(self, call: Call) -> dict[str, Any]:
        given = call.input
        takedown, deactivated = given.get("takedown"), given.get("deactivated")
        activates = deactivated is not None and not deactivated["applied"]
        if takedown and takedown["applied"] and activates:
            raise InvalidRequestError(
                "Cannot activate and takedown an account at the same time"
            )
        subject = _read_subject(given["subject"])
        if activates:
            account = await self._host.run(self._find, subject.did)
            await self._documents.require_here(account)
        await self._host.run(self._update, subject, takedown, deactivated)
        return {"subject": given["subject"]} | (
            {} if takedown is None else {"takedown": takedown}
        )

    def _update(self, subject: _Subject, takedown: Any, deactivated: Any) -> None:
        now = utc_now()
        with self._host.pool.connection() as conn:
            account = _find(conn, subject.did)
            if takedown and takedown["applied"]:
                ref = takedown.get("ref") or now.isoformat()
                take_down(conn, account.id, subject.name, ref, now)
            elif takedown:
                restore(conn, account.id, subject.name, now)
        if not deactivated or subject.name != ACCOUNT:
            return
        with self._host.pool.connection() as conn:
            if deactivated["applied"]:
                lifecycle.deactivate(conn, account.id, now)
            else:
                lifecycle.activate(conn, account.id, now)

    def get(self, call: Call) -> dict[str, Any]:
        params = call.params
        did, uri, blob = (params.get(name) for name in ("did", "uri", "blob"))
        if blob is not None:
            if did is None:
                raise InvalidRequestError("Must provide a did to request blob state")
            asked: dict[str, Any] = {"$type": _BLOB, "did": did, "cid": blob}
        elif uri is not None:
            asked = {"$type": _RECORD, "uri": uri}
        elif did is not None:
            asked = {"$type": _REPO, "did": did}
        else:
            raise InvalidRequestError("No provided subject")
        subject = _read_subject(asked)
        with self._host.reading() as conn:
            account = _find(conn, subject.did)
            ref = find_takedown(conn, account.id, subject.name)
            if asked["$type"] == _RECORD:
                asked["cid"] = _record_cid(conn, account.id, subject.name)
            takedown = {"applied": False} if ref is None else _applied(ref)
            status: dict[str, Any] = {"subject": asked, "takedown": takedown}
            if subject.name == ACCOUNT:
                off = is_deactivated(conn, account.id)
                status["deactivated"] = {"applied": off}
        return status

    def _find(self, did: str) -> Account:
        with self._host.reading() as conn:
            return _find(conn, did)


def _applied(ref: str) -> dict[str, Any]:
    return {"applied": True, "ref": ref}


def _find(conn: Conn, did: str) -> Account:
    account = find_account(conn, did)
    if account is None or account.status == DELETED:
        raise NotFoundError("Subject not found")
    return account


def _record_cid(conn: Conn, account: int, path: str) -> str:
    row = conn.execute(
        "SELECT cid FROM record WHERE account = %s AND path = %s", [account, path]
    ).fetchone()
    if row is None:
        raise NotFoundError("Subject not found")
    return cid_to_text(row[0])


def _read_subject(given: dict[str, Any]) -> _Subject:
    """Return the subject of a request. Raises InvalidRequestError."""
    kind = given["$type"]
    try:
        if kind == _REPO:
            return _Subject(given["did"], ACCOUNT)
        if kind == _BLOB:
            # One spelling for each CID.
            return _Subject(given["did"], cid_to_text(cid_from_text(given["cid"])))
        uri = parse_at_uri(given["uri"])
    except ProtocolError as error:
        raise InvalidRequestError(f"Invalid subject: {error}") from error
    if uri.collection is None or uri.rkey is None:
        raise InvalidRequestError(f"Invalid subject: {given['uri']}")
    return _Subject(uri.authority, f"{uri.collection}/{uri.rkey}")
