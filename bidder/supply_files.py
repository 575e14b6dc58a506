"""The operator's files on supply: ads.txt, app-ads.txt, sellers.json, crawlers, address ranges.

Somebody else crawls them; they are read once, when a process starts, and nothing is fetched on the
path. A folder may hold any of

    ads.txt/news.example.txt        what https://news.example/ads.txt says
    app-ads.txt/maker.example.txt   the same of an app's developer
    sellers.json/exchange.example.json
    crawlers.txt                    pieces of user agents, one a line
    non_human.txt                   address ranges (CIDR), one a line
    datacentres.txt                 the same

Sources: IAB Tech Lab, ads.txt 1.1 (2022), app-ads.txt 1.0 (2019), sellers.json 1.0 (2019).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from market.addresses import AddressRanges
from market.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RELATIONS = ("DIRECT", "RESELLER")
SELLER_TYPES = ("PUBLISHER", "INTERMEDIARY", "BOTH")
_KNOWN = (
    "ads.txt", "app-ads.txt", "sellers.json", "crawlers.txt", "non_human.txt", "datacentres.txt",
)  # fmt: skip


class SellersList(NamedTuple):
    """One ads.txt or app-ads.txt.

    Attributes:
        relations: (ad system, account) -> DIRECT or RESELLER; nothing else may sell.
        owners: OWNERDOMAIN and MANAGERDOMAIN, the businesses behind the inventory.
        partners: INVENTORYPARTNERDOMAIN, whose own file also authorises sellers.
    """

    relations: dict[tuple[str, str], str]
    owners: frozenset[str]
    partners: frozenset[str]


class Seller(NamedTuple):
    """One entry of a sellers.json: PUBLISHER, INTERMEDIARY or BOTH, and its domain ("" unsaid)."""

    seller_type: str
    domain: str


class SupplyFiles(NamedTuple):
    """Everything that was in the folder; files by domain, in lower case."""

    ads_txt: dict[str, SellersList]
    app_ads_txt: dict[str, SellersList]
    sellers_json: dict[str, dict[str, Seller]]
    crawlers: tuple[str, ...]
    non_human: AddressRanges
    datacentres: AddressRanges


NO_FILES = SupplyFiles({}, {}, {}, (), AddressRanges(()), AddressRanges(()))


class _SellerEntry(msgspec.Struct, frozen=True):
    seller_id: str | int
    seller_type: str
    domain: str | None = None
    is_confidential: int | None = None


class _SellersJson(msgspec.Struct, frozen=True):
    sellers: list[_SellerEntry]


def read_supply_files(folder: Path) -> SupplyFiles:
    """Returns what ``folder`` holds.

    Raises:
        BadInput: it is no folder, holds something unknown, or a file cannot be read; names which.
    """
    if not folder.is_dir():
        raise BadInput(f"supply folder {folder.name}: it is missing or no folder; create it")
    for entry in sorted(folder.iterdir()):
        if entry.name not in _KNOWN:
            raise BadInput(
                f"supply folder {folder.name}: '{entry.name}' is not known; it may hold "
                f"{', '.join(_KNOWN)}"
            )
    return SupplyFiles(
        ads_txt={
            domain: sellers_list(_text(path)) for domain, path in _files(folder / "ads.txt", ".txt")
        },
        app_ads_txt={
            domain: sellers_list(_text(path))
            for domain, path in _files(folder / "app-ads.txt", ".txt")
        },
        sellers_json={
            domain: _sellers(path) for domain, path in _files(folder / "sellers.json", ".json")
        },
        crawlers=tuple(line.lower() for _, line in _lines(folder / "crawlers.txt")),
        non_human=_ranges(folder / "non_human.txt"),
        datacentres=_ranges(folder / "datacentres.txt"),
    )


def sellers_list(text: str) -> SellersList:
    """Returns what an ads.txt says; a line that is no record is ignored, as the standard asks."""
    relations: dict[tuple[str, str], str] = {}
    owners: set[str] = set()
    partners: set[str] = set()
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].split(";", 1)[0].strip()
        fields = [field.strip() for field in line.split(",")]
        if len(fields) >= 3 and fields[0] and fields[1] and fields[2].upper() in RELATIONS:
            key = fields[0].lower(), fields[1]
            # An account may be listed both ways: then it may sell as either.
            if relations.get(key) != "DIRECT":
                relations[key] = fields[2].upper()
            continue
        name, _, value = line.partition("=")
        named = {
            "OWNERDOMAIN": owners, "MANAGERDOMAIN": owners, "INVENTORYPARTNERDOMAIN": partners,
        }.get(name.strip().upper())  # fmt: skip
        if named is not None and value:
            # MANAGERDOMAIN may be followed by a country.
            named.add(value.split(",", 1)[0].strip().lower())
    return SellersList(relations, frozenset(owners), frozenset(partners))


def _sellers(path: Path) -> dict[str, Seller]:
    try:
        listed = msgspec.json.decode(path.read_bytes(), type=_SellersJson)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise BadInput(f"sellers.json of {path.stem}: {error}; fetch it again") from error
    found: dict[str, Seller] = {}
    for place, entry in enumerate(listed.sellers):
        kind = entry.seller_type.strip().upper()
        if kind not in SELLER_TYPES:
            raise BadInput(
                f"sellers.json of {path.stem}: /sellers/{place}/seller_type is "
                f"'{entry.seller_type}'; it must be one of {', '.join(SELLER_TYPES)}"
            )
        domain = "" if entry.is_confidential == 1 else (entry.domain or "").strip().lower()
        found[str(entry.seller_id)] = Seller(kind, domain)
    return found


def _files(folder: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BadInput(f"supply folder: '{folder.name}' is a file; it must be a folder of files")
    for path in sorted(folder.iterdir()):
        if path.suffix != suffix or not path.stem:
            raise BadInput(
                f"supply folder {folder.name}: '{path.name}'; files are named by their domain, "
                f"such as news.example{suffix}"
            )
        yield path.stem.lower(), path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.parent.name} of {path.stem}: {error}; fetch it again") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if path.exists():
        for number, raw in enumerate(_text(path).splitlines(), 1):
            line = raw.split("#", 1)[0].strip()
            if line:
                yield number, line


def _ranges(path: Path) -> AddressRanges:
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for number, line in _lines(path):
        try:
            networks.append(ipaddress.ip_network(line, strict=False))
        except ValueError as error:
            raise BadInput(f"{path.name} line {number}: {error}; it must be a CIDR") from error
    return AddressRanges(networks)
