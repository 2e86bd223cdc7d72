"""A verified copy of an account in a folder: repo, blobs and DID log.

The folder holds plain files: `repo.car` as the server sent it, `blobs/CID`,
`did-log.json` (or `did-document.json`), and `backup.json`, which is written last. Each
file is complete or absent: it is written under another name, synced and renamed.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import httpx

from network.errors import IdentityError, NetworkError
from pds.identity.directory import Directory
from plc.exceptions import load_exceptions
from plc.operation import verify_audit_log
from plc.operation_format import LegacyCreate, Operation, normalize
from protocol.data.cbor import decode
from protocol.data.cid import BLOB_PREFIX, Cid, cid_from_text, cid_to_text
from protocol.errors import ProtocolError
from protocol.identity.did_document import DidDocument
from protocol.identity.keys import PublicKey, parse_did_key
from protocol.repo.whole_repo import RepoHead, RepoReader
from protocol.syntax import Did, is_plc_did, parse_did
from service.operator_errors import ServiceError
from service.outgoing import make_fetcher, make_resolver
from service.runtime.config import Config

REPO: Final = "repo.car"
BLOBS: Final = "blobs"
LOG: Final = "did-log.json"
DOCUMENT: Final = "did-document.json"
STATE: Final = "backup.json"
_PART: Final = ".part"
_VERSION: Final = 1
_SYNC: Final = "com.atproto.sync"
_TIMEOUT_S: Final = 60.0
_MAX_REPO: Final = 2_000_000_000
_MAX_BLOB: Final = 100_000_000
_MAX_PAGES: Final = 10_000
_SIGNING: Final = "atproto"

Report = Callable[[str, int, int], None]
"""Tell what is copied, how many of how many."""


@dataclass(slots=True)
class Backup:
    """The content of a folder. `blobs` are those that the server listed."""

    did: str
    pds: str
    rev: str = ""
    root: str = ""
    records: int = 0
    blobs: int = 0
    missing: list[str] = field(default_factory=list)
    """CIDs of listed blobs that the server did not send, or that are over a limit."""
    saved_at: str = ""


def read_backup(folder: Path) -> Backup | None:
    """Return the state of a backup, None if there is none. Raises ServiceError."""
    try:
        values = json.loads((folder / STATE).read_text())
        if values.pop("version") != _VERSION:
            raise ServiceError(f"{folder / STATE} is of another version of Bigworld")
        return Backup(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ServiceError(f"{folder / STATE} is damaged: {error}") from error


def back_up(
    config: Config,
    did: Did,
    folder: Path,
    max_blob_mb: int,
    report: Report,
    *,
    source: str | None = None,
) -> Backup:
    """Bring the copy of an account up to date. Raises ServiceError.

    A repo is fetched again when it has changed, a blob when it is not there. `source`
    is a mirror to ask instead of the account's PDS.
    """
    known = read_backup(folder)
    if known is not None and known.did != did:
        raise ServiceError(f"{folder} is the backup of {known.did}; choose another")
    (folder / BLOBS).mkdir(parents=True, exist_ok=True)
    for left in [*folder.glob(f"*{_PART}"), *(folder / BLOBS).glob(f"*{_PART}")]:
        left.unlink()
    document, log = asyncio.run(_identify(config, did))
    if document.pds is None or document.signing_key is None:
        raise ServiceError(f"{did} names no PDS or no signing key")
    if log is not None:
        _write(folder / LOG, json.dumps(log, indent=1).encode())
    else:
        named = {"id": str(did), "signingKey": document.signing_key}
        _write(folder / DOCUMENT, json.dumps(named).encode())
    state = Backup(str(did), document.pds)
    with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
        server = _Server(client, (source or document.pds).rstrip("/"), str(did))
        latest = server.ask("getLatestCommit")
        same = known is not None and (folder / REPO).exists()
        if same and known is not None and known.rev == latest.get("rev"):
            state.rev, state.root, state.records = known.rev, known.root, known.records
        else:
            head = _fetch_repo(server, folder, parse_did_key(document.signing_key), did)
            state.rev, state.root = str(head.rev), cid_to_text(head.data)
            state.records = head.records
            report("records", head.records, head.records)
        _fetch_blobs(server, folder, max_blob_mb * 1_000_000, state, report)
    state.saved_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    _write(folder / STATE, json.dumps({"version": _VERSION, **asdict(state)}).encode())
    return state


@dataclass(frozen=True, slots=True)
class Checked:
    """The findings of a check; `faults` name files."""

    state: Backup
    records: int
    blobs: int
    faults: list[str]


def check_backup(folder: Path, media: dict[str, str] | None = None) -> Checked:
    """Prove a backup without the network. Raises ServiceError if there is none.

    Adds to `media` the media type of each blob that a record refers to, by CID.

    The repo's hashes, tree and signature are checked against a key of the DID log, and
    each blob against its name.
    """
    state = read_backup(folder)
    if state is None:
        raise ServiceError(f"{folder} has no finished backup: {STATE} is missing")
    faults: list[str] = []
    records = 0
    wanted: dict[str, str] = {} if media is None else media
    held: set[str] = set()
    try:
        keys = _logged_keys(folder, parse_did(state.did))
        head = _prove_repo(folder / REPO, parse_did(state.did), keys, wanted)
        records = head.records
        if (str(head.rev), cid_to_text(head.data)) != (state.rev, state.root):
            faults.append(f"{REPO}: another revision than {STATE} says")
    except (ProtocolError, OSError, ValueError) as error:
        faults.append(f"{REPO} or {LOG}: {error}")
    blobs = 0
    for path in sorted((folder / BLOBS).iterdir()):
        if path.name.endswith(_PART):
            continue
        blobs += 1
        if _hash_of(path) != path.name:
            faults.append(f"{BLOBS}/{path.name}: its bytes are others")
        held.add(path.name)
    faults += [
        f"{BLOBS}/{cid}: missing, and a record refers to it"
        for cid in sorted(wanted.keys() - held)
    ]
    return Checked(state, records, blobs, faults)


async def _identify(config: Config, did: Did) -> tuple[DidDocument, Any]:
    """Return the document, and for did:plc the verified log as JSON."""
    async with make_fetcher(config) as fetcher:
        try:
            document, _ = await make_resolver(config, fetcher).resolve_identity(did)
            if not is_plc_did(did):
                return document, None
            log = await Directory(config.directory_url, fetcher).audit_log(did)
            verify_audit_log(did, log, tolerated=load_exceptions())
        except (IdentityError, NetworkError, ProtocolError) as error:
            raise ServiceError(f"{did} does not resolve: {error}") from error
    return document, log


@dataclass(frozen=True, slots=True)
class _Server:
    """Requests about one account to its PDS."""

    client: httpx.Client
    url: str
    did: str

    def ask(self, method: str, **params: str) -> Any:
        """Return the JSON of a query. Raises ServiceError."""
        try:
            reply = self.client.get(
                f"{self.url}/xrpc/{_SYNC}.{method}", params={"did": self.did, **params}
            )
            body = reply.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ServiceError(f"{self.url} does not answer: {error}") from error
        if not reply.is_success or not isinstance(body, dict):
            raise ServiceError(f"{self.url} refused {method}: {reply.text[:300]}")
        return body

    @contextmanager
    def open(self, method: str, **params: str) -> Iterator[Iterator[bytes] | None]:
        """Open the body of a query; None if the server refuses it."""
        try:
            with self.client.stream(
                "GET",
                f"{self.url}/xrpc/{_SYNC}.{method}",
                params={"did": self.did, **params},
            ) as reply:
                yield reply.iter_bytes() if reply.is_success else None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceError(f"{self.url} stopped in {method}: {error}") from error


def _fetch_repo(server: _Server, folder: Path, key: PublicKey, did: Did) -> RepoHead:
    reader = RepoReader(key, did, _now_us())
    with server.open("getRepo") as body, _writing(folder / REPO) as write:
        if body is None:
            raise ServiceError(f"{server.url} refused getRepo of {did}")
        size = 0
        try:
            for chunk in body:
                size += len(chunk)
                if size > _MAX_REPO:
                    raise ServiceError(f"the repo of {did} is over {_MAX_REPO} bytes")
                reader.feed(chunk)
                write(chunk)
            return reader.finish()
        except ProtocolError as error:
            raise ServiceError(
                f"the repo of {server.url} is not {did}'s: {error}"
            ) from error


def _fetch_blobs(
    server: _Server, folder: Path, most: int, state: Backup, report: Report
) -> None:
    cursor: dict[str, str] = {}
    held = sum(path.stat().st_size for path in (folder / BLOBS).iterdir())
    fetched = 0
    for _ in range(_MAX_PAGES):
        page = server.ask("listBlobs", limit="500", **cursor)
        for cid in map(str, page.get("cids", ())):
            state.blobs += 1
            path = folder / BLOBS / _file_name(cid)
            if path.exists():
                continue
            size = _fetch_blob(server, path, cid, min(_MAX_BLOB, most - held))
            if size is None:
                state.missing.append(cid)
                continue
            held += size
            fetched += 1
            report("blobs", fetched, state.blobs)
        if not page.get("cursor"):
            return
        cursor = {"cursor": str(page["cursor"])}


def _fetch_blob(server: _Server, path: Path, cid: str, most: int) -> int | None:
    """Return the size of a stored blob; None if it was refused, wrong or too large."""
    digest = sha256()
    size = 0
    with server.open("getBlob", cid=cid) as body:
        if body is None:
            return None
        with suppress(_WrongBlobError), _writing(path) as write:
            for chunk in body:
                size += len(chunk)
                if size > most:
                    raise _WrongBlobError
                digest.update(chunk)
                write(chunk)
            if cid_to_text(BLOB_PREFIX + digest.digest()) != cid:
                raise _WrongBlobError
            return size
    return None


class _WrongBlobError(Exception):
    """A blob has other bytes than its CID says, or too many."""


def _file_name(cid: str) -> str:
    """Return a CID that may name a file. Raises ServiceError."""
    try:
        return cid_to_text(cid_from_text(cid))
    except ProtocolError as error:
        raise ServiceError(
            f"the server lists {cid[:80]!r} as a blob: {error}"
        ) from error


def _logged_keys(folder: Path, did: Did) -> list[PublicKey]:
    """Return all signing keys that the account ever had, the newest first."""
    if not is_plc_did(did):
        named = json.loads((folder / DOCUMENT).read_text())
        return [parse_did_key(named["signingKey"])]
    log = verify_audit_log(
        did, json.loads((folder / LOG).read_text()), tolerated=load_exceptions()
    )
    keys: dict[str, None] = {}
    for entry in reversed(log.entries):
        operation = entry.operation
        if isinstance(operation, Operation | LegacyCreate):
            key = normalize(operation).verification_methods.get(_SIGNING)
            if key is not None:
                keys[key] = None
    return [parse_did_key(key) for key in keys]


def _prove_repo(
    path: Path, did: Did, keys: list[PublicKey], wanted: dict[str, str]
) -> RepoHead:
    """Return the head of a repo; add CIDs and media types of its records' blobs."""
    failure: ProtocolError | None = None
    for key in keys:
        reader = RepoReader(key, did, _now_us())
        try:
            with path.open("rb") as file:
                while chunk := file.read(1_000_000):
                    for record in reader.feed(chunk):
                        wanted.update(_blobs_in(decode(record.value)))
            return reader.finish()
        except ProtocolError as error:
            failure = failure or error
    raise failure or ValueError("the DID log names no signing key")


def _blobs_in(value: Any) -> Iterator[tuple[str, str]]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            ref = item.get("ref")
            if item.get("$type") == "blob" and isinstance(ref, Cid):
                yield cid_to_text(ref.raw), str(item.get("mimeType"))
            else:
                stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _hash_of(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(1_000_000):
            digest.update(chunk)
    return cid_to_text(BLOB_PREFIX + digest.digest())


def _write(path: Path, data: bytes) -> None:
    with _writing(path) as write:
        write(data)


@contextmanager
def _writing(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Write a file that appears whole, or not at all."""
    part = path.with_name(path.name + _PART)
    try:
        with part.open("wb") as file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now_us() -> int:
    return time.time_ns() // 1_000
