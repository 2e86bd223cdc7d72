"""The new home of an account: filled from a verified copy, then checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from plc.operation_format import Operation
from protocol.data.cid import cid_from_text, cid_to_text
from protocol.errors import ProtocolError
from protocol.identity.did_document import PDS_SERVICE, SIGNING_KEY
from protocol.identity.keys import parse_did_key
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did
from service.account_backup import BLOBS, REPO, Backup, check_backup
from service.cli.accounts.moving.move_state import MoveState
from service.cli.accounts.moving.remote_account import SERVER, RemoteAccount
from service.cli.feeds.pds_session import RefusedError
from service.operator_errors import ServiceError

SIGNING: Final = SIGNING_KEY.removeprefix("#")
PDS: Final = PDS_SERVICE.removeprefix("#")
REPO_NS: Final = "com.atproto.repo"
_CAR: Final = "application/vnd.ipld.car"
_ANY_TYPE: Final = "application/octet-stream"
_MAX_PAGES: Final = 10_000
_TIMEOUT_S: Final = 300.0

Tell = Callable[[str], None]
"""Show a line about a step to the owner."""


@dataclass(slots=True)
class Refill:
    """An account at its new server, and the folder that it is filled from."""

    new: RemoteAccount
    folder: Path
    state: MoveState
    tell: Tell
    lost: list[str] = field(default_factory=list)
    """CIDs of blobs that records refer to and that the copy does not have."""

    def fill(self) -> Backup:
        """Import the repo and the blobs of the copy. Raises ServiceError.

        Files are verified first. The repo of an active account is never replaced: its
        owner may have written there.
        """
        if self.is_active():
            raise ServiceError(f"{self.new.did} is active at {self.new.url} already")
        media: dict[str, str] = {}
        backup = require_sound(self.folder, media)
        if self.state.imported != backup.root:
            self.new.send_file(f"{REPO_NS}.importRepo", self.folder / REPO, _CAR)
            self.state.imported = backup.root
            self.state.store(self.folder)
            self.tell(f"{backup.records} records imported")
        self._send_blobs(media)
        return backup

    def _send_blobs(self, media: dict[str, str]) -> None:
        cursor: dict[str, str] = {}
        sent = 0
        self.lost = []
        for _ in range(_MAX_PAGES):
            page = self.new.query(f"{REPO_NS}.listMissingBlobs", limit="500", **cursor)
            for item in page["blobs"]:
                # Parsed, since it names a file.
                cid = cid_to_text(cid_from_text(str(item["cid"])))
                path = self.folder / BLOBS / cid
                if not path.exists():
                    self.lost.append(cid)
                    continue
                mime = media.get(cid, _ANY_TYPE)
                reply = self.new.send_file(f"{REPO_NS}.uploadBlob", path, mime)
                if reply["blob"]["ref"]["$link"] != cid:
                    raise ServiceError(f"{self.new.url} stored another blob than {cid}")
                sent += 1
            if not page.get("cursor"):
                break
            cursor = {"cursor": str(page["cursor"])}
        if sent:
            self.tell(f"{sent} blobs sent")

    def recommended(self) -> dict[str, Any]:
        """Return the identity that lets the new server host the account."""
        found: dict[str, Any] = self.new.query(
            "com.atproto.identity.getRecommendedDidCredentials"
        )
        return found

    def is_home(self, identity: Operation) -> bool:
        """Return True if an identity names the new server and its keys."""
        wanted = self.recommended()
        service = identity.services.get(PDS)
        return (
            service is not None
            and service.endpoint.rstrip("/") == self.new.url
            and identity.verification_methods.get(SIGNING)
            == wanted["verificationMethods"][SIGNING]
            and wanted["rotationKeys"][-1] in identity.rotation_keys
        )

    def is_active(self) -> bool:
        return bool(self.new.status()["activated"])

    def finish(self, identity: Operation) -> None:
        """Activate the account, and check that identity, repo and blobs agree.

        Raises ServiceError.
        """
        if not self.is_home(identity):
            raise ServiceError(f"the identity of {self.new.did} names other keys")
        fresh = not self.is_active()
        if fresh:
            self.new.call(f"{SERVER}.activateAccount")
            self.tell(f"active at {self.new.url}")
        if self.state.finished:
            return
        key = identity.verification_methods[SIGNING]
        root = self._served_root(key)
        if root != self.state.imported:
            text = f"the repo at {self.new.url} has the root {root}"
            if fresh:
                raise ServiceError(f"{text}, the copy {self.state.imported}")
            # After an interruption the owner may have written already.
            self.tell(f"{text}: it has been written since the import")
        status = self.new.status()
        if not status["validDid"]:
            raise ServiceError(f"{self.new.url} does not accept its DID document")
        absent = status["expectedBlobs"] - status["importedBlobs"]
        if fresh and absent > len(self.lost):
            raise ServiceError(f"{absent} blobs are missing at {self.new.url}")
        if absent:
            self.tell(f"{absent} blobs are lost: no copy has them")

    def _served_root(self, key: str) -> str:
        """Return the root of the repo that the new server serves, verified."""
        reader = RepoReader(
            parse_did_key(key), Did(self.new.did), time.time_ns() // 1_000
        )
        url = f"{self.new.url}/xrpc/com.atproto.sync.getRepo"
        try:
            with httpx.stream(
                "GET",
                url,
                params={"did": self.new.did},
                timeout=_TIMEOUT_S,
                trust_env=False,
            ) as reply:
                if not reply.is_success:
                    raise ServiceError(f"{self.new.url} does not serve the repo")
                for chunk in reply.iter_bytes():
                    reader.feed(chunk)
            return cid_to_text(reader.finish().data)
        except (httpx.HTTPError, ProtocolError) as error:
            raise ServiceError(f"the repo at {self.new.url}: {error}") from error


def require_sound(folder: Path, media: dict[str, str] | None = None) -> Backup:
    """Return a verified copy; blobs may be absent. Raises ServiceError."""
    wanted: dict[str, str] = {} if media is None else media
    checked = check_backup(folder, wanted)
    absent = {f"{BLOBS}/{cid}" for cid in wanted if not (folder / BLOBS / cid).exists()}
    damaged = [text for text in checked.faults if text.split(":")[0] not in absent]
    if damaged:
        raise ServiceError(f"the copy in {folder} is damaged: {'; '.join(damaged)}")
    return checked.state


def service_did(account: RemoteAccount) -> str:
    """Return the DID of a server."""
    return str(account.query(f"{SERVER}.describeServer")["did"])


def deactivate(old: RemoteAccount, tell: Tell) -> None:
    """Deactivate an account at the server that it has left, if it is active there."""
    if not old.status()["activated"]:
        return
    try:
        old.call(f"{SERVER}.deactivateAccount", {})
    except RefusedError as error:
        raise ServiceError(f"the account has moved, but {error}") from error
    tell(f"deactivated at {old.url}")
