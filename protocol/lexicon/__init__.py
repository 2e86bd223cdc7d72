"""Lexicons: schemas of records and methods, compiled to checks (specs/lexicon)."""

from __future__ import annotations

from protocol.lexicon.catalog import Catalog
from protocol.lexicon.documents import Schema
from protocol.lexicon.methods import Method

__all__ = ["Catalog", "Method", "Schema"]
