"""`bigworld account backup` of an account at our PDS."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pds_world import PASSWORD, Client, World, note, sign_up
from typer.testing import CliRunner

import service.account_backup as account_backup
from service.account_backup import BLOBS, LOG, REPO, STATE
from service.cli.accounts import account
from service.operator_errors import ServiceError


@dataclass
class Owner:
    """An account with a picture, and a folder for its backup."""

    client: Client
    folder: Path

    def run(self, *words: str) -> Any:
        return CliRunner().invoke(account.app, ["backup", *words])

    def save(self, *words: str, of: str = "") -> Any:
        to = ("--to", str(self.folder))
        result = self.run(of or self.client.did, *to, "--json", *words)
        if result.exception is not None and not isinstance(
            result.exception, SystemExit
        ):
            raise result.exception
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout.splitlines()[-1])

    def faults(self) -> list[str]:
        result = self.run("verify", str(self.folder), "--json")
        found: list[str] = json.loads(result.stdout)["faults"]
        assert result.exit_code == (1 if found else 0)
        return found

    def picture(self, data: bytes) -> Any:
        """Upload a blob that a record refers to."""
        headers = {"Content-Type": "image/png"}
        path = "/xrpc/com.atproto.repo.uploadBlob"
        blob = self.client.send("POST", path, body=data, headers=headers).json["blob"]
        assert self.client.create(note("a picture", picture=[blob])).status == 200
        return blob["ref"]["$link"]


@pytest.fixture
def owner(
    world: World,
    server: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Owner:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BIGWORLD_DEV_NETWORK", "true")
    monkeypatch.setenv("BIGWORLD_PLC_URL", world.plc_url)
    monkeypatch.setenv("ATPROTO_PASSWORD", PASSWORD)
    name = f"n{abs(hash(request.node.name)) % 10**9}.a.test"
    return Owner(sign_up(server, name), tmp_path / "copy")


def test_backup_holds_everything_and_is_proven_offline(owner: Owner) -> None:
    for n in range(30):
        owner.client.create(note(f"note {n}"))
    cid = owner.picture(b"\x89PNG\r\n\x1a\n one")
    state = owner.save()
    assert (state["records"], state["blobs"], state["missing"]) == (31, 1, [])
    assert (owner.folder / BLOBS / cid).read_bytes().endswith(b" one")
    car = owner.client.get("com.atproto.sync.getRepo", did=owner.client.did).body
    assert (owner.folder / REPO).read_bytes() == car
    assert owner.faults() == []
    assert not list(owner.folder.rglob("*.part"))


def test_second_backup_copies_what_changed_only(owner: Owner) -> None:
    first = owner.picture(b"\x89PNG\r\n\x1a\n one")
    before = owner.save()
    times = {path: path.stat().st_mtime_ns for path in owner.folder.rglob("*")}
    assert owner.save()["rev"] == before["rev"]
    for kept in (owner.folder / REPO, owner.folder / BLOBS / first):
        assert kept.stat().st_mtime_ns == times[kept]
    second = owner.picture(b"\x89PNG\r\n\x1a\n two")
    after = owner.save()
    assert after["rev"] > before["rev"]
    assert (owner.folder / BLOBS / first).stat().st_mtime_ns == times[
        owner.folder / BLOBS / first
    ]
    assert (owner.folder / BLOBS / second).exists()
    assert owner.faults() == []


@pytest.mark.parametrize("name", [REPO, BLOBS, LOG])
def test_damaged_file_is_named(owner: Owner, name: str) -> None:
    cid = owner.picture(b"\x89PNG\r\n\x1a\n one")
    owner.save()
    path = owner.folder / name
    if name == BLOBS:
        path = path / cid
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert any(name in fault for fault in owner.faults())


def test_lost_blob_is_named_and_copied_again(owner: Owner) -> None:
    cid = owner.picture(b"\x89PNG\r\n\x1a\n one")
    owner.save()
    (owner.folder / BLOBS / cid).unlink()
    [fault] = owner.faults()
    assert cid in fault
    owner.save()
    assert owner.faults() == []


def test_interrupted_backup_goes_on(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.picture(b"\x89PNG\r\n\x1a\n one")
    owner.picture(b"\x89PNG\r\n\x1a\n two")
    fetch: Callable[..., Any] = account_backup._fetch_blob
    calls = []

    def die(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fetch(*args)

    monkeypatch.setattr(account_backup, "_fetch_blob", die)
    with pytest.raises((KeyboardInterrupt, AssertionError)):
        owner.save()
    assert not (owner.folder / STATE).exists()
    with pytest.raises(ServiceError, match="no finished backup"):
        raise owner.run("verify", str(owner.folder)).exception
    (owner.folder / BLOBS / "left.part").write_bytes(b"half")
    (owner.folder / "repo.car.part").write_bytes(b"half")
    owner.save()
    assert owner.faults() == []
    assert not list(owner.folder.rglob("*.part"))


def test_blobs_beyond_the_space_are_told(owner: Owner) -> None:
    cid = owner.picture(b"\x89PNG\r\n\x1a\n one")
    assert owner.save("--max-blob-mb", "0")["missing"] == [cid]
    [fault] = owner.faults()
    assert cid in fault
    assert owner.save()["missing"] == []


def test_folder_belongs_to_one_account(owner: Owner, server: Client) -> None:
    owner.save()
    other = sign_up(server, f"o{owner.client.did[-8:]}.a.test")
    with pytest.raises(ServiceError, match="choose another"):
        owner.save(of=other.did)
    assert owner.faults() == []


def test_repo_of_another_key_is_refused(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, server: Client
) -> None:
    owner.save()
    before = (owner.folder / REPO).read_bytes()
    other = sign_up(server, f"p{owner.client.did[-8:]}.a.test")
    other.create(note("of another"))
    owner.client.create(note("new"))
    open_: Any = account_backup._Server.open

    def swapped(self: Any, method: str, **params: str) -> Any:
        client = account_backup._Server(self.client, self.url, other.did)
        return open_(client, method, **params)

    monkeypatch.setattr(account_backup._Server, "open", swapped)
    with pytest.raises(ServiceError, match="is not"):
        owner.save()
    assert (owner.folder / REPO).read_bytes() == before
    assert owner.faults() == []


def test_account_without_records(owner: Owner) -> None:
    assert owner.save()["records"] == 0
    assert owner.faults() == []


def test_odd_blob_of_another_server_is_no_blob() -> None:
    for ref in ("text", b"\0" * 36, 7, None, {"$link": "x"}):
        odd = [{"$type": "blob", "ref": ref}]
        assert not list(account_backup._blobs_in({"list": odd}))
