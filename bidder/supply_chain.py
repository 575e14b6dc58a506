"""Who sells: the supply chain of a request, and whether its publisher authorises the sellers.

What an exchange must show is its profile's (``chain_rule``, ``chain_blocked``, ``sellers_rule``
...), what publishers and sellers declare comes from the operator's files
(``bidder.supply_files``). A refusal is of the whole request and names the field.

What this file does not do: fetch anything, check signatures (ads.cert), or judge a price.

Keys used: source.{schain,ext.schain,pchain}, site|app.{domain,page,publisher.{id,domain},
inventorypartnerdomain}, device.{ua,ip,ipv6}.

Sources: IAB Tech Lab, SupplyChain object 1.0 (2019), ads.txt 1.1, sellers.json 1.0; TAG Payment ID
Protocol 1.0; OpenRTB no-bid reasons 3-5, 11, 12, 16, 17.
"""

from __future__ import annotations

import contextlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from bidder.supply_files import NO_FILES, SellersList, SupplyFiles, read_supply_files
from market.decision import NoBidReason
from market.exchange import ChainRule, SellersRule
from market.openrtb import Site
from market.openrtb_reading import domain_and_parents, number_text, schain_of

if TYPE_CHECKING:
    from pathlib import Path

    from market.exchange import ExchangeProfile
    from market.openrtb import App, BidRequest, SupplyChain

Objection: TypeAlias = tuple[NoBidReason, str]
"""Why a request is refused, and the field that causes it."""

_NODES = "source.schain.nodes"
_PAYMENT_IDS = re.compile(r"[^0-9A-Za-z._:-]+")
_AGENTS_MAX = 65_536
_AGENT_CHARS_MAX = 512
_DIRECT = "DIRECT"
_SELLS_OWN = ("PUBLISHER", "BOTH")
_SELLS_FOR_OTHERS = ("INTERMEDIARY", "BOTH")


class Node(NamedTuple):
    """One paid seller of the chain: advertising system (lower case) and its account there."""

    asi: str
    sid: str


class Supply:
    """The checks, with the files they are made against."""

    def __init__(self, files: SupplyFiles = NO_FILES) -> None:
        """Takes the operator's files; without any only what the request itself says is checked."""
        self._files = files
        self._is_crawler = lru_cache(_AGENTS_MAX)(self._matches_crawler)

    def objection(self, request: BidRequest, profile: ExchangeProfile) -> Objection | None:
        """Returns why nothing may be bought from this request, None if it may."""
        if not profile.checks_supply:
            return None
        if profile.refuses_non_human:
            found = self._device_objection(request)
            if found is not None:
                return found
        chain = schain_of(request)
        nodes = nodes_of(chain)
        return (
            _chain_objection(chain, nodes, request, profile)
            or (
                None
                if profile.sellers_rule is SellersRule.IGNORED
                else self._sellers_objection(chain, nodes or (), request, profile)
            )
        )  # fmt: skip

    def _device_objection(self, request: BidRequest) -> Objection | None:
        device = request.device
        if device is None:
            return None
        if device.ua and self._is_crawler(device.ua[:_AGENT_CHARS_MAX]):
            return NoBidReason.CRAWLER, "device.ua"
        for field, address in (("device.ip", device.ip), ("device.ipv6", device.ipv6)):
            if address and address in self._files.non_human:
                return NoBidReason.NON_HUMAN, field
            if address and address in self._files.datacentres:
                return NoBidReason.DATACENTRE_IP, field
        return None

    def _matches_crawler(self, user_agent: str) -> bool:
        folded = user_agent.lower()
        return any(piece in folded for piece in self._files.crawlers)

    def _sellers_objection(
        self,
        chain: SupplyChain | None,
        nodes: tuple[Node, ...],
        request: BidRequest,
        profile: ExchangeProfile,
    ) -> Objection | None:
        """Checks (app-)ads.txt and sellers.json; DOOH has no such files."""
        channel = request.site or request.app
        if channel is None:
            return None
        kind = "site" if isinstance(channel, Site) else "app"
        if nodes and nodes[-1].asi != profile.seller_domain:
            # The one who sends the request is the last to be paid.
            return NoBidReason.SUPPLY_CHAIN_BLOCKED, f"{_NODES}.asi"
        domains = _publisher_domains(channel)
        listed = self._list_of(channel, domains)
        if listed is None:
            if profile.sellers_rule is SellersRule.REQUIRED:
                return NoBidReason.SELLERS_FILE_MISSING, f"{kind}.domain"
        else:
            account = number_text(channel.publisher.id) if channel.publisher else None
            sellers = nodes or (Node(profile.seller_domain, account or ""),)
            relations = [listed.relations.get(seller) for seller in sellers]
            if None in relations or (not profile.accepts_resellers and relations[-1] != _DIRECT):
                field = f"{_NODES}.sid" if nodes else f"{kind}.publisher.id"
                return NoBidReason.SELLER_NOT_AUTHORISED, field
        if chain is not None and not self._is_consistent(chain, nodes, domains, listed):
            return NoBidReason.SUPPLY_CHAIN_BLOCKED, _NODES
        return None

    def _list_of(self, channel: Site | App, domains: tuple[str, ...]) -> SellersList | None:
        """Returns who may sell this inventory, None without a file.

        The file of the domain itself counts before those above it. Where it names the request's
        inventory partner, the partner's own list is added.
        """
        lists = self._files.ads_txt if isinstance(channel, Site) else self._files.app_ads_txt
        listed = next((lists[domain] for domain in domains if domain in lists), None)
        partner = (channel.inventorypartnerdomain or "").strip().lower()
        if listed is None or partner not in listed.partners or partner not in lists:
            return listed
        return listed._replace(relations={**lists[partner].relations, **listed.relations})

    def _is_consistent(
        self,
        chain: SupplyChain,
        nodes: tuple[Node, ...],
        domains: tuple[str, ...],
        listed: SellersList | None,
    ) -> bool:
        """Returns whether the sellers' own sellers.json, where we have it, agree with the chain.

        The first seller of a complete chain sells its own inventory, all later ones that of
        others. That the first is the publisher's business can be said if its file names the owner.
        """
        for place, node in enumerate(nodes):
            sellers = self._files.sellers_json.get(node.asi)
            if sellers is None:
                continue
            seller = sellers.get(node.sid)
            if seller is None:
                return False
            if place > 0:
                if seller.seller_type not in _SELLS_FOR_OTHERS:
                    return False
            elif chain.complete == 1:
                if seller.seller_type not in _SELLS_OWN:
                    return False
                if seller.domain and listed is not None and listed.owners:
                    known = {*domains, *listed.owners}
                    if not known & {*domain_and_parents(seller.domain)}:
                        return False
        return True


NO_SUPPLY = Supply()
"""Without files: chains are checked, ads.txt and sellers.json are not known."""


def read_supply(folder: Path | None) -> Supply:
    """Returns the checks with the files of ``folder`` (None: without).

    Raises:
        BadInput: see ``bidder.supply_files.read_supply_files``.
    """
    return NO_SUPPLY if folder is None else Supply(read_supply_files(folder))


def nodes_of(chain: SupplyChain | None) -> tuple[Node, ...] | None:
    """Returns the paid sellers of a chain in order; None if one has no system or no account.

    A node that takes no part in the payment (``hp`` 0) sells nothing.
    """
    nodes: list[Node] = []
    for node in (chain.nodes if chain is not None else None) or ():
        asi, sid = (node.asi or "").strip().lower(), (number_text(node.sid) or "").strip()
        if not asi or not sid:
            return None
        if node.hp != 0:
            nodes.append(Node(asi, sid))
    return tuple(nodes)


def _chain_objection(
    chain: SupplyChain | None,
    nodes: tuple[Node, ...] | None,
    request: BidRequest,
    profile: ExchangeProfile,
) -> Objection | None:
    missing = _missing_of_chain(chain, nodes, profile.chain_rule)
    if missing:
        return NoBidReason.SUPPLY_CHAIN_INCOMPLETE, missing
    # A chain that hides a seller must not be judged more kindly than one that names it.
    is_judged = profile.chain_nodes_max > 0 or profile.sellers_rule is not SellersRule.IGNORED
    if nodes is None and is_judged:
        return NoBidReason.SUPPLY_CHAIN_INCOMPLETE, _NODES
    if profile.chain_nodes_max and len(nodes or ()) > profile.chain_nodes_max:
        return NoBidReason.SUPPLY_CHAIN_BLOCKED, _NODES
    field = _blocked_field(chain, request, profile.chain_blocked) if profile.chain_blocked else ""
    return (NoBidReason.SUPPLY_CHAIN_BLOCKED, field) if field else None


def _missing_of_chain(
    chain: SupplyChain | None, nodes: tuple[Node, ...] | None, rule: ChainRule
) -> str:
    """Returns the field that falls short of the rule, "" if none does."""
    if rule is ChainRule.OPTIONAL:
        return ""
    if chain is None or not chain.nodes:
        return "source.schain"
    if rule is ChainRule.COMPLETE and chain.complete != 1:
        return "source.schain.complete"
    return _NODES if rule is ChainRule.COMPLETE and not nodes else ""


def _blocked_field(chain: SupplyChain | None, request: BidRequest, blocked: tuple[str, ...]) -> str:
    """Returns the field that names a blocked seller, "" if none does."""
    for node in (chain.nodes if chain is not None else None) or ():
        asi, sid = (node.asi or "").strip().lower(), (number_text(node.sid) or "").strip().lower()
        if asi in blocked or f"{asi}/{sid}" in blocked:
            return _NODES
    pchain = request.source.pchain if request.source is not None else None
    for payment_id in _PAYMENT_IDS.split((pchain or "").lower()):
        if payment_id in blocked or payment_id.split(":", 1)[0] in blocked:
            return "source.pchain"
    return ""


def _publisher_domains(channel: Site | App) -> tuple[str, ...]:
    """Returns the domains whose file speaks for the inventory, the nearest first.

    A site's is where its page lies; what else the request says of its publisher is a claim. An app
    lies in a store: its developer's domain is one that the request has to claim.
    """
    name = channel.domain or ""
    if not name and isinstance(channel, Site):
        with contextlib.suppress(ValueError):  # a page that is no URL names no domain
            name = urlsplit(channel.page or "").hostname or ""
    elif not name and channel.publisher is not None:
        name = channel.publisher.domain or ""
    return domain_and_parents(name)
