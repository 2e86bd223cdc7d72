"""`bigworld account keys`: recovery keys at a real directory and PDS."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pds_world import PASSWORD, Client, World, read_json, sign_up
from typer.testing import CliRunner

from plc.operation_draft import create_update
from plc.operation_format import operation_json, parse_operation
from protocol.identity.keys import PrivateKey
from service.cli.accounts import account
from service.cli.accounts.recovery_sheet import load_key, sheet_of
from service.operator_errors import ServiceError


@dataclass
class Owner:
    """The owner of accounts, on a machine without any database."""

    world: World
    server: Client
    folder: Path

    def run(self, *words: str, input_: str | None = None) -> Any:
        result = CliRunner().invoke(account.app, ["keys", *words], input=input_)
        if isinstance(result.exception, ServiceError):
            raise result.exception
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def make(self, name: str = "first.txt") -> tuple[str, str]:
        """Make a key; return its did:key and its file."""
        path = str(self.folder / name)
        return self.run("make", "--file", path).stdout.strip(), path

    def log(self, did: str) -> Any:
        return read_json(f"{self.world.plc_url}/{did}/log/audit")


@pytest.fixture
def owner(
    world: World, server: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Owner:
    monkeypatch.setenv("BIGWORLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BIGWORLD_DEV_NETWORK", "true")
    monkeypatch.setenv("BIGWORLD_PLC_URL", world.plc_url)
    monkeypatch.setenv("ATPROTO_PASSWORD", PASSWORD)
    return Owner(world, server, tmp_path)


def test_key_of_a_new_account_passes_the_drill(owner: Owner) -> None:
    text, path = owner.make()
    did = sign_up(owner.server, "drilled.a.test", recoveryKey=text).did
    before = owner.log(did)
    for _ in range(2):
        report = owner.json("drill", did, "--key", path)
        assert report == {"did": did, "place": 1, "outranks": 1, "works": True}
    shown = owner.json("show", did, "--key", path)
    assert shown["rotationKeys"][0] == {"key": text, "yours": True}
    assert shown["server"] == owner.server.url
    assert shown["undoable"] == []
    assert "your key" in owner.run("show", did, "--key", path).stdout
    assert owner.log(did) == before


def test_drill_works_from_words_that_are_typed(owner: Owner) -> None:
    made = owner.run("make", "--paper")
    text = made.stdout.strip().splitlines()[-1]
    did = sign_up(owner.server, "typed.a.test", recoveryKey=text).did
    pattern = r"\d+ ([bdfghjklmnprstvz][aiou]\w[aiou]\w)"
    words = " ".join(re.findall(pattern, made.stderr))
    assert "nothing was changed" in owner.run("drill", did, input_=words + "\n").stdout
    sheet = owner.run("drill", did, "--key", "-", input_=made.stderr)
    assert "outranks 1" in sheet.stdout


def test_drill_of_another_key_fails(owner: Owner) -> None:
    text, _ = owner.make()
    _, other = owner.make("other.txt")
    did = sign_up(owner.server, "wrongkey.a.test", recoveryKey=text).did
    with pytest.raises(ServiceError, match="is not a rotation key"):
        owner.run("drill", did, "--key", other)
    with pytest.raises(ServiceError, match="404"):
        owner.run("drill", "did:plc:" + "a" * 24, "--key", other)
    with pytest.raises(ServiceError, match="is not a did:plc"):
        owner.run("drill", "did:web:example.com", "--key", other)


def test_drill_tells_a_weak_key(owner: Owner, tmp_path: Path) -> None:
    strong, weak = PrivateKey.generate(), PrivateKey.generate()
    did = sign_up(
        owner.server, "weakling.a.test", recoveryKey=strong.public.did_key
    ).did
    last = parse_operation(read_json(f"{owner.world.plc_url}/{did}/log/last"))
    keys = [*last.rotation_keys, weak.public.did_key]  # type: ignore[union-attr]
    operation = create_update(last, strong, rotation_keys=keys)  # type: ignore[arg-type]
    answer = Client(owner.world.plc_url).send(
        "POST",
        f"/{did}",
        body=json.dumps(operation_json(operation)).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status == 200, answer.body
    path = tmp_path / "weak.txt"
    path.write_text(sheet_of(weak, did, "2026-12-01"))
    assert "the weakest" in owner.run("drill", did, "--key", str(path)).stdout
    assert owner.json("drill", did, "--key", str(path))["outranks"] == 0


def test_rotation_replaces_the_key_and_keeps_its_place(owner: Owner) -> None:
    text, path = owner.make()
    did = sign_up(owner.server, "rotated.a.test", recoveryKey=text).did
    server_key = owner.json("show", did)["rotationKeys"][1]["key"]
    new = str(owner.folder / "second.txt")
    output = owner.run("rotate", did, "--key", path, "--file", new, "--yes").stdout
    key = load_key(Path(new)).public.did_key
    assert key in output
    shown = owner.json("show", did, "--key", new)
    assert [item["key"] for item in shown["rotationKeys"]] == [key, server_key]
    assert len(shown["undoable"]) == 1
    assert owner.json("drill", did, "--key", new)["works"] is True
    with pytest.raises(ServiceError, match="is not a rotation key"):
        owner.run("drill", did, "--key", path)
    assert len(owner.log(did)) == 2


def test_rotation_is_not_made_without_a_place_for_the_key(owner: Owner) -> None:
    text, path = owner.make()
    did = sign_up(owner.server, "careful.a.test", recoveryKey=text).did
    with pytest.raises(ServiceError, match="say where the new key goes"):
        owner.run("rotate", did, "--key", path, "--yes")
    with pytest.raises(ServiceError, match="is there already"):
        owner.run("rotate", did, "--key", path, "--file", path, "--yes")
    result = CliRunner().invoke(
        account.app,
        ["keys", "rotate", did, "--key", path, "--file", path + "2"],
        input="n\n",
    )
    assert result.exit_code == 1
    assert len(owner.log(did)) == 1


def test_server_adds_a_first_recovery_key(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_up(owner.server, "late.a.test", email="late@example.com")
    monkeypatch.setattr("typer.prompt", lambda *_, **__: owner.world.mailed_token())
    new = str(owner.folder / "late.txt")
    where = ("--pds", owner.server.url, "--file", new, "--yes")
    owner.run("rotate", client.did, *where)
    report = owner.json("drill", client.did, "--key", new)
    assert (report["place"], report["outranks"]) == (1, 1)


def test_server_cannot_change_more_than_the_keys(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = sign_up(owner.server, "tricked.a.test", email="tricked@example.com")
    monkeypatch.setattr("typer.prompt", lambda *_, **__: owner.world.mailed_token())
    monkeypatch.setattr(
        "pds.identity.plc_methods._parts",
        lambda *_: {"also_known_as": ["at://stolen.example.com"]},
    )
    new = str(owner.folder / "tricked.txt")
    with pytest.raises(ServiceError, match="changes more than the keys"):
        owner.run(
            "rotate", client.did, "--pds", owner.server.url, "--file", new, "--yes"
        )
    assert len(owner.log(client.did)) == 1
