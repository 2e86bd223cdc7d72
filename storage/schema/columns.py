"""The kinds of columns that tables of the index are made of."""

from __future__ import annotations

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


def int4(name: str, *args: Any, **kwargs: Any) -> sa.Column[int]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Integer, *args, **kwargs)


def int8(name: str, *args: Any, **kwargs: Any) -> sa.Column[int]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.BigInteger, *args, **kwargs)


def text(name: str, *args: Any, **kwargs: Any) -> sa.Column[str]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Text, *args, **kwargs)


def octets(name: str, *args: Any, **kwargs: Any) -> sa.Column[bytes]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.LargeBinary, *args, **kwargs)


def flag(name: str, *args: Any, **kwargs: Any) -> sa.Column[bool]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Boolean, *args, **kwargs)


def time(name: str, *args: Any, **kwargs: Any) -> sa.Column[Any]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.DateTime(timezone=True), *args, **kwargs)


NOW: Final = sa.text("now()")
ZERO: Final = sa.text("0")


def one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)
