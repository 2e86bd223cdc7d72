"""Kinds of columns of the index tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "pk": "%(table_name)s_pkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def table(name: str, *items: Any, **options: Any) -> sa.Table:
    return sa.Table(name, metadata, *items, **options)


def _not_null(kind: Any) -> Callable[..., sa.Column[Any]]:
    def column(name: str, *args: Any, **options: Any) -> sa.Column[Any]:
        return sa.Column(name, kind, *args, **{"nullable": False, **options})

    return column


int2 = _not_null(sa.SmallInteger)
int4 = _not_null(sa.Integer)
int8 = _not_null(sa.BigInteger)
text = _not_null(sa.Text)
octets = _not_null(sa.LargeBinary)
flag = _not_null(sa.Boolean)
time = _not_null(sa.DateTime(timezone=True))

NOW: Final = sa.text("now()")
ZERO: Final = sa.text("0")


def one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)
