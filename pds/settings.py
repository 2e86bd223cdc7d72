"""The settings of one Personal Data Server."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from pds.mail import MailSettings

MIN_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class PdsSettings:
    """The settings of one server; the constructor refuses bad combinations.

    `public_url` is the public origin of this server (scheme, host, optional port).
    `handle_domains` are the suffixes of its handles (`.a.test`). `secret` derives the
    keys of session tokens, paging cursors and private keys at rest.

    `default_indexer` is `did#fragment`, the service for methods that this server does
    not have; `default_indexer_url` replaces the endpoint of its DID document.
    `moderation_service`, also `did#fragment`, has reports and tools.ozone.* methods.
    `cdn_url_pattern` makes URLs of images in the user's newest posts, with {preset},
    {did} and {cid}; None: getBlob of this server.

    `invite_code` is the operator's code, of any number of uses; with it, each sign-up
    needs a code. `admin_password` opens the methods of the operator, None closes them.

    `plc_bypass_key` lifts the limits by address of a directory of the same operator.

    `dev` allows loopback and http, and `.test` handles, which are resolved at
    `dev_pds_urls`. Sign-ups are counted by address; None means 100, and in development
    10,000. Logins are counted by address too. Times are in seconds, sizes in bytes.
    """

    public_url: str
    handle_domains: tuple[str, ...]
    plc_url: str
    secret: bytes
    default_indexer: str | None = None
    default_indexer_url: str | None = None
    moderation_service: str | None = None
    cdn_url_pattern: str | None = None
    indexer_urls: tuple[str, ...] = ()
    invite_code: str | None = None
    admin_password: str | None = None
    mail: MailSettings | None = None
    plc_bypass_key: str | None = None
    dev: bool = False
    dev_pds_urls: tuple[str, ...] = ()
    max_blob_bytes: int = 5 * 1024 * 1024
    max_account_blob_bytes: int = 1024 * 1024 * 1024
    max_import_bytes: int = 512 * 1024 * 1024
    blob_grace: float = 6 * 3600
    backfill_window: float = 72 * 3600
    crawl_notice_interval: float = 20 * 60
    access_lifetime: int = 2 * 3600
    refresh_lifetime: int = 90 * 24 * 3600
    proxy_audience_fragment: bool = False
    proxy_timeout: float = 30.0
    max_proxy_response_bytes: int = 10 * 1024 * 1024
    sign_ups_per_5_minutes: int | None = None
    logins_per_5_minutes: int = 100

    def __post_init__(self) -> None:
        parts = urlsplit(self.public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"public_url is not an http(s) URL: {self.public_url!r}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("public_url must be a bare origin")
        if parts.scheme == "http" and not self.dev:
            raise ValueError("public_url must be https outside development")
        if len(self.secret) < MIN_SECRET_BYTES:
            raise ValueError(f"secret must hold at least {MIN_SECRET_BYTES} bytes")
        if not self.handle_domains:
            raise ValueError("handle_domains must name at least one domain")
        if self.blob_grace < 3600:
            raise ValueError("blob_grace must be at least one hour (specs/blob)")
        for name in ("default_indexer", "moderation_service"):
            service = getattr(self, name)
            if service is not None and service.count("#") != 1:
                raise ValueError(f"{name} must be did#fragment")
        if self.default_indexer_url is not None and self.default_indexer is None:
            raise ValueError("default_indexer_url needs default_indexer")

    @property
    def sign_up_limit(self) -> int:
        """Return `sign_ups_per_5_minutes`, or its default."""
        if self.sign_ups_per_5_minutes is not None:
            return self.sign_ups_per_5_minutes
        return 10_000 if self.dev else 100

    @property
    def origin(self) -> str:
        """Return `public_url` without a trailing slash."""
        return self.public_url.rstrip("/")

    @property
    def host(self) -> str:
        """Return the host with its port when there is one, as for `requestCrawl`."""
        return urlsplit(self.public_url).netloc.lower()

    @property
    def service_did(self) -> str:
        """Return the server's own did:web."""
        return "did:web:" + self.host.replace(":", "%3A")

    @property
    def domains(self) -> tuple[str, ...]:
        """Return `handle_domains` in lower case, each with its leading dot."""
        return tuple("." + d.lower().strip(".") for d in self.handle_domains)
