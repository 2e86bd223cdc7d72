"""The home: private, one `up` at a time, with the ports of its demo network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import demo_network, up
from service.operator_errors import ConfigError, ServiceError
from service.runtime.config import Config
from service.runtime.home import hold_home, make_home

HOLD = """
import sys, time
from pathlib import Path
from service.runtime.home import hold_home
with hold_home(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_make_home_is_private(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    make_home(home)
    assert home.stat().st_mode & 0o777 == 0o700
    home.chmod(0o755)
    make_home(home)
    assert home.stat().st_mode & 0o777 == 0o700


def test_make_home_failure_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ServiceError, match=r"BIGWORLD_HOME: .*file/home: not a directory"
    ):
        make_home(tmp_path / "file" / "home")


def test_second_up_names_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        # The lock is checked before the ports.
        monkeypatch.setattr(up, "_check_ports", lambda *_, **__: pytest.fail("late"))
        with pytest.raises(ServiceError, match=rf"already runs .*\(pid {first.pid}\)"):
            up.run(Config(home=tmp_path))
    finally:
        first.kill()
        first.communicate()
    with hold_home(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    "state",
    [
        {"now_us": 1, "done": False, "port_base": 4_000},
        {
            "now_us": 1,
            "done": True,
            "accounts": [
                {"pds": "http://localhost:4003"},
                {"pds": "http://localhost:4002"},
            ],
        },
    ],
)
def test_demo_home_keeps_its_ports(tmp_path: Path, state: dict[str, object]) -> None:
    (tmp_path / "society.json").write_text(json.dumps(state))
    assert demo_network.at_remembered_ports(Config(home=tmp_path)).port_base == 4_000
    asked = Config(home=tmp_path, port_base=4_000)
    assert demo_network.at_remembered_ports(asked) == asked
    with pytest.raises(ConfigError, match=r"created for port 4000.*--port-base 4000"):
        up.run(Config(home=tmp_path, port_base=5_000))


def test_new_home_takes_any_port(tmp_path: Path) -> None:
    asked = Config(home=tmp_path, port_base=5_000)
    assert demo_network.at_remembered_ports(asked) == asked
    (tmp_path / "society.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        demo_network.at_remembered_ports(asked)
