"""Sets of IP address ranges, as operators keep them in files: data centres, known robots."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from typing import TYPE_CHECKING

from market.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class AddressRanges:
    """A set of IP address ranges."""

    def __init__(self, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None:
        """Takes the networks of both versions, in any order."""
        self._bounds: dict[int, tuple[list[int], list[int]]] = {}
        by_version: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for network in networks:
            by_version[network.version].append(
                (int(network.network_address), int(network.broadcast_address))
            )
        for version, ranges in by_version.items():
            merged: list[list[int]] = []
            for low, high in sorted(ranges):
                if merged and low <= merged[-1][1] + 1:
                    merged[-1][1] = max(merged[-1][1], high)
                else:
                    merged.append([low, high])
            self._bounds[version] = [low for low, _ in merged], [high for _, high in merged]

    def __contains__(self, address: str) -> bool:
        """Returns whether an address is in one of the ranges; what is no address is in none."""
        try:
            parsed = ipaddress.ip_address(address.strip())
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        lows, highs = self._bounds[parsed.version]
        place = bisect_right(lows, int(parsed)) - 1
        return place >= 0 and int(parsed) <= highs[place]


def read_address_ranges(path: Path) -> AddressRanges:
    """Returns the ranges in a file of CIDR blocks, one a line; ``#`` begins a comment.

    Raises:
        BadInput: the file cannot be read, or a line is no block; names which.
    """
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"address ranges {path.name}: {error}") from error
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError as error:
            raise BadInput(f"address ranges {path.name}, line {number}: {error}") from error
    return AddressRanges(networks)
