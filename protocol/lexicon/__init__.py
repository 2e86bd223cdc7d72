"""Lexicons: schemas of records and methods, compiled to checks (specs/lexicon)."""

from __future__ import annotations

from protocol.lexicon.catalog import Catalog
from protocol.lexicon.documents import Document, Schema
from protocol.lexicon.methods import Body, Method, MethodError, Parameter

__all__ = [
    "Body",
    "Catalog",
    "Document",
    "Method",
    "MethodError",
    "Parameter",
    "Schema",
]
