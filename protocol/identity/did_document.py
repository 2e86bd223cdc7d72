"""DID documents: the keys, handles and services of an account (specs/did).

Reads decoded JSON. A malformed part counts as absent: an account with a broken label
key still has its repo key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.errors import InvalidSyntaxError, LimitExceededError
from protocol.identity.keys import Curve, parse_legacy_multibase, parse_multikey
from protocol.syntax import Did, Handle, normalize_handle

SIGNING_KEY: Final = "#atproto"
LABEL_KEY: Final = "#atproto_label"
PDS_SERVICE: Final = "#atproto_pds"
PDS_TYPE: Final = "AtprotoPersonalDataServer"
LABELER_SERVICE: Final = "#atproto_labeler"

MULTIKEY_TYPE: Final = "Multikey"
LEGACY_KEY_TYPES: Final[Mapping[str, Curve]] = {
    "EcdsaSecp256k1VerificationKey2019": "k256",
    "EcdsaSecp256r1VerificationKey2019": "p256",
}

# The PLC directory allows 10 of each; hand-written did:web documents may hold more.
MAX_ENTRIES: Final = 100
MAX_ENTRY_TEXT: Final = 2_304
MAX_ENDPOINT: Final = 2_048

# Stricter than urlsplit: userinfo, backslashes, control characters and non-ASCII hosts
# do not match.
_URL: Final = re.compile(
    r"([Hh][Tt][Tt][Pp][Ss]?)://([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?(/[!-~]*)?"
)
_HOST: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_DEV_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_FORBIDDEN_IN_PATH: Final = frozenset('?#\\"<>^`{|}@')
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Service:
    """An entry of `service`; `id` is the fragment with its '#'."""

    id: str
    type: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class DidDocument:
    """The parts of a DID document that the protocol reads; None is absent or unusable.

    `handles` are lower-case claims, in order, valid only once resolved back to `did`.
    Keys are did:key texts; `pds` is an origin.
    """

    did: Did
    handles: tuple[Handle, ...]
    signing_key: str | None
    label_key: str | None
    pds: str | None
    services: tuple[Service, ...]

    def service(self, fragment: str, type_: str | None = None) -> Service | None:
        """Return the first service with an id (`#name` or `name`) and, if given, a
        type.
        """
        wanted = "#" + fragment.removeprefix("#")
        for service in self.services:
            if service.id == wanted and type_ in (None, service.type):
                return service
        return None


def parse_did_document(document: object, did: Did, *, dev: bool = False) -> DidDocument:
    """Read the JSON value `document` as the document of `did` (specs/did).

    Verifies the id, that keys are points of a supported curve controlled by the DID,
    and the form of endpoints. Does not verify the source, the handles or that hosts
    exist.

    `dev` allows http endpoints, and hosts that are addresses or localhost. Raises
    InvalidSyntaxError if this is no document of `did`, LimitExceededError for long
    lists.
    """
    if not isinstance(document, Mapping):
        raise InvalidSyntaxError("DID document is not an object")
    if document.get("id") != did:
        raise InvalidSyntaxError("DID document is for another DID")
    methods = tuple(_objects(document, "verificationMethod"))
    services = _services(document, did, dev)
    pds = services.get((PDS_SERVICE, PDS_TYPE))
    return DidDocument(
        did=did,
        handles=tuple(_handles(document)),
        signing_key=_key(methods, did, SIGNING_KEY),
        label_key=_key(methods, did, LABEL_KEY),
        pds=parse_origin(pds, dev=dev) if pds else None,
        services=tuple(
            Service(name, kind, endpoint)
            for (name, kind), endpoint in services.items()
            if endpoint
        ),
    )


def parse_origin(text: str, *, dev: bool = False) -> str | None:
    """Return `scheme://host[:port]` of a URL without any other part, else None.

    The origin is lower case and without the default port; one trailing slash is
    ignored.
    """
    parts = _split_url(text, dev)
    return parts[0] if parts is not None and not parts[1] else None


def _split_url(text: str, dev: bool) -> tuple[str, str] | None:
    """Return the origin and path of an http(s) URL; the path '/' becomes ''."""
    if len(text) > MAX_ENDPOINT:
        return None
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme, host = match[1].lower(), match[2].lower()
    port = int(match[3]) if match[3] else _DEFAULT_PORTS[scheme]
    path = match[4] or ""
    if scheme != "https" and not dev:
        return None
    if len(host) > 253 or not (_DEV_HOST if dev else _HOST).fullmatch(host):
        return None
    if not 0 < port <= 65_535 or not _FORBIDDEN_IN_PATH.isdisjoint(path):
        return None
    shown_port = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
    return f"{scheme}://{host}{shown_port}", "" if path == "/" else path


def _objects(
    document: Mapping[str, object], name: str
) -> Iterator[Mapping[str, object]]:
    for entry in _list(document, name):
        if isinstance(entry, Mapping):
            yield entry


def _list(document: Mapping[str, object], name: str) -> list[object]:
    value = document.get(name)
    if not isinstance(value, list):
        return []
    if len(value) > MAX_ENTRIES:
        raise LimitExceededError(f"DID document has over {MAX_ENTRIES} of {name}")
    return value


def _text(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or len(value) > MAX_ENTRY_TEXT:
        return ""
    return value


def _fragment(entry: Mapping[str, object], did: Did) -> str:
    """Return the '#name' of an entry's relative or absolute id, else ''."""
    name = _text(entry, "id").removeprefix(did)
    return name if name.startswith("#") else ""


def _handles(document: Mapping[str, object]) -> Iterator[Handle]:
    seen = set()
    for entry in _list(document, "alsoKnownAs"):
        if not isinstance(entry, str) or not entry.startswith("at://"):
            continue
        try:
            handle = normalize_handle(entry.removeprefix("at://"))
        except InvalidSyntaxError:
            continue
        if handle not in seen:
            seen.add(handle)
            yield handle


def _key(
    methods: tuple[Mapping[str, object], ...], did: Did, fragment: str
) -> str | None:
    """Return the first valid key of that name, as did:key."""
    for method in methods:
        if _fragment(method, did) != fragment or method.get("controller") != did:
            continue
        kind = _text(method, "type")
        text = _text(method, "publicKeyMultibase")
        try:
            if kind == MULTIKEY_TYPE:
                return parse_multikey(text).did_key
            # Some did:web documents and the reference PLC directory use legacy forms.
            if kind in LEGACY_KEY_TYPES:
                return parse_legacy_multibase(LEGACY_KEY_TYPES[kind], text).did_key
        except InvalidSyntaxError:
            continue
    return None


def _services(
    document: Mapping[str, object], did: Did, dev: bool
) -> dict[tuple[str, str], str]:
    """Return (id, type) -> endpoint of the first of its kind, '' if unusable."""
    services: dict[tuple[str, str], str] = {}
    for entry in _objects(document, "service"):
        name, kind = _fragment(entry, did), _text(entry, "type")
        if name and kind:
            parts = _split_url(_text(entry, "serviceEndpoint"), dev)
            endpoint = parts[0] + parts[1] if parts else ""
            services.setdefault((name, kind), endpoint)
    return services
