"""`bigworld account migrate` and `rescue` between servers of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pds_moving import export, upload, write_notes
from pds_world import PASSWORD, Client, World, note, read_json, sign_up, signing_key_of
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner

from plc.operation_draft import create_update
from plc.operation_format import operation_json, parse_operation
from protocol.identity.keys import PrivateKey
from protocol.repo.whole_repo import RepoReader
from protocol.syntax import Did
from service.account_backup import BLOBS, REPO, STATE
from service.cli.accounts import account
from service.cli.accounts.moving import remote_account
from service.cli.accounts.recovery_sheet import sheet_of
from service.operator_errors import ServiceError

NEW_PASSWORD = "another battery staple"
NOW_US = 4_000_000_000_000_000
CODE = "typer.prompt"


class DyingError(BaseException):
    """The command is killed."""


@dataclass
class Owner:
    """The owner of an account, with a recovery key on paper and a folder."""

    world: World
    new: Client
    folder: Path
    name: str
    key: PrivateKey = field(default_factory=PrivateKey.generate)

    @property
    def sheet(self) -> str:
        path = self.folder / "recovery.txt"
        path.write_text(sheet_of(self.key, "the account", "2026-12-01"))
        return str(path)

    @property
    def copy(self) -> Path:
        return self.folder / "copy"

    def sign_up(self, server: Client) -> Client:
        """Open an account with records and two blobs."""
        made = sign_up(
            server,
            f"{self.name}.{server_name(server, self.world)}.test",
            email=f"{self.name}@example.com",
            recoveryKey=self.key.public.did_key,
        )
        write_notes(made, 60)
        for text in (b"the first blob", b"the second blob"):
            made.create(note("with a blob", blob=upload(made, text)))
        return made

    def run(self, *words: str) -> Any:
        result = CliRunner().invoke(account.app, [*words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    def backup(self, did: str) -> None:
        self.run("backup", did, "--to", str(self.copy))

    def rescue(self, did: str, *more: str, key: str | None = None) -> Any:
        return self.run(
            *("rescue", did, "--to", self.new.url, "--handle", f"{self.name}.b.test"),
            *("--folder", str(self.copy), "--key", key or self.sheet, *more),
        )

    def migrate(self, did: str, *more: str) -> Any:
        return self.run(
            *("migrate", did, "--to", self.new.url, "--handle", f"{self.name}.b.test"),
            *("--folder", str(self.copy), *more),
            *("--recovery-key", self.key.public.did_key),
        )

    def identity(self, did: str) -> Any:
        return read_json(f"{self.world.plc_url}/{did}/data")

    def operations(self, did: str) -> int:
        return len(read_json(f"{self.world.plc_url}/{did}/log/audit"))

    def arrived(self, did: str, car: bytes) -> Client:
        """Check that the new server has all of a repo, its blobs and its identity."""
        made = Client(self.new.url).post(
            "com.atproto.server.createSession",
            {"identifier": did, "password": NEW_PASSWORD},
        )
        assert made.status == 200, made.body
        here = Client(self.new.url, made.json["accessJwt"], did)
        assert root_of(here, self.world) == root_of(here, self.world, car)
        status = here.get("com.atproto.server.checkAccountStatus").json
        assert (status["activated"], status["validDid"]) == (True, True)
        assert (status["expectedBlobs"], status["importedBlobs"]) == (2, 2)
        found = self.identity(did)
        assert found["services"]["atproto_pds"]["endpoint"] == self.new.url
        assert found["rotationKeys"][0] == self.key.public.did_key
        assert len(found["rotationKeys"]) == 2
        assert found["alsoKnownAs"] == [f"at://{self.name}.b.test"]
        assert here.create(note("here at last")).status == 200
        return here


def server_name(server: Client, world: World) -> str:
    described = server.get("com.atproto.server.describeServer").json
    name: str = described["availableUserDomains"][0].split(".")[1]
    return name


def root_of(here: Client, world: World, car: bytes | None = None) -> bytes:
    """Return the root of the tree of a repo; of the new server it is verified."""
    key = signing_key_of(world.plc_url, here.did) if car is None else None
    reader = RepoReader(key, Did(here.did), NOW_US)
    reader.feed(export(here) if car is None else car)
    return reader.finish().data


@pytest.fixture(scope="module")
def other(world: World) -> Iterator[Client]:
    with world.serve_pds("b") as client:
        yield client


@pytest.fixture
def owner(
    world: World,
    other: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Owner:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BIGWORLD_DEV_NETWORK", "true")
    monkeypatch.setenv("BIGWORLD_PLC_URL", world.plc_url)
    monkeypatch.setenv("ATPROTO_PASSWORD", PASSWORD)
    monkeypatch.setenv("ATPROTO_NEW_PASSWORD", NEW_PASSWORD)
    monkeypatch.setattr(CODE, lambda *_, **__: world.mailed_token("a"))
    return Owner(world, other, tmp_path, f"n{abs(hash(request.node.name)) % 10**9}")


@contextmanager
def dying_server(world: World) -> Iterator[tuple[Client, Callable[[], None]]]:
    """Serve a PDS, and a function that stops it for good."""
    serving = world.serve_pds("d")
    client = serving.__enter__()
    stopped: list[bool] = []

    def stop() -> None:
        if not stopped:
            stopped.append(True)
            serving.__exit__(None, None, None)

    try:
        yield client, stop
    finally:
        stop()


def test_account_moves_with_the_help_of_the_old_server(
    owner: Owner, server: Client
) -> None:
    old = owner.sign_up(server)
    preferences = [{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": True}]
    body = {"preferences": preferences}
    assert old.post("app.bsky.actor.putPreferences", body).status == 200
    car = export(old)
    plan = owner.migrate(old.did).stdout
    assert "nothing was changed" in plan
    assert "yours, stays the strongest" in plan
    assert owner.operations(old.did) == 1
    assert not owner.copy.exists()
    owner.migrate(old.did, "--yes")
    here = owner.arrived(old.did, car)
    assert here.get("app.bsky.actor.getPreferences").json == body
    status = server.get("com.atproto.sync.getRepoStatus", did=old.did).json
    assert status["status"] == "deactivated"
    # A second run changes nothing, least of all what was written since.
    before = export(here)
    owner.migrate(old.did, "--yes")
    assert export(here) == before
    assert owner.operations(old.did) == 2


def test_account_is_rescued_from_a_backup(owner: Owner, world: World) -> None:
    with dying_server(world) as (server, stop):
        old = owner.sign_up(server)
        car = export(old)
        owner.backup(old.did)
        stop()
        plan = owner.rescue(old.did).stdout
        assert "nothing was changed" in plan
        assert owner.operations(old.did) == 1
        owner.rescue(old.did, "--yes")
        here = owner.arrived(old.did, car)
        before = export(here)
        owner.rescue(old.did, "--yes")
        assert export(here) == before
        assert owner.operations(old.did) == 3
        told = owner.run("history", old.did).stdout
        assert f"to {owner.new.url}" in told
        assert told.count("the strongest of") >= 2


def test_account_is_rescued_from_a_mirror(owner: Owner, world: World) -> None:
    with dying_server(world) as (server, stop):
        old = owner.sign_up(server)
        car = export(old)
        owner.backup(old.did)
        kept = owner.folder / "mirrored"
        owner.copy.rename(kept)
        stop()
        mirror = world.serve(mirror_of(kept))
        owner.rescue(old.did, "--mirror", mirror, "--yes")
        owner.arrived(old.did, car)


def test_mirror_of_another_repo_is_refused(owner: Owner, server: Client) -> None:
    old = owner.sign_up(server)
    owner.backup(old.did)
    kept = owner.folder / "mirrored"
    owner.copy.rename(kept)
    data = bytearray((kept / REPO).read_bytes())
    data[len(data) // 2] ^= 1
    (kept / REPO).write_bytes(data)
    mirror = owner.world.serve(mirror_of(kept))
    with pytest.raises(ServiceError, match="the repo of"):
        owner.rescue(old.did, "--mirror", mirror, "--yes")
    assert owner.operations(old.did) == 1


def mirror_of(copy: Path) -> Starlette:
    """Return a mirror that serves one backup."""
    state = json.loads((copy / STATE).read_text())
    head = {"cid": state["root"], "rev": state["rev"]}
    cids = [path.name for path in (copy / BLOBS).iterdir()]

    async def serve(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "getLatestCommit":
            return JSONResponse(head)
        if name == "listBlobs":
            return JSONResponse({"cids": cids})
        if name == "getRepo":
            return Response((copy / REPO).read_bytes())
        return Response((copy / BLOBS / request.query_params["cid"]).read_bytes())

    return Starlette(routes=[Route("/xrpc/com.atproto.sync.{name}", serve)])


def test_key_that_may_be_the_owners_is_not_dropped_quietly(
    owner: Owner, server: Client
) -> None:
    old = owner.sign_up(server)
    words = ("migrate", old.did, "--to", owner.new.url, "--folder", str(owner.copy))
    words += ("--handle", f"{owner.name}.b.test", "--yes")
    with pytest.raises(ServiceError, match=r"--recovery-key.*--drop-keys"):
        owner.run(*words)
    assert owner.operations(old.did) == 1
    assert (
        Client(owner.new.url)
        .post(
            "com.atproto.server.createSession",
            {"identifier": old.did, "password": NEW_PASSWORD},
        )
        .status
        == 401
    )
    owner.run(*words, "--drop-keys")
    found = owner.identity(old.did)["rotationKeys"]
    assert owner.key.public.did_key not in found


def test_wrong_recovery_key_changes_nothing(owner: Owner, server: Client) -> None:
    old = owner.sign_up(server)
    owner.backup(old.did)
    path = owner.folder / "wrong.txt"
    path.write_text(sheet_of(PrivateKey.generate(), "x", "2026-12-01"))
    with pytest.raises(ServiceError, match="never was"):
        owner.rescue(old.did, "--yes", key=str(path))
    assert owner.operations(old.did) == 1


@pytest.mark.parametrize("part", [REPO, BLOBS])
def test_damaged_file_of_the_copy_is_named(
    owner: Owner, server: Client, part: str
) -> None:
    old = owner.sign_up(server)
    owner.backup(old.did)
    path = owner.copy / part
    if part == BLOBS:
        path = min(path.iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ServiceError, match=path.name):
        owner.rescue(old.did, "--yes")
    assert owner.operations(old.did) == 1


def test_lost_blob_is_told_and_stops_no_rescue(owner: Owner, server: Client) -> None:
    old = owner.sign_up(server)
    owner.backup(old.did)
    min((owner.copy / BLOBS).iterdir()).unlink()
    output = owner.rescue(old.did, "--yes").stdout
    assert "1 blobs are lost" in output


def test_rescue_undoes_what_the_server_signed(owner: Owner, world: World) -> None:
    """The server drops the recovery key, as a hostile one would."""
    server_key = PrivateKey.generate()
    with dying_server(world) as (server, stop):
        old = owner.sign_up(server)
        car = export(old)
        owner.backup(old.did)
        last = parse_operation(read_json(f"{world.plc_url}/{old.did}/log/last"))
        keys = [owner.key.public.did_key, server_key.public.did_key]
        first = create_update(last, owner.key, rotation_keys=keys)  # type: ignore[arg-type]
        theft = create_update(
            first, server_key, rotation_keys=[server_key.public.did_key]
        )
        for operation in (first, theft):
            answer = Client(world.plc_url).send(
                "POST",
                f"/{old.did}",
                body=json.dumps(operation_json(operation)).encode(),
                headers={"Content-Type": "application/json"},
            )
            assert answer.status == 200, answer.body
        stop()
        assert "are undone" in owner.rescue(old.did).stdout
        owner.rescue(old.did, "--yes")
        owner.arrived(old.did, car)


@pytest.mark.parametrize(
    "moment", [pytest.param("before", marks=pytest.mark.long), "after"]
)
@pytest.mark.parametrize("way", ["migrate", "rescue"])
def test_killed_move_goes_on(
    owner: Owner,
    server: Client,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    moment: str,
) -> None:
    """Each run dies at the next change that no run before it got past."""
    old = owner.sign_up(server)
    car = export(old)
    if way == "rescue":
        owner.backup(old.did)
    run = owner.migrate if way == "migrate" else owner.rescue
    send: Any = remote_account.RemoteAccount._send
    died: set[Any] = set()

    def fail_once(self: Any, method: str, nsid: str, more: Any, token: Any) -> Any:
        # Each file is a point of its own.
        point = (nsid, str(more.get("file")), self.url)
        is_new = method == "POST" and point not in died
        if is_new:
            died.add(point)
        if is_new and moment == "before":
            raise DyingError
        reply = send(self, method, nsid, more, token)
        if is_new:
            raise DyingError
        return reply

    monkeypatch.setattr(remote_account.RemoteAccount, "_send", fail_once)
    for _ in range(25):
        try:
            run(old.did, "--yes")
        except DyingError:
            continue
        break
    else:
        pytest.fail("the move never ended")
    assert len(died) >= 7
    monkeypatch.undo()
    owner.arrived(old.did, car)
    assert owner.operations(old.did) == (2 if way == "migrate" else 3)
