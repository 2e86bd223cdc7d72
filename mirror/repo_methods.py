"""com.atproto.repo and sync from the index: Bigworld as a mirror."""

from __future__ import annotations

from typing import Any

from appview.hydration.state import State
from appview.own_feeds import find_own_record
from appview.paging import Cursors
from appview.pipeline import Params
from appview.refusals import refuse_repo
from appview.session import Session
from network.xrpc.server import XrpcError
from protocol.data.cid import cid_for, cid_to_text
from protocol.data.json_form import to_json
from storage.records.addresses import find_addresses
from storage.states import STATUS_ACTIVE, STATUS_DELETED

_STATUS_ERRORS = {
    "takendown": "RepoTakendown",
    "suspended": "RepoSuspended",
    "deactivated": "RepoDeactivated",
}
_STATUS = """CASE WHEN a.takedown IS NOT NULL THEN 'takendown'
    ELSE a.upstream_status END"""


def get_record(session: Session, params: Params) -> dict[str, Any]:
    """Answer com.atproto.repo.getRecord."""
    repo = params["repo"]
    own = find_own_record(session, repo, params["collection"], params["rkey"])
    taken = session.taken_down
    if (
        own is not None
        and params.get("cid", own.cid) == own.cid
        and not taken.has_record(own.uri)
    ):
        return {"uri": own.uri, "cid": own.cid, "value": to_json(own.value)}
    actor = session.find_actor(repo)
    state = State(session)
    did = refuse_repo(state, actor, repo)
    uri = f"at://{did}/{params['collection']}/{params['rkey']}"
    address = find_addresses(session.conn, [uri]).get(uri)
    if address is not None and not taken.has_record(uri):
        state.load_records([address])
    record = state.records.get(address) if address is not None else None
    if record is None or params.get("cid", record.cid) != record.cid:
        raise XrpcError("RecordNotFound", f"Could not locate record: {uri}", 400)
    return {"uri": uri, "cid": record.cid, "value": to_json(record.value)}


def _repo_row(session: Session, did: str) -> tuple[int, str, bytes, str | None]:
    """Return (actor, rev, commit block, status) of a repo that we hold whole."""
    row = session.conn.execute(
        f"""
        SELECT a.id, r.rev, r.commit, {_STATUS}
        FROM actor a JOIN repo r ON r.actor = a.id
        WHERE a.did = %s AND r.commit IS NOT NULL AND r.selection IS NULL
        """,
        (did,),
    ).fetchone()
    if row is None:
        raise _repo_not_found(did)
    actor, rev, commit, status = row
    return actor, rev, commit, None if status == STATUS_ACTIVE else status


def _repo_not_found(did: str) -> XrpcError:
    return XrpcError("RepoNotFound", f"Could not find repo for DID: {did}", 400)


def find_repo(session: Session, did: str) -> tuple[int, str, bytes]:
    """Return (actor, rev, commit block) of an active repo. Raises XrpcError."""
    actor, rev, commit, status = _repo_row(session, did)
    _refuse_status(did, status)
    return actor, rev, commit


def find_repo_host(session: Session, did: str) -> str:
    """Return the URL of an active account's host; parts of its repo suffice.

    Raises XrpcError.
    """
    row = session.conn.execute(
        f"""
        SELECT h.url, {_STATUS} FROM actor a
        JOIN repo r ON r.actor = a.id JOIN host h ON h.id = r.host
        WHERE a.did = %s
        """,
        (did,),
    ).fetchone()
    if row is None:
        raise _repo_not_found(did)
    url, status = row
    _refuse_status(did, None if status == STATUS_ACTIVE else status)
    return str(url)


def _refuse_status(did: str, status: str | None) -> None:
    if status is None:
        return
    if status == STATUS_DELETED:
        raise _repo_not_found(did)
    name = _STATUS_ERRORS.get(status, "RepoDeactivated")
    raise XrpcError(name, f"Repo has been {status}: {did}", 400)


def get_latest_commit(session: Session, params: Params) -> dict[str, Any]:
    """Answer com.atproto.sync.getLatestCommit."""
    _, rev, commit = find_repo(session, params["did"])
    return {"cid": cid_to_text(cid_for(commit)), "rev": rev}


def get_head(session: Session, params: Params) -> dict[str, Any]:
    """Answer com.atproto.sync.getHead, the deprecated form of getLatestCommit."""
    try:
        _, _, commit = find_repo(session, params["did"])
    except XrpcError as error:
        raise XrpcError("HeadNotFound", error.message, 400) from error
    return {"root": cid_to_text(cid_for(commit))}


def get_repo_status(session: Session, params: Params) -> dict[str, Any]:
    """Answer com.atproto.sync.getRepoStatus."""
    _, rev, _, status = _repo_row(session, params["did"])
    answer: dict[str, Any] = {"did": params["did"], "active": status is None}
    return answer | ({"rev": rev} if status is None else {"status": status})


def list_repos(session: Session, params: Params) -> dict[str, Any]:
    """Answer com.atproto.sync.listRepos: the repos held whole, by actor id."""
    cursors = Cursors(session.context, params)
    after = cursors.open()
    limit = params["limit"]
    rows = session.conn.execute(
        f"""
        SELECT a.id, a.did, r.rev, r.commit, {_STATUS}
        FROM repo r JOIN actor a ON a.id = r.actor
        WHERE r.actor > %s AND r.commit IS NOT NULL AND r.selection IS NULL
        ORDER BY r.actor LIMIT %s
        """,
        (after[0] if after else 0, limit + 1),
    ).fetchall()
    repos = [
        {
            "did": did,
            "head": cid_to_text(cid_for(commit)),
            "rev": rev,
            "active": status == STATUS_ACTIVE,
            **({} if status == STATUS_ACTIVE else {"status": status}),
        }
        for _, did, rev, commit, status in rows[:limit]
    ]
    more = [rows[limit - 1][0]] if len(rows) > limit else None
    return {"repos": repos, **cursors.seal(more)}


METHODS = {
    "com.atproto.repo.getRecord": get_record,
    "com.atproto.sync.getHead": get_head,
    "com.atproto.sync.getLatestCommit": get_latest_commit,
    "com.atproto.sync.getRepoStatus": get_repo_status,
    "com.atproto.sync.listRepos": list_repos,
}
