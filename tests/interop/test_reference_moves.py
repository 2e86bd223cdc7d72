"""An account that moves from the reference PDS to ours, and back.

Its owner signs the moves with a recovery key. Needs `tests/interop/reference/install`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pds_moving import arrive, export, send_repo, upload
from pds_world import Client, free_port, read_json
from reference_network import is_installed, reference_servers

from network.server.listener import serving_in_thread
from pds.application import create_app
from pds.mail import MailSettings
from pds.settings import PdsSettings
from plc.operation_draft import create_amendment
from plc.operation_format import (
    Operation,
    PlcService,
    operation_json,
    parse_operation,
)
from protocol.identity.keys import PrivateKey
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did
from storage.postgres.pool import open_pool

pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(
        not is_installed(),
        reason="the reference servers are not installed: "
        "run tests/interop/reference/install",
    ),
]

CHECK = "com.atproto.server.checkAccountStatus"
RECOMMENDED = "com.atproto.identity.getRecommendedDidCredentials"
FAR_US = 4_000_000_000_000_000


@dataclass
class Servers:
    plc: str
    theirs: Client
    ours: Client

    def sign(self, account: Client, key: PrivateKey) -> dict[str, Any]:
        """Return the operation that the server of an account recommends, signed."""
        wanted = account.get(RECOMMENDED).json
        last = parse_operation(read_json(f"{self.plc}/{account.did}/log/last"))
        assert isinstance(last, Operation)
        keys = [k for k in wanted["rotationKeys"] if k != key.public.did_key]
        services = {
            name: PlcService(item["type"], item["endpoint"])
            for name, item in wanted["services"].items()
        }
        operation = create_amendment(
            last,
            key,
            rotation_keys=[key.public.did_key, *keys],
            methods=wanted["verificationMethods"],
            also_known_as=wanted["alsoKnownAs"],
            services=services,
        )
        return operation_json(operation)


@pytest.fixture
def servers(make_database: Callable[[str], str], tmp_path: Path) -> Iterator[Servers]:
    plc, theirs, ours = free_port(), free_port(), free_port()
    settings = PdsSettings(
        public_url=f"http://localhost:{ours}",
        handle_domains=(".ours.test",),
        plc_url=f"http://localhost:{plc}",
        secret=b"s" * 32,
        mail=MailSettings("server@example.com", folder=tmp_path),
        dev=True,
    )
    indexer = ("http://localhost:9", "did:web:localhost%3A9")
    with (
        reference_servers(plc, theirs, *indexer),
        open_pool(make_database("pds")) as pool,
        serving_in_thread(create_app(settings, pool), port=ours),
    ):
        yield Servers(
            settings.plc_url,
            Client(f"http://localhost:{theirs}"),
            Client(settings.origin),
        )


def contents(account: Client) -> tuple[list[Any], bytes]:
    """Return the sorted records and the root of a repo."""
    reader = RepoReader(None, Did(account.did), FAR_US, {})
    return sorted(reader.feed(export(account))), reader.finish().data


def move(
    servers: Servers, old: Client, target: Client, handle: str, key: PrivateKey
) -> Client:
    """Move an account; return its session at the target."""
    records, root = contents(old)
    listed = old.get("com.atproto.sync.listBlobs", did=old.did).json["cids"]
    new = arrive(
        old,
        target,
        handle,
        email=f"{handle}@example.com",
        recoveryKey=key.public.did_key,
    )
    assert send_repo(new, export(old)).status == 200
    missing = new.get("com.atproto.repo.listMissingBlobs").json["blobs"]
    assert sorted(item["cid"] for item in missing) == sorted(listed)
    for item in missing:
        blob = old.get("com.atproto.sync.getBlob", did=old.did, cid=item["cid"])
        assert upload(new, blob.body)["ref"]["$link"] == item["cid"]
    status = new.get(CHECK).json
    assert (status["activated"], status["validDid"]) == (False, False)
    assert status["indexedRecords"] == len(records)
    assert status["importedBlobs"] == status["expectedBlobs"] == len(listed)

    operation = servers.sign(new, key)
    submitted = new.post(
        "com.atproto.identity.submitPlcOperation", {"operation": operation}
    )
    assert submitted.status == 200, submitted.body
    assert new.post("com.atproto.server.activateAccount").status == 200
    assert old.post("com.atproto.server.deactivateAccount", {}).status == 200
    status = new.get(CHECK).json
    assert (status["activated"], status["validDid"]) == (True, True)
    assert contents(new) == (records, root)
    for cid in listed:
        assert new.get("com.atproto.sync.getBlob", did=new.did, cid=cid).status == 200
    return new


def test_account_moves_from_the_reference_server_and_back(servers: Servers) -> None:
    key = PrivateKey.generate()
    answer = servers.theirs.post(
        "com.atproto.server.createAccount",
        {
            "handle": "mover.test",
            "email": "mover@example.com",
            "password": "a long password",
            "recoveryKey": key.public.did_key,
        },
    )
    assert answer.status == 200, answer.body
    session = json.loads(answer.body)
    first = Client(
        servers.theirs.url, session["accessJwt"], session["did"], session["refreshJwt"]
    )
    blob = upload(first, b"a blob of the reference server")
    for number in range(120):
        first.create({"$type": "org.example.garden.plant", "name": str(number % 9)})
    first.create({"$type": "org.example.garden.plant", "photo": blob})

    second = move(servers, first, servers.ours, "mover.ours.test", key)
    made = second.create({"$type": "org.example.garden.plant", "name": "written here"})
    assert made.status == 200, made.body
    assert len(contents(second)[0]) == 122

    # The reference server takes no account that it had before: it must delete it.
    third = servers.theirs.post(
        "com.atproto.server.createSession",
        {"identifier": first.did, "password": "a long password"},
    ).json
    back = Client(servers.theirs.url, third["accessJwt"], first.did)
    assert back.get(CHECK).json["activated"] is False
    assert send_repo(back, export(second)).status == 200
    operation = servers.sign(back, key)
    submitted = back.post(
        "com.atproto.identity.submitPlcOperation", {"operation": operation}
    )
    assert submitted.status == 200, submitted.body
    assert back.post("com.atproto.server.activateAccount").status == 200
    assert second.post("com.atproto.server.deactivateAccount", {}).status == 200
    assert len(contents(back)[0]) == 122
    refused = second.post("com.atproto.server.activateAccount")
    assert (refused.status, refused.error) == (400, "InvalidRequest")
