"""Steps of moves between Personal Data Servers."""

from __future__ import annotations

from typing import Any

from pds_world import PASSWORD, Answer, Client, note

from protocol.data.cid import cid_for
from protocol.identity.keys import PrivateKey
from protocol.mst import build_nodes
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import sign_commit
from protocol.syntax import Did, TidClock

CREATE_ACCOUNT = "com.atproto.server.createAccount"
IMPORT = "/xrpc/com.atproto.repo.importRepo"
CAR = {"Content-Type": "application/vnd.ipld.car"}


def token_for(account: Client, server: Client) -> str:
    """Return a token of the account for createAccount at a server."""
    did = server.get("com.atproto.server.describeServer").json["did"]
    answer = account.get(
        "com.atproto.server.getServiceAuth", aud=did, lxm=CREATE_ACCOUNT
    )
    assert answer.status == 200, answer.body
    token: str = answer.json["token"]
    return token


def arrive(account: Client, server: Client, handle: str, **more: Any) -> Client:
    """Open the account at another server; return its session there."""
    fields = {"handle": handle, "did": account.did, "password": PASSWORD} | more
    answer = Client(server.url).post(
        CREATE_ACCOUNT, fields, token=token_for(account, server)
    )
    assert answer.status == 200, answer.body
    session = answer.json
    assert session["did"] == account.did
    return Client(server.url, session["accessJwt"], account.did, session["refreshJwt"])


def export(account: Client) -> bytes:
    answer = account.get("com.atproto.sync.getRepo", did=account.did)
    assert answer.status == 200
    return answer.body


def send_repo(account: Client, car: bytes) -> Answer:
    return account.send("POST", IMPORT, body=car, headers=CAR)


def write_notes(account: Client, count: int) -> None:
    writes = [
        {
            "$type": "com.atproto.repo.applyWrites#create",
            "collection": "dev.example.note",
            "rkey": f"note{number}",
            # Several keys have the same block.
            "value": note(f"text {number % 7}"),
        }
        for number in range(count)
    ]
    for start in range(0, count, 200):
        answer = account.post(
            "com.atproto.repo.applyWrites",
            {"repo": account.did, "writes": writes[start : start + 200]},
        )
        assert answer.status == 200, answer.body


def upload(account: Client, data: bytes) -> Any:
    answer = account.send(
        "POST",
        "/xrpc/com.atproto.repo.uploadBlob",
        body=data,
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status == 200, answer.body
    return answer.json["blob"]


def make_car(did: str, key: PrivateKey, records: dict[str, bytes]) -> bytes:
    """Return the CAR of a repo with these blocks, by path."""
    items = sorted((path.encode(), cid_for(raw)) for path, raw in records.items())
    nodes = {node.cid: node.raw for node in build_nodes(items)}
    root = list(nodes)[-1]
    rev = TidClock(3, lambda: 1_700_000_000_000_000).next()
    signed = sign_commit(Did(did), root, rev, key)
    blocks = {cid_for(signed): signed} | nodes
    blocks |= {cid_for(raw): raw for raw in records.values()}
    parts = [car_block(cid, raw) for cid, raw in blocks.items()]
    return car_header(cid_for(signed)) + b"".join(parts)
