"""Uploads and reads of blobs over HTTP."""

from __future__ import annotations

import http.client
import urllib.parse
from datetime import timedelta
from typing import Any

import pytest
from pds_world import NOTE, Answer, Client, World, head, new_account, note, post

from pds.blobs import sweep_blobs
from pds.context import utc_now
from protocol.data.cid import cid_to_text

PUT = "com.atproto.repo.putRecord"
DELETE = "com.atproto.repo.deleteRecord"
APPLY = "com.atproto.repo.applyWrites"
UPLOAD = "com.atproto.repo.uploadBlob"
POST = "app.bsky.feed.post"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
SERVER = {"max_blob_bytes": 1_000_000, "max_account_blob_bytes": 1_500_000}


@pytest.fixture
def alice(server: Client) -> Client:
    return new_account(server)


def upload(client: Client, data: bytes, mime: str | None = "image/png") -> Answer:
    headers = {} if mime is None else {"Content-Type": mime}
    return client.send("POST", f"/xrpc/{UPLOAD}", body=data, headers=headers)


def blob_cids(client: Client, **params: Any) -> list[str]:
    listed = client.get("com.atproto.sync.listBlobs", did=client.did, **params)
    found: list[str] = listed.json["cids"]
    return found


def fetch_blob(client: Client, cid: str) -> Answer:
    return client.get("com.atproto.sync.getBlob", did=client.did, cid=cid)


def test_blob_is_hidden_until_a_record_names_it(world: World, alice: Client) -> None:
    blob = upload(alice, PNG).json["blob"]
    assert (blob["$type"], blob["mimeType"], blob["size"]) == (
        "blob",
        "image/png",
        len(PNG),
    )
    cid = blob["ref"]["$link"]
    assert fetch_blob(alice, cid).error == "BlobNotFound"
    assert blob_cids(alice) == []
    written = alice.create(note("x", picture=blob), rkey="x")
    assert written.status == 200
    assert blob_cids(alice) == [cid]
    got = fetch_blob(alice, cid)
    assert (got.status, got.body) == (200, PNG)
    assert got.headers["Content-Type"] == "image/png"
    assert got.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Content-Disposition"] == f'attachment; filename="{cid}"'
    assert blob_cids(alice, since=head(alice)["rev"]) == []
    alice.post(
        PUT,
        {"repo": alice.did, "collection": NOTE, "rkey": "x"}
        | {"record": note("no picture")},
    )
    assert fetch_blob(alice, cid).error == "BlobNotFound"
    # A record may name it again until the sweep.
    with world.pool("a").connection() as conn:
        assert sweep_blobs(conn, utc_now() - timedelta(hours=6)) == 0
    assert alice.create(note("y", picture=blob), rkey="y").status == 200
    with world.pool("a").connection() as conn:
        assert sweep_blobs(conn, utc_now() + timedelta(hours=1)) == 0
    alice.post(DELETE, {"repo": alice.did, "collection": NOTE, "rkey": "y"})
    with world.pool("a").connection() as conn:
        assert sweep_blobs(conn, utc_now() + timedelta(hours=1)) == 1
    answer = alice.create(note("z", picture=blob))
    assert (answer.status, answer.error) == (400, "BlobNotFound")


def test_record_names_a_blob_with_its_type_and_size(alice: Client) -> None:
    blob = upload(alice, PNG).json["blob"]
    for changes, error in [
        ({"mimeType": "image/jpeg"}, "InvalidMimeType"),
        ({"size": 1}, "InvalidSize"),
        ({"ref": {"$link": alice.create(note("x")).json["cid"]}}, "InvalidRequest"),
    ]:
        answer = alice.create(note("x", picture=blob | changes))
        assert (answer.status, answer.error) == (400, error)
    other = new_account(alice)
    assert other.create(note("x", picture=blob)).error == "BlobNotFound"


def test_the_lexicon_bounds_blobs_of_known_records(alice: Client) -> None:
    blob = upload(alice, b"some text", "text/plain").json["blob"]
    profile = {"$type": "app.bsky.actor.profile", "avatar": blob}
    answer = alice.create(profile, rkey="self")
    assert (answer.status, answer.error) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    ("data", "mime", "status", "error"),
    [(PNG, "nonsense", 400, "InvalidMimeType"), (PNG, "", 400, "InvalidRequest")],
)
def test_bad_upload_is_refused(
    alice: Client, data: bytes, mime: str, status: int, error: str
) -> None:
    answer = upload(alice, data, mime)
    assert (answer.status, answer.error) == (status, error)


def test_empty_blob_is_stored(alice: Client) -> None:
    blob = upload(alice, b"", "text/plain").json["blob"]
    assert (blob["mimeType"], blob["size"]) == ("text/plain", 0)
    assert alice.create(note("x", file=blob)).status == 200
    got = fetch_blob(alice, blob["ref"]["$link"])
    assert (got.status, got.body) == (200, b"")


def test_blob_supports_range_requests(alice: Client) -> None:
    blob = upload(alice, PNG).json["blob"]
    alice.create(note("x", picture=blob))
    cid = blob["ref"]["$link"]
    path = f"/xrpc/com.atproto.sync.getBlob?did={alice.did}&cid={cid}"
    whole = alice.send("GET", path)
    assert whole.headers["Accept-Ranges"] == "bytes"
    part = alice.send("GET", path, headers={"Range": "bytes=1-3"})
    assert (part.status, part.body) == (206, b"PNG")
    assert part.headers["Content-Range"] == f"bytes 1-3/{len(PNG)}"
    assert part.headers["Content-Length"] == "3"
    for name in ("Content-Security-Policy", "Content-Disposition", "Content-Type"):
        assert part.headers[name] == whole.headers[name]
    behind = alice.send("GET", path, headers={"Range": "bytes=900-"})
    assert (behind.status, behind.error) == (416, "RangeNotSatisfiable")
    assert behind.headers["Content-Range"] == f"bytes */{len(PNG)}"
    changed = {"Range": "bytes=1-3", "If-Range": '"another"'}
    assert alice.send("GET", path, headers=changed).body == PNG
    head_only = alice.send("HEAD", path)
    assert (head_only.status, head_only.body) == (200, b"")
    assert head_only.headers["Content-Length"] == str(len(PNG))


OLD_BLOB = {
    "cid": "bafkreigyia5vqnnpapjc6p5k23ukzc47kadxhbeuzfvjq52bftz7k2d56a",
    "mimeType": "image/jpeg",
}


@pytest.mark.parametrize("validate", [{}, {"validate": True}, {"validate": False}])
def test_legacy_blob_in_a_known_record_is_refused(
    alice: Client, validate: dict[str, bool]
) -> None:
    profile = {"$type": "app.bsky.actor.profile", "avatar": OLD_BLOB}
    answer = alice.create(profile, rkey="self", **validate)
    assert (answer.status, answer.error) == (400, "InvalidRequest")
    message = answer.json["message"]
    assert "avatar" in message or OLD_BLOB["cid"] in message


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (OLD_BLOB, 400),
        ([{"deep": OLD_BLOB}], 400),
        (OLD_BLOB | {"alt": "a field more"}, 200),
        (OLD_BLOB | {"cid": "no CID"}, 200),
        (OLD_BLOB | {"mimeType": 5}, 200),
    ],
)
def test_legacy_blob_anywhere_is_refused(
    alice: Client, value: Any, status: int
) -> None:
    answers = [alice.create(note("x", value=value), validate=v) for v in (False,)]
    answers.append(alice.create(note("x", value=value)))
    writes = [
        {"$type": f"{APPLY}#create", "collection": NOTE, "value": note("x", v=value)}
    ]
    answers.append(alice.post(APPLY, {"repo": alice.did, "writes": writes}))
    fields = {"repo": alice.did, "collection": NOTE, "rkey": "x"}
    answers.append(alice.post(PUT, fields | {"record": note("x", value=value)}))
    assert [answer.status for answer in answers] == [status] * 4
    if status == 400:
        assert {answer.json["message"] for answer in answers} == {
            f"Legacy blobs are not allowed ({OLD_BLOB['cid']})"
        }


def test_upload_size_is_limited(alice: Client) -> None:
    path = f"/xrpc/{UPLOAD}"
    answer = alice.announce(path, 1_000_001, "application/x-big")
    assert (answer.status, answer.error) == (413, "PayloadTooLarge")
    # The largest allowed size passes.
    assert upload(alice, bytes(1_000_000), "application/x-big").status == 200


def test_account_has_a_blob_quota(alice: Client) -> None:
    assert upload(alice, bytes(900_000), "application/x-a").status == 200
    assert upload(alice, bytes(900_000), "application/x-a").status == 200
    answer = upload(alice, bytes(900_001), "application/x-a")
    assert (answer.status, answer.error) == (413, "BlobTooLarge")


def test_incomplete_upload_leaves_no_blob(world: World, alice: Client) -> None:
    def stored() -> int:
        with world.pool("a").connection() as conn:
            row = conn.execute("SELECT count(*) FROM blob").fetchone()
        assert row is not None
        return int(row[0])

    before = stored()
    address = urllib.parse.urlsplit(alice.url).netloc
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.putrequest("POST", f"/xrpc/{UPLOAD}")
    connection.putheader("Authorization", f"Bearer {alice.token}")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(len(PNG) + 100))
    connection.endheaders(PNG)
    connection.close()
    assert alice.create(note("still here")).status == 200
    assert stored() == before


@pytest.mark.parametrize(
    "cid",
    [
        "nonsense",
        "../../etc/passwd",
        'x"\r\nSet-Cookie: a=b',
        cid_to_text(b"\x01\x55\x12\x20" + bytes(32)),
        cid_to_text(b"\x01\x71\x12\x20" + bytes(32)),
    ],
)
def test_bad_blob_cid_is_not_found(alice: Client, cid: str) -> None:
    answer = fetch_blob(alice, cid)
    assert answer.status == 400
    assert answer.error in ("BlobNotFound", "InvalidRequest")
    assert "Set-Cookie" not in answer.headers


def test_invalid_record_names_its_field(alice: Client) -> None:
    image = {"alt": 5, "image": upload(alice, PNG).json["blob"]}
    embed = {"$type": "app.bsky.embed.images", "images": [image]}
    answer = alice.create(post("x", embed=embed))
    assert (answer.status, answer.error) == (400, "InvalidRequest")
    assert f"Invalid {POST} record: embed.images[0].alt" in answer.json["message"]
