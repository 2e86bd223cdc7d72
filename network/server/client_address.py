"""Addresses of clients: the networks of a setting, and the key that a client has."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final, TypeAlias

LOOPBACK: Final = ("127.0.0.0/8", "::1/128")

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_address(text: str) -> Address | None:
    """Return an IP address, IPv4 also where it is mapped into IPv6; None for others."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def address_key(address: Address) -> str:
    """Return the key of an address; a household's 2**64 addresses are one client."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def parse_networks(texts: Sequence[str]) -> list[Network]:
    """Parse addresses and networks. Raises ValueError."""
    return [ipaddress.ip_network(text) for text in texts]


def is_in(address: Address, networks: Sequence[Network]) -> bool:
    """Return True if one of the networks holds the address."""
    return any(address in network for network in networks)


def check_networks(name: str, texts: Sequence[str]) -> None:
    """Check the networks of a setting. Raises ValueError naming it and the value."""
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise ValueError(
                f"{name}: {text!r} is not an address or network such as 10.0.0.0/8"
            ) from None
