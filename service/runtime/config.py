"""All settings, read once from the environment and `bigworld.toml`, then frozen.

Order: command-line flags, environment, file, default. A setting `x` is `BIGWORLD_X` in
the environment and `x` in the file. `DATABASE_URL` and `BROKER_URL` are also read
without the prefix. docs/reference/settings.md lists every field.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from crawler.settings import CrawlSettings
from network.server.admission import GuardPolicy
from network.server.client_address import check_networks
from protocol.syntax import is_did, is_plc_did
from service.operator_errors import ConfigError
from service.runtime.client_settings import live_domains, read_age_assurance
from service.runtime.crawl_fields import CrawlFields
from service.runtime.field_types import CHECKOUT, PREFIX
from service.runtime.server_fields import ServerFields
from service.runtime.url_pattern import check_pattern
from storage.repos.scope_rows import ScopeKind, check_keep

MAX_SUBSCRIBED = 19
"""Labelers besides this service: a request names at most 20."""
_FILE_VARIABLE = "BIGWORLD_CONFIG"
_DEFAULT_FILE = "bigworld.toml"
PUBLIC_PLC = "https://plc.directory"
_PLC_RATE = CrawlSettings().plc_rate
# The directory of the demo network is ours and on loopback.
_DEMO_PLC_RATE = 1_000.0


class _FileSettings(TomlConfigSettingsSource):
    """Settings of the file; a relative home starts at the file."""

    def __call__(self) -> dict[str, Any]:
        settings = super().__call__()
        file, home = _config_file(), settings.get("home")
        if file is not None and isinstance(home, str):
            settings["home"] = str(file.absolute().parent / Path(home).expanduser())
        return settings


class Config(CrawlFields, ServerFields):
    """Settings of one process. Make one with `Config.read()`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        validate_default=True,
        populate_by_name=True,
    )

    @field_validator("home")
    @classmethod
    def _make_absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("lexicons", "feeds")
    @classmethod
    def _make_folder_absolute(cls, folder: Path | None) -> Path | None:
        return None if folder is None else folder.expanduser().absolute()

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for name in ("public_url", "pds_public_url", "plc_url"):
            value = getattr(self, name)
            if value is not None:
                _check_origin(name, value, self.dev_network)
        for name in ("relays", "hosts"):
            for value in getattr(self, name):
                _check_origin(name, value, self.dev_network)
        for name in ("privacy_policy_url", "terms_url"):
            value = getattr(self, name)
            if value is not None and not value.startswith(("https://", "http://")):
                raise ValueError(f"{name}: {value!r} is not an http(s) URL")
        check_pattern("cdn_url_pattern", self.cdn_url_pattern, ("preset",))
        check_pattern("video_url_pattern", self.video_url_pattern, ("file",))
        for name in ("trusted_proxies", "trusted_pdses"):
            check_networks(name, getattr(self, name))
        for did in self.labelers:
            if not did.startswith(("did:plc:", "did:web:")) or not is_did(did):
                raise ValueError(f"labelers: {did!r} is not a did:plc or did:web")
        if len(self.labelers) > MAX_SUBSCRIBED:
            raise ValueError(f"labelers: at most {MAX_SUBSCRIBED} are subscribed to")
        for did in self.dids:
            if not did.startswith(("did:plc:", "did:web:")):
                raise ValueError(f"dids: {did!r} is not a did:plc or did:web")
        if self.service_did is not None and not is_plc_did(self.service_did):
            raise ValueError(f"service_did: {self.service_did!r} is not a did:plc")
        for name in self.audiences:
            did, mark, fragment = name.partition("#")
            if not is_did(did) or (mark and not fragment):
                raise ValueError(f"audiences: {name!r} is not a DID or DID#service")
        for name in self.trusted_verifiers:
            if not is_did(name):
                raise ValueError(f"trusted_verifiers: {name!r} is not a DID")
        read_age_assurance(self.age_assurance)
        live_domains(self.live_now)
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
        """Read the settings of this process; `flags` that are None are ignored.

        Raises ConfigError with the setting and the fault.
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
        """Return the settings that are not defaults, as environment variables."""
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
        """Return the port of the embedded PDS `a` or `b`."""
        return self.port_base + 2 + "ab".index(letter)

    def pds_url(self, letter: str) -> str:
        """Return the origin of the embedded PDS `a` or `b`."""
        return f"http://localhost:{self.pds_port(letter)}"

    @property
    def provider_url(self) -> str:
        return (self.public_url or f"http://localhost:{self.port_base}").rstrip("/")

    @property
    def provider_did(self) -> str:
        """Return the provider's DID: `service_did`, else its did:web."""
        return self.service_did or self.web_did

    @property
    def web_did(self) -> str:
        """Return the did:web made of the provider's public host and port."""
        return "did:web:" + urlsplit(self.provider_url).netloc.replace(":", "%3A")

    @property
    def subscribed_labelers(self) -> tuple[str, ...]:
        """Return the labelers besides this service, each once."""
        return tuple(d for d in dict.fromkeys(self.labelers) if d != self.provider_did)

    @property
    def directory_url(self) -> str:
        """Return the URL of the PLC directory."""
        if self.plc_url is not None:
            return self.plc_url.rstrip("/")
        return f"http://localhost:{self.plc_port}" if self.dev_network else PUBLIC_PLC

    @property
    def plc_rate(self) -> float:
        """Return the requests per second to the PLC directory."""
        if self.plc_requests_per_s is not None:
            return self.plc_requests_per_s
        return _DEMO_PLC_RATE if self.dev_network else _PLC_RATE

    @property
    def keeps_record_json(self) -> bool:
        """Return True if the drain keeps records as JSON."""
        return self.dev_network if self.sql_records is None else self.sql_records

    @property
    def serve_process_count(self) -> int:
        """Return the number of processes of `serve`."""
        return self.serve_processes or len(os.sched_getaffinity(0))

    @property
    def guard_policy(self) -> GuardPolicy:
        """Return the limits of clients of our servers."""
        return GuardPolicy(
            rate=self.client_requests_per_s,
            burst=self.client_burst,
            sockets=self.client_sockets,
            trusted_proxies=self.trusted_proxies,
            trusted_clients=self.trusted_pdses,
        )

    @property
    def user_agent(self) -> str:
        """Return the User-Agent of requests to foreign hosts."""
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
    """Return the setting, its source, and the fault."""
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
    """Raise ConfigError for a misspelt variable."""
    known = {f"{PREFIX}{name.upper()}" for name in Config.model_fields}
    for name in environment:
        if name.startswith(PREFIX) and name not in known | {_FILE_VARIABLE}:
            hint = _hint(name.removeprefix(PREFIX).lower(), PREFIX)
            raise ConfigError(f"there is no setting {name}{hint}")


def _hint(name: str, prefix: str) -> str:
    close = difflib.get_close_matches(name, Config.model_fields, n=1, cutoff=0.6)
    if not close:
        return "; docs/reference/settings.md lists them all"
    known = f"{prefix}{close[0].upper()}" if prefix else close[0]
    return f"; did you mean {known}?"
