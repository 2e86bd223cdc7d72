"""Settings: order of sources, refusals, and the environment of child processes."""

from __future__ import annotations

import asyncio
import re
import stat
import threading
from pathlib import Path

import pytest

from service.operator_errors import ConfigError
from service.outgoing import make_fetcher, make_resolver
from service.runtime import config as config_module
from service.runtime.config import Config
from service.runtime.crawl_settings import check_targets, crawl_settings
from service.runtime.secrets import SecretStore, admin_password


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config_module, "CHECKOUT", tmp_path)
    for name in Config.model_fields:
        monkeypatch.delenv(f"BIGWORLD_{name.upper()}", raising=False)
    for name in ("DATABASE_URL", "BROKER_URL", "BIGWORLD_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_flag_beats_environment_beats_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bigworld.toml").write_text('port_base = 3000\ncontact = "a@b.c"\n')
    assert Config.read().port_base == 3000
    monkeypatch.setenv("BIGWORLD_PORT_BASE", "4000")
    assert Config.read().port_base == 4000
    config = Config.read(port_base=5000, contact=None)
    assert config.port_base == 5000
    assert config.contact == "a@b.c"


def test_named_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.toml").write_text('hosts = ["https://pds.example.com"]\n')
    monkeypatch.setenv("BIGWORLD_CONFIG", "other.toml")
    assert Config.read().hosts == ("https://pds.example.com",)
    monkeypatch.setenv("BIGWORLD_CONFIG", "absent.toml")
    with pytest.raises(ConfigError, match=r"no file absent\.toml"):
        Config.read()


def test_file_and_home_are_those_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bigworld.toml").write_text('home = "data"\n')
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert Config.read().home == tmp_path / "data"
    monkeypatch.setenv("BIGWORLD_HOME", "mine")
    assert Config.read().home == elsewhere / "mine"
    checkout = Path(__file__).resolve().parents[4]
    assert Config.model_fields["home"].default == checkout / "var"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("port_base = \n", r"bigworld\.toml is not valid TOML: .*line 1"),
        ("port_bas = 1\n", r"bigworld\.toml: .*port_bas; did you mean port_base"),
        ("port = 3000\n", r"port"),
        ("zzz = 1\n", r"no setting zzz; docs/reference/settings\.md"),
        ('port_base = "x"\n', r"^port_base: "),
    ],
)
def test_invalid_file_is_one_line_with_the_place(
    tmp_path: Path, content: str, complaint: str
) -> None:
    (tmp_path / "bigworld.toml").write_text(content)
    with pytest.raises(ConfigError, match=complaint) as refused:
        Config.read()
    assert "\n" not in str(refused.value)


def test_every_setting_is_read_somewhere() -> None:
    root = Path(__file__).resolve().parents[4]
    code = "".join(
        path.read_text()
        for path in (root / "service").rglob("*.py")
        if path != root / "service/runtime/config.py"
    )
    own = (root / "service/runtime/config.py").read_text()
    unread = {
        name
        for name in Config.model_fields
        if not re.search(rf"\b(config|_config)\.{name}\b", code)
        and not re.search(rf"\bself\.{name}\b", own.partition("def environment")[2])
    }
    assert unread == set()


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGWORLD_DIDS", "did:plc:abc, did:web:example.com,")
    assert Config.read().dids == ("did:plc:abc", "did:web:example.com")


def test_plc_rate_is_configurable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert crawl_settings(Config.read()).plc_rate == 50.0
    assert crawl_settings(Config.read(dev_network=True)).plc_rate == 1_000.0
    monkeypatch.setenv("BIGWORLD_PLC_REQUESTS_PER_S", "0.5")
    config = Config.read(dev_network=True)
    assert crawl_settings(config).plc_rate == 0.5

    async def wait() -> float:
        async with make_fetcher(config) as fetcher:
            make_resolver(config, fetcher)
            authority = fetcher.policy.parse(config.directory_url).authority
            async with fetcher.budgets.slot(authority):
                return fetcher.budgets._host(authority).bucket.wait_needed()

    assert asyncio.run(wait()) > 1.0
    monkeypatch.setenv("BIGWORLD_PLC_REQUESTS_PER_S", "0")
    with pytest.raises(ConfigError, match="plc_requests_per_s"):
        Config.read()


def test_database_url_is_read_without_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hush@db/x")
    config = Config.read()
    assert config.database_url is not None
    assert config.database_url.get_secret_value() == "postgresql://u:hush@db/x"
    assert "hush" not in repr(config)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BIGWORLD_PORT_BASE", "abc", "port_base"),
        ("BIGWORLD_PORT_BASE", "65535", "port_base"),
        ("BIGWORLD_ACCOUNT_CAP", "-1", "account_cap"),
        ("BIGWORLD_LOG_LEVEL", "loud", "log_level"),
        ("BIGWORLD_HOST", "https://x.org", "did you mean BIGWORLD_HOSTS"),
        ("BIGWORLD_HOSTS", "pds.example.com", "not an origin"),
        ("BIGWORLD_HOSTS", "https://a.example.com/path", "bare origin"),
        ("BIGWORLD_RELAYS", "http://relay.example.com", "must be https"),
        ("BIGWORLD_PLC_URL", "http://localhost:2581", "must be https"),
        ("BIGWORLD_DIDS", "did:key:zabc", "not a did:plc or did:web"),
        ("BIGWORLD_TRUSTED_VERIFIERS", "bsky.app", "trusted_verifiers: 'bsky.app'"),
        ("BIGWORLD_LIVE_NOW", "did:plc:x", "is not DID=domain"),
        ("BIGWORLD_AGE_ASSURANCE", "absent.json", r"age_assurance: .*absent\.json"),
    ],
)
def test_refusals_name_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        Config.read()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"hosts": ("https://127.0.0.1",)}, "not a public host name"),
        ({"hosts": ("https://localhost",)}, "not a public host name"),
        ({"hosts": ("https://pds.example.com:8443",)}, "port"),
        ({"dids": ("did:plc:a b",)}, "not a DID"),
    ],
)
def test_check_targets_refuses_invalid_targets(
    flags: dict[str, tuple[str, ...]], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check_targets(Config.read(**flags))


def test_check_targets_accepts_public_hosts() -> None:
    check_targets(
        Config.read(
            hosts=("https://pds.example.com",),
            relays=("https://relay.example.com/",),
            dids=("did:web:example.com", "did:plc:z72i7hdynmk6r22z27h6tvur"),
        )
    )


def test_plain_http_only_in_a_development_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BIGWORLD_DEV_NETWORK", "true")
    monkeypatch.setenv("BIGWORLD_HOSTS", "http://127.0.0.1:2582")
    config = Config.read()
    assert config.hosts == ("http://127.0.0.1:2582",)
    assert config.directory_url == "http://localhost:2581"


def test_default_directory_is_public() -> None:
    assert Config.read().directory_url == "https://plc.directory"
    assert Config.read().dev_network is False
    assert Config.read().account_cap == 1_000


def test_provider_did_carries_the_port() -> None:
    assert Config.read(port_base=4000).provider_did == "did:web:localhost%3A4000"
    config = Config.read(public_url="https://index.example.com")
    assert config.provider_did == "did:web:index.example.com"


def test_environment_gives_children_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = Config.read(
        port_base=4100,
        hosts=("https://a.example.com", "https://b.example.com"),
        database_url="postgresql://x@/y",
        dev_network=True,
    )
    monkeypatch.setenv("DATABASE_URL", "postgresql://of/the-shell")
    for name, value in parent.environment().items():
        monkeypatch.setenv(name, value)
    assert Config.read() == parent


def test_secrets_are_generated_once_and_private(tmp_path: Path) -> None:
    store = SecretStore(tmp_path)
    key = store.key("cursor")
    assert len(key) == 32
    assert SecretStore(tmp_path).key("cursor") == key
    assert store.key("other") != key
    path = tmp_path / "secrets" / "cursor"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_concurrent_processes_agree_on_a_secret(tmp_path: Path) -> None:
    found: list[bytes] = []
    gate = threading.Barrier(8)

    def read(number: int) -> None:
        gate.wait()
        for name in range(20):
            found.append(name.to_bytes() + SecretStore(tmp_path).key(f"k{name}"))

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 160
    assert len(set(found)) == 20


def test_damaged_secret_is_refused(tmp_path: Path) -> None:
    SecretStore(tmp_path).key("cursor")
    (tmp_path / "secrets" / "cursor").write_text("short\n")
    with pytest.raises(ConfigError, match="damaged"):
        SecretStore(tmp_path).key("cursor")


def test_admin_password(tmp_path: Path) -> None:
    made = admin_password(Config.read(home=tmp_path))
    assert len(made) >= 20
    assert admin_password(Config.read(home=tmp_path)) == made
    config = Config.read(home=tmp_path, admin_password="chosen")
    assert admin_password(config) == "chosen"
