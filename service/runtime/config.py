"""All settings, read once from the environment and `bigworld.toml`, then frozen.

Order: command-line flags (passed in), environment, file, default. A setting `x` is
`BIGWORLD_X` in the environment and `x` in the file; the URLs of servers of your own
are also read under their common names (`DATABASE_URL`, `BROKER_URL`).
Every field stands in docs/configuration.md.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from crawler.settings import CrawlSettings
from network.server.client_address import LOOPBACK, check_networks
from network.server.request_guard import GuardPolicy
from protocol.syntax import is_did
from service.operator_errors import ConfigError
from service.runtime.url_pattern import check_pattern
from storage.repos.scope_rows import ScopeKind, check_keep

_CRAWL = CrawlSettings()
GUARD = GuardPolicy()
PREFIX = "BIGWORLD_"
_FILE_VARIABLE = "BIGWORLD_CONFIG"
_DEFAULT_FILE = "bigworld.toml"
CHECKOUT = Path(__file__).resolve().parents[2]
"""Where `bigworld.toml` and the default home are, whatever the current directory."""
PUBLIC_PLC = "https://plc.directory"
# The directory of the demo network is ours and on loopback.
_DEMO_PLC_RATE = 1_000.0


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _or_plain(field: str) -> AliasChoices:
    """BIGWORLD_<FIELD> first: `up` says so what each child gets. Then <FIELD>, which
    is also the name in the file and in the code."""
    return AliasChoices(f"{PREFIX}{field.upper()}", field)


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class _FileSettings(TomlConfigSettingsSource):
    """The settings of the file, its relative paths relative to the file."""

    def __call__(self) -> dict[str, Any]:
        settings = super().__call__()
        file, home = _config_file(), settings.get("home")
        if file is not None and isinstance(home, str):
            settings["home"] = str(file.absolute().parent / Path(home).expanduser())
        return settings


class Config(BaseSettings):
    """The settings of one process. `Config.read()` is the way to make one."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        validate_default=True,
        populate_by_name=True,
    )

    home: Path = Field(
        CHECKOUT / "var",
        description="Folder of all data, secrets and sockets. A relative path is "
        "relative to the current directory, in `bigworld.toml` to that file.",
    )
    port_base: int = Field(
        2580,
        ge=1,
        le=65532,
        description="Port of the provider; PLC, PDS A and PDS B take the next three.",
    )
    bind: str = Field("127.0.0.1", description="Address that the servers listen on.")
    public_url: str | None = Field(
        None,
        description="Origin under which others reach the provider; its host names the "
        "provider's did:web. Default: http://localhost:PORT_BASE.",
    )
    cdn_url_pattern: str | None = Field(
        None,
        description="URLs of images in views, with {preset}, {did} and {cid}. Default: "
        "getBlob of the account's host; pages fetch images themselves.",
    )
    video_url_pattern: str | None = Field(
        None,
        description="URLs of videos in views, with {did}, {cid} and {file}, which is "
        "playlist.m3u8 or thumbnail.jpg. Default: getBlob of the account's host.",
    )
    image_cache_mb: int = Field(
        500,
        ge=10,
        description="Megabytes of images that the pages keep on disk.",
    )
    audiences: Names = Field(
        (),
        description="More names (DID or DID#service) that a service token may carry "
        "as its audience, besides the provider's own.",
    )
    token_use: Literal["jti", "once", "many"] = Field(
        "jti",
        description="How often a service token is accepted: once if it has a jti, "
        "`once` in any case, or as often as it is sent until it expires (`many`).",
    )
    dev_network: bool = Field(
        False,
        description="Development only, and said loudly at start: hosts may be loopback "
        "and plain http, and .test handles are resolved at a PDS. `up` sets it "
        "when it runs its own demo network.",
    )
    pds_public_url: str | None = Field(
        None,
        description="Origin (https) under which others reach the PDS `pds a`. Needed "
        "outside a development network.",
    )
    pds_handle_domains: Names = Field(
        (),
        description="Domains under which that PDS gives handles: each needs a wildcard "
        "DNS record and certificate. Needed outside a development network.",
    )
    pds_invite_required: bool = Field(
        True,
        description="A sign-up at that PDS must bring the invite code in "
        "$BIGWORLD_HOME/secrets/pds-a-invite. A development network asks for none.",
    )
    plc_url: str | None = Field(
        None,
        description="The PLC directory. Default: https://plc.directory, or the "
        "embedded one in a development network.",
    )
    plc_requests_per_s: float | None = Field(
        None,
        gt=0,
        description="Requests per second that each process which looks identities up "
        "(crawl, worker, provider) sends to the PLC directory. Default: 50, or 1000 in "
        "a development network.",
    )
    plc_mirror: bool = Field(
        False,
        description="Answer look-ups from a proven copy of the PLC directory, which "
        "`plc --mirror` keeps in the index database. `up` runs it then.",
    )
    plc_mirror_rate: float = Field(
        1.5,
        gt=0,
        description="Requests per second that the mirror sends to the directory.",
    )
    relays: Names = Field(
        (), description="Relays (origins) that are trusted to forward commits."
    )
    hosts: Names = Field((), description="PDS hosts (origins) to crawl and follow.")
    dids: Names = Field(
        (), description="Single accounts (DIDs) to index, or whose follows to index."
    )
    scope: Literal["dids", "follows", "collection", "network"] | None = Field(
        None,
        description="What to index: `dids`, those and whom they follow (`follows`), "
        "who has a record of `collections` (`collection`), or the whole `network`. "
        "Default: `dids` where some are named, else `network`.",
    )
    collections: Names = Field(
        (), description="Collections (NSIDs) of the scope `collection`."
    )
    keep: Names = Field(
        (),
        description="Of each repo only these collections (NSIDs) are fetched and kept. "
        "Default: all of it.",
    )
    account_cap: int = Field(
        1_000,
        ge=0,
        description="Accounts that may be taken into the index; 0 means no cap.",
    )
    audit_per_hour: float = Field(
        120.0,
        ge=0,
        description="Repos an hour, drawn at random, that are held against what was "
        "signed and against their hosts, for ever; 0 for none.",
    )
    host_requests_per_s: float = Field(
        5.0, gt=0, description="Requests per second sent to one foreign host."
    )
    host_concurrency: int = Field(
        2, ge=1, description="Requests open at once to one foreign host."
    )
    host_accounts_first_day: int = Field(
        _CRAWL.host_accounts_first_day,
        ge=1,
        description="New accounts taken from a host on the day that we first see it; "
        "twice as many each day after.",
    )
    host_accounts_per_day: int = Field(
        _CRAWL.host_accounts_per_day,
        ge=1,
        description="New accounts a day taken from one host at most.",
    )
    host_events_per_s: float = Field(
        _CRAWL.host_events_per_s,
        gt=0,
        description="Events a second read from one host's stream.",
    )
    host_bytes_per_s: float = Field(
        _CRAWL.host_bytes_per_s,
        gt=0,
        description="Bytes a second read from one host's stream.",
    )
    account_commits_per_s: float = Field(
        _CRAWL.account_commits_per_s,
        gt=0,
        description="Commits a second followed of one account, over a minute or two; "
        "one that writes more is fetched once it is calm.",
    )
    streams_at_once: int = Field(
        _CRAWL.streams_at_once,
        ge=1,
        description="Streams that may be open; other hosts are polled.",
    )
    poll_interval_s: float = Field(
        _CRAWL.poll_interval,
        gt=0,
        description="Seconds between two polls of a quiet host; up to four times as "
        "many while nothing changes there.",
    )
    shards: int = Field(
        1, ge=1, le=256, description="Shards of the live ingest, by hash of the DID."
    )
    event_log: bool = Field(
        False,
        description="Keep what was verified as a stream for others: subscribeRepos and "
        "Jetstream of the provider read it. `up` sets it for its own demo network.",
    )
    event_log_hours: float = Field(
        72.0, gt=0, description="Events are kept for so many hours."
    )
    event_log_mb: int = Field(
        10_000, ge=1, description="And never more of them than so many megabytes."
    )
    worker_threads: int = Field(
        8, ge=1, le=256, description="Threads of the Celery worker."
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias=_or_plain("database_url"),
        description="The index database on a PostgreSQL of your own (17 or newer). "
        "Default: the embedded server.",
    )
    broker_url: SecretStr | None = Field(
        None,
        validation_alias=_or_plain("broker_url"),
        description="A Redis or Valkey of your own, for Celery. Default: embedded.",
    )
    migrate: bool = Field(
        True,
        description="Bring the database to the newest version when a process starts. "
        "`up` does it once, before its children.",
    )
    machine_postgres: bool = Field(
        False,
        description="Run the PostgreSQL binaries installed on this machine instead of "
        "the wheel's.",
    )
    trusted_proxies: Names = Field(
        LOOPBACK,
        description="Addresses or networks of reverse proxies whose X-Forwarded-For "
        "is believed: its last address that is not theirs is the client.",
    )
    trusted_pdses: Names = Field(
        LOOPBACK,
        description="Addresses or networks of PDSes that ask in the name of many "
        "users: 30 times the share of one client for what they ask without a token.",
    )
    client_requests_per_s: float = Field(
        GUARD.rate,
        gt=0,
        description="Requests per second answered to one client: an account, or "
        "without a valid token an address.",
    )
    client_burst: int = Field(
        GUARD.burst,
        ge=1,
        description="Requests that a client may send at once before that rate counts.",
    )
    client_sockets: int = Field(
        GUARD.sockets, ge=1, description="WebSockets that one client may keep open."
    )
    admin_password: SecretStr | None = Field(
        None,
        description="Password of the user `admin`, for /metrics and /status.json. "
        "Default: made once and kept in $BIGWORLD_HOME/secrets.",
    )
    contact: str | None = Field(
        None,
        description="How the operators of foreign hosts can reach you (a URL or mail "
        "address); part of the User-Agent. Needed to crawl the real network.",
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="Log lines for people, or one JSON object a line."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe level that is logged."
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of /metrics in `crawl`, `worker` and `serve`; 0 means none. "
        "`serve` has it on its own port too, behind the admin password.",
    )

    @field_validator("home")
    @classmethod
    def _make_absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for name in ("public_url", "pds_public_url", "plc_url"):
            value = getattr(self, name)
            if value is not None:
                _check_origin(name, value, self.dev_network)
        for name in ("relays", "hosts"):
            for value in getattr(self, name):
                _check_origin(name, value, self.dev_network)
        check_pattern("cdn_url_pattern", self.cdn_url_pattern, ("preset",))
        check_pattern("video_url_pattern", self.video_url_pattern, ("file",))
        for name in ("trusted_proxies", "trusted_pdses"):
            check_networks(name, getattr(self, name))
        for did in self.dids:
            if not did.startswith(("did:plc:", "did:web:")):
                raise ValueError(f"dids: {did!r} is not a did:plc or did:web")
        for name in self.audiences:
            did, mark, fragment = name.partition("#")
            if not is_did(did) or (mark and not fragment):
                raise ValueError(f"audiences: {name!r} is no DID or DID#service")
        if self.scope in ("dids", "follows") and not self.dids:
            raise ValueError(f"scope {self.scope} needs dids")
        if (self.scope == "collection") != bool(self.collections):
            raise ValueError("scope collection and collections go together")
        kind = ScopeKind(self.scope or ("dids" if self.dids else "network"))
        check_keep(kind, self.collections, self.keep)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            env_settings,
            _FileSettings(settings_cls, toml_file=_config_file()),
        )

    @classmethod
    def read(cls, **flags: Any) -> Config:
        """The settings of this process; `flags` that are None are not given.

        Raises ConfigError naming the setting and what is wrong with it.
        """
        _refuse_unknown(os.environ)
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigError(_describe(error.errors()[0])) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{_config_file()} is not valid TOML: {error}") from None

    def environment(self) -> dict[str, str]:
        """The settings that are not defaults, as variables for a child process."""
        variables = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif isinstance(value, tuple):
                value = ",".join(value)
            variables[f"{PREFIX}{name.upper()}"] = str(value)
        return variables

    @property
    def provider_port(self) -> int:
        return self.port_base

    @property
    def plc_port(self) -> int:
        return self.port_base + 1

    def pds_port(self, letter: str) -> int:
        """The port of the embedded PDS `a` or `b`."""
        return self.port_base + 2 + "ab".index(letter)

    def pds_url(self, letter: str) -> str:
        """The origin of the embedded PDS `a` or `b`."""
        return f"http://localhost:{self.pds_port(letter)}"

    @property
    def provider_url(self) -> str:
        return (self.public_url or f"http://localhost:{self.port_base}").rstrip("/")

    @property
    def provider_did(self) -> str:
        """The provider's did:web, made of its public host and port."""
        return "did:web:" + urlsplit(self.provider_url).netloc.replace(":", "%3A")

    @property
    def directory_url(self) -> str:
        """The PLC directory in use."""
        if self.plc_url is not None:
            return self.plc_url.rstrip("/")
        return f"http://localhost:{self.plc_port}" if self.dev_network else PUBLIC_PLC

    @property
    def plc_rate(self) -> float:
        """Requests a second that this process sends to the PLC directory."""
        if self.plc_requests_per_s is not None:
            return self.plc_requests_per_s
        return _DEMO_PLC_RATE if self.dev_network else _CRAWL.plc_rate

    @property
    def guard_policy(self) -> GuardPolicy:
        """The shares of the clients of our servers."""
        return GuardPolicy(
            rate=self.client_requests_per_s,
            burst=self.client_burst,
            sockets=self.client_sockets,
            trusted_proxies=self.trusted_proxies,
            trusted_clients=self.trusted_pdses,
        )

    @property
    def user_agent(self) -> str:
        """What foreign hosts see of us."""
        return f"Bigworld/0.1 (+{self.contact})" if self.contact else "Bigworld/0.1"


def _config_file() -> Path | None:
    named = os.environ.get(_FILE_VARIABLE)
    if named is not None:
        if not Path(named).is_file():
            raise ConfigError(f"{_FILE_VARIABLE}: there is no file {named}")
        return Path(named)
    default = CHECKOUT / _DEFAULT_FILE
    return default if default.is_file() else None


def _describe(error: ErrorDetails) -> str:
    """Return what is wrong with which setting, where it stands, and what to do."""
    where = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{_config_file()}: there is no setting {where}{_hint(where, '')}"
    if not where:
        return message
    if where.isupper():
        # Read under its common name, as DATABASE_URL.
        return f"{where}: {message}"
    variable = f"{PREFIX}{where.upper()}"
    source = f" (from {variable})" if variable in os.environ else ""
    return f"{where}{source}: {message}"


def _check_origin(name: str, value: str, dev: bool) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{name}: {value!r} is not an origin such as https://host")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{name}: {value!r} must be a bare origin without a path")
    if parts.scheme == "http" and not dev:
        raise ValueError(
            f"{name}: {value!r} must be https; plain http is only for dev_network"
        )


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """A misspelt variable must not be passed over in silence."""
    known = {f"{PREFIX}{name.upper()}" for name in Config.model_fields}
    for name in environment:
        if name.startswith(PREFIX) and name not in known | {_FILE_VARIABLE}:
            hint = _hint(name.removeprefix(PREFIX).lower(), PREFIX)
            raise ConfigError(f"there is no setting {name}{hint}")


def _hint(name: str, prefix: str) -> str:
    close = difflib.get_close_matches(name, Config.model_fields, n=1, cutoff=0.6)
    if not close:
        return "; docs/configuration.md lists them all"
    known = f"{prefix}{close[0].upper()}" if prefix else close[0]
    return f"; did you mean {known}?"
