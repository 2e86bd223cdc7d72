"""The catalog of known lexicons and their compiled checks.

The official documents come with the `lexrpc` package, which serves no other purpose.
Those of our own methods are in `ours`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Final

import orjson

from protocol.data.cbor import Value
from protocol.errors import InvalidLexiconError, InvalidRecordError
from protocol.lexicon.compiler import Compiler
from protocol.lexicon.documents import (
    MAIN,
    METHOD_KINDS,
    Document,
    Schema,
    check_document,
    read_document,
)
from protocol.lexicon.methods import Method, compile_method
from protocol.syntax.nsid import Nsid, is_nsid
from protocol.syntax.record_key import is_record_key
from protocol.syntax.tid import is_tid

_SHIPPED_PACKAGE = "lexrpc"
_SHIPPED_FOLDER = "lexicons"
OUR_FOLDER: Final = Path(__file__).parent / "ours"
"""Lexicons of our own methods, one folder a part of the NSID."""


class Catalog:
    """Lexicons by NSID; thread-safe."""

    def __init__(self, documents: Iterable[Document] = ()) -> None:
        self._documents: dict[str, Document] = {}
        self._lock = Lock()
        for document in documents:
            self._documents[document.nsid] = document
        self._forget()

    @classmethod
    def load(cls, extra_dirs: Sequence[Path | str] = ()) -> Catalog:
        """Return the official lexicons and ours, overridden by every .json below
        `extra_dirs`.

        Raises InvalidLexiconError, with the path, for an invalid file.
        """
        documents = [
            _read(path, _read_shipped)
            for folder in (shipped_folder(), OUR_FOLDER)
            for path in _json_files(folder)
        ]
        for folder in extra_dirs:
            documents += [
                _read(path, read_document) for path in _json_files(Path(folder))
            ]
        return cls(documents)

    def add(self, raw: bytes) -> Document:
        """Add or replace an untrusted document; raise InvalidLexiconError.

        References are resolved on first use, so documents may be added in any order.
        """
        document = read_document(raw)
        with self._lock:
            self._documents[document.nsid] = document
            self._forget()
        return document

    def documents(self) -> Mapping[str, Document]:
        return self._documents

    def find_schema(self, name: str) -> Schema | None:
        """Return the definition of a full name, "nsid" or "nsid#name"."""
        nsid, _, fragment = name.partition("#")
        document = self._documents.get(nsid)
        if document is None:
            return None
        return document.definitions.get(fragment or MAIN)

    def has_record(self, nsid: str) -> bool:
        return self._main(nsid, {"record"}) is not None

    def records(self) -> list[Nsid]:
        """Return the NSIDs of all record types, sorted."""
        return [Nsid(nsid) for nsid in sorted(self._documents) if self.has_record(nsid)]

    def validate_record(
        self, nsid: str, value: Value, *, lenient: bool = False
    ) -> None:
        """Raise InvalidRecordError unless `value`, links as `Cid`, is a record of
        `nsid`.

        `lenient` is for published records: it accepts legacy blobs and any blob size
        and type. Raises InvalidLexiconError if the lexicon, or one that it refers to,
        is unknown.
        """
        if not self.has_record(nsid):
            raise InvalidLexiconError(f"{nsid[:80]} is not a known record type")
        if type(value) is not dict:
            raise InvalidRecordError("", "is not an object")
        if value.get("$type") != nsid:
            raise InvalidRecordError("$type", f"is not {nsid}")
        self.validate(nsid, value, lenient=lenient)

    def validate(self, name: str, value: Value, *, lenient: bool = False) -> None:
        """Raise InvalidRecordError unless `value` fits the definition `name`.

        `name` is "nsid" or "nsid#name"; `$type` is ignored. Raises as
        `validate_record`.
        """
        checks = self._lenient_checks if lenient else self._strict_checks
        check = checks.get(name)
        if check is None:
            with self._lock:
                compiler = self._lenient if lenient else self._strict
                check = checks[name] = compiler.definition(name)
        check(value)

    def is_key_of(self, nsid: str, rkey: str) -> bool:
        """Return True if `rkey` is of the kind that the record's lexicon requires.

        Unknown record types accept any record key.
        """
        if not is_record_key(rkey):
            return False
        schema = self._main(nsid, {"record"})
        kind = "any" if schema is None else schema["key"]
        if kind == "tid":
            return is_tid(rkey)
        if kind == "nsid":
            return is_nsid(rkey)
        return kind == "any" or rkey == kind.removeprefix("literal:")

    def method(self, nsid: str) -> Method | None:
        """Return the method of this NSID, or None.

        Raises InvalidLexiconError if it refers to an unknown definition.
        """
        method = self._methods.get(nsid)
        if method is None:
            schema = self._main(nsid, METHOD_KINDS)
            if schema is None:
                return None
            with self._lock:
                method = compile_method(Nsid(nsid), schema, self._strict)
                self._methods[nsid] = method
        return method

    def methods(self) -> list[Nsid]:
        """Return the NSIDs of all queries, procedures and subscriptions, sorted."""
        return [
            Nsid(nsid)
            for nsid in sorted(self._documents)
            if self._main(nsid, METHOD_KINDS) is not None
        ]

    def _main(self, nsid: str, kinds: Iterable[str]) -> Schema | None:
        document = self._documents.get(nsid)
        schema = None if document is None else document.definitions.get(MAIN)
        return schema if schema is not None and schema["type"] in kinds else None

    def _forget(self) -> None:
        self._strict = Compiler(self.find_schema, lenient=False)
        self._lenient = Compiler(self.find_schema, lenient=True)
        self._strict_checks: dict[str, Any] = {}
        self._lenient_checks: dict[str, Any] = {}
        self._methods: dict[str, Method] = {}


def shipped_folder() -> Path:
    """Return the folder of the official documents, without importing their package.

    Raises FileNotFoundError if the package is not installed.
    """
    spec = find_spec(_SHIPPED_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / _SHIPPED_FOLDER
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the {_SHIPPED_PACKAGE} package is not installed")


def _json_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.json"))


def _read_shipped(raw: bytes) -> Document:
    # Trusted, since it comes with an installed package.
    return check_document(orjson.loads(raw))


def _read(path: Path, read: Callable[[bytes], Document]) -> Document:
    try:
        return read(path.read_bytes())
    except InvalidLexiconError as error:
        raise InvalidLexiconError(f"{path}: {error}") from error
