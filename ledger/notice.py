"""From a notice request to what it says, and from that to its event.

    GET or POST /n/{kind}/{signed token}?p=PRICE ...

The signature covers the kind and the token (``market.notices``); the query holds what the exchange,
or for a conversion the advertiser's page, fills in. What is done about it is ``ledger.record``'s.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from ledger.event_bytes import EVENT_BYTES, event_fields, event_part
from ledger.notice_price import AUDIT, CLOCK_SKEW_MS, Fault, Prices, Unreadable, read_price
from market.chance import code_of
from market.errors import BadInput
from market.events import EventFlag, EventKind, event_id
from market.money import BUDGET_MICROS_MAX, CURRENCY_NAMES, MICROS
from market.notices import (
    QUERY_CURRENCY,
    QUERY_IMP_TS,
    QUERY_LOSS,
    QUERY_MACROS,
    QUERY_MIN_TO_WIN,
    QUERY_MULTIPLIER,
    QUERY_ORDER,
    QUERY_PRICE,
    QUERY_VALUE,
    Token,
    notice_path,
    open_notice,
    sign,
)
from market.opportunity import Format
from market.protocols import Notice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from market.exchange import ExchangeProfile

CLICK_PARAMETER: Final = "lsclk"
"""Names the signed conversion token in the landing page's URL."""

ORDER_CHARS_MAX: Final = 200
_REASON_MAX: Final = 65_535
_NUMBER_MAX: Final = 10**15
_PRICES: Final = {QUERY_PRICE, QUERY_MIN_TO_WIN}
# Shares and discounts: the price is after discount, so nothing is done with them.
_NUMBERS: Final = tuple(
    name
    for name, macro in QUERY_MACROS.items()
    if macro in ("AUCTION_MBR", "AUCTION_DISCOUNT_PCT", "AUCTION_DISCOUNT_CPM")
)


class Charging:
    """Which notice moves money, by exchange and format, as the profiles say."""

    def __init__(self, exchanges: Sequence[ExchangeProfile]) -> None:
        """Takes the profiles; an exchange without one is charged like the default profile."""
        self.names: Final = {profile.exchange_id: profile.name for profile in exchanges}
        self._kinds = {
            (profile.exchange_id, int(Format[name.upper()])): EventKind[kind.upper()]
            for profile in exchanges
            for name, kind in profile.charging.items()
        }

    def kind(self, exchange: int, shown: int) -> EventKind:
        """Returns the kind of notice that charges for format bit ``shown`` on ``exchange``."""
        kind = self._kinds.get((exchange, shown))
        if kind is None:
            is_streamed = shown & (Format.VIDEO | Format.AUDIO)
            kind = EventKind.IMPRESSION if is_streamed else EventKind.BILLING
        return kind


def open_path(key: bytes, path: bytes) -> tuple[EventKind, Token]:
    """Returns the kind and the token of a notice's path.

    Raises:
        BadInput: the path is no notice's.
        Forbidden: the token is forged, altered, or of another kind.
    """
    parts = path.decode("ascii", "replace").split("/")
    if len(parts) != 4 or parts[1] != "n":
        raise BadInput(f"path '{'/'.join(parts)[:80]}': a notice is /n/KIND/TOKEN")
    return open_notice(key, parts[2], parts[3])


def read_notice(
    kind: EventKind,
    token: Token,
    query: bytes,
    charging: Charging,
    prices: Prices,
    now_ms: int,
) -> Notice | None:
    """Returns what a notice says; None for a test render, which means nothing.

    What moves money or ends a reservation must be readable. The rest of what an exchange tells is
    for confirmation: unreadable, it is ignored and counted; in contradiction to the bid, the
    notice is marked.

    Raises:
        Unreadable: a value cannot be read, or the price of a notice that charges is missing.
    """
    values = _values(query)
    hi, lo = token.bid_hi, token.bid_lo
    if kind is EventKind.CONVERSION:
        order_id = values.get(QUERY_ORDER, "")
        if len(order_id) > ORDER_CHARS_MAX:
            raise Unreadable(
                Fault.ORDER, f"order id of {len(order_id)} characters: at most {ORDER_CHARS_MAX}"
            )
        value_micros = _value_micros(values.get(QUERY_VALUE, ""))
        return Notice(kind, hi, lo, now_ms, order_id=order_id, value_micros=value_micros)
    told = {
        name: value
        for name, value in values.items()
        if name in QUERY_MACROS and not _is_untold(value)
    }
    if AUDIT in told.values():
        return None
    if kind is EventKind.CLICK:
        return Notice(kind, hi, lo, now_ms)
    least, unread_count = _min_to_win(told)
    if kind is EventKind.LOSS:
        reason = _reason(told.get(QUERY_LOSS, "0"))
        return Notice(kind, hi, lo, now_ms, least, reason, unread_count=unread_count)
    price = 0
    if QUERY_PRICE in told:
        found = prices.read(token.exchange, told[QUERY_PRICE], token.bid_ms, now_ms)
        if found is None:
            return None
        price = found
    elif kind is charging.kind(token.exchange, token.format):
        raise Unreadable(Fault.PRICE_MISSING, "a notice that charges must tell the price")
    notice = Notice(
        kind, hi, lo, now_ms, price, min_to_win_cpm_micros=least, unread_count=unread_count
    )
    return notice if told.keys() <= _PRICES else _confirmed(notice, token, told)


def _confirmed(notice: Notice, token: Token, told: Mapping[str, str]) -> Notice:
    """Returns a notice with what it was told for confirmation."""
    multiplier = _decimal(told.get(QUERY_MULTIPLIER, "0"))
    shown_ms = _decimal(told.get(QUERY_IMP_TS, "0"))
    unread = [
        multiplier is None or (QUERY_MULTIPLIER in told and multiplier <= 0),
        shown_ms is None or not _is_time(told, int(shown_ms), token, notice.at_ms),
        *(_decimal(told.get(name, "0")) is None for name in _NUMBERS),
    ]
    multiplier_micros = 0 if unread[0] or multiplier is None else _micros(multiplier)
    currency = told.get(QUERY_CURRENCY)
    is_contradictory = (
        multiplier_micros > token.quantity_micros
        or (currency is not None and currency.upper() != CURRENCY_NAMES.get(token.bid_currency))
        or told.get("a", str(token.creative_id)) != str(token.creative_id)
    )
    return notice._replace(
        multiplier_micros=multiplier_micros,
        shown_ms=0 if unread[1] or shown_ms is None else int(shown_ms),
        is_contradictory=is_contradictory,
        unread_count=notice.unread_count + sum(unread),
    )


def landing_location(key: bytes, token: Token, landing_url: str) -> str:
    """Returns where a click leads: the landing page, with the token that its conversions need."""
    text, tags = sign(key, token)
    signed = notice_path(EventKind.CONVERSION, text, tags).rpartition("/")[2]
    page, mark, fragment = landing_url.partition("#")
    joint = "&" if "?" in page else "?"
    return f"{page}{joint}{CLICK_PARAMETER}={signed}{mark}{fragment}"


# Fields of an event that a notice writes; the others it takes over from its bid.
_ID, _ID_AT = event_part("id_hi", "id_lo")
_TIMES, _TIMES_AT = event_part("ts_ms", "recv_ms")
_MONEY, _MONEY_AT = event_part("price_cpm_micros", "amount_micros")
_FLOOR, _FLOOR_AT = event_part("floor_cpm_micros")
_VALUE, _VALUE_AT = event_part("value_micros")
_WHAT, _WHAT_AT = event_part("reason", "worker", "flags", "kind")
_ORDER, _ORDER_AT = event_part("order_code")

_DISPUTE: Final = 1

_FROM_TOKEN: Final = event_fields(
    "bid_hi", "bid_lo", "bid_ms", "deadline_ms", "amount_micros", "advertiser_id", "campaign_id",
    "line_item_id", "creative_id", "exchange", "bid_currency", "account_currency", "worker",
    "flags", "format", "weight", "budgets", "rate_micros", "quantity_micros",
)  # fmt: skip


def bid_from_token(token: Token, budget_ids: Sequence[int]) -> bytearray:
    """Returns the bid's event as far as its token tells; what it does not tell is 0."""
    event = bytearray(EVENT_BYTES)
    budgets = (*budget_ids, 0, 0, 0)[:3]
    _FROM_TOKEN.pack_into(
        event, 0, token.bid_hi, token.bid_lo, token.bid_ms, token.deadline_ms,
        token.reserved_micros, token.advertiser_id, token.campaign_id, token.line_item_id,
        token.creative_id, token.exchange, token.bid_currency, token.account_currency,
        token.worker, EventFlag.TEST if token.is_test else 0, token.format, 1.0, *budgets,
        token.rate_micros, token.quantity_micros,
    )  # fmt: skip
    return event


def fill_notice_event(
    event: bytearray, notice: Notice, amount_micros: int, flags: int, worker: int
) -> int:
    """Makes the bid's event ``event`` the event of a notice; returns the order code of it.

    Args:
        event: a copy of the bid's record; it is changed.
        notice: what was said.
        amount_micros: what is charged.
        flags: of ``EventFlag``.
        worker: that made the bid.
    """
    kind = int(notice.kind)
    code = code_of(notice.order_id) if kind == EventKind.CONVERSION else 0
    # A dispute is an event of its own: the true notice that follows it must not take its place.
    name = _DISPUTE if flags & EventFlag.DISPUTED else code
    _ID.pack_into(event, _ID_AT, *event_id(kind, notice.bid_hi, notice.bid_lo, name))
    _TIMES.pack_into(event, _TIMES_AT, notice.shown_ms or notice.at_ms, notice.at_ms)
    _MONEY.pack_into(event, _MONEY_AT, notice.price_cpm_micros, amount_micros)
    _WHAT.pack_into(event, _WHAT_AT, notice.reason, worker, flags, kind)
    if kind == EventKind.WIN and notice.min_to_win_cpm_micros:
        _FLOOR.pack_into(event, _FLOOR_AT, notice.min_to_win_cpm_micros)
    if kind == EventKind.CONVERSION:
        _VALUE.pack_into(event, _VALUE_AT, notice.value_micros)
        _ORDER.pack_into(event, _ORDER_AT, code)
    return code


def _values(query: bytes) -> dict[str, str]:
    """Returns the parameters of a query; the last of equal names counts.

    Raises:
        Unreadable: a value is no UTF-8.
    """
    values: dict[str, str] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if b"%" in value or b"+" in value:
            value = unquote_to_bytes(value.replace(b"+", b" "))
        try:
            values[name.decode("ascii", "replace")] = value.decode()
        except UnicodeDecodeError as error:
            message = f"query value {value[:80]!r}: it must be UTF-8"
            raise Unreadable(Fault.QUERY, message) from error
    return values


def _reason(text: str) -> int:
    if len(text) > 5 or not (text.isascii() and text.isdecimal()) or int(text) > _REASON_MAX:
        message = f"loss reason '{text[:80]}': it must be an OpenRTB code, 0-{_REASON_MAX}"
        raise Unreadable(Fault.LOSS_REASON, message)
    return int(text)


def _value_micros(text: str) -> int:
    """Returns the value of an order in micros, to the nearest one; 0 where it is not told."""
    if _is_untold(text):
        return 0
    value = _decimal(text)
    limit = BUDGET_MICROS_MAX // MICROS
    if value is None or not 0 <= value <= limit:
        message = f"value '{text[:80]}': it must be a decimal number between 0 and {limit}"
        raise Unreadable(Fault.VALUE, message)
    return _micros(value)


def _min_to_win(told: Mapping[str, str]) -> tuple[int, int]:
    """Returns the least price that would have won, and how many values could not be read."""
    try:
        return read_price(told.get(QUERY_MIN_TO_WIN, "0")), 0
    except Unreadable:
        return 0, 1


def _decimal(text: str) -> Decimal | None:
    """Returns a finite number of a size that anything here has; None for every other text."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    # Comparisons only: arithmetic on an absurd exponent overflows.
    return value if value.is_finite() and -_NUMBER_MAX <= value <= _NUMBER_MAX else None


def _micros(value: Decimal) -> int:
    return int((value * MICROS).to_integral_value(ROUND_HALF_EVEN))


def _is_time(told: Mapping[str, str], shown_ms: int, token: Token, now_ms: int) -> bool:
    """Returns whether an impression can have been shown then: after its bid and before now."""
    if QUERY_IMP_TS not in told:
        return True
    return token.bid_ms - CLOCK_SKEW_MS <= shown_ms <= now_ms + CLOCK_SKEW_MS


def _is_untold(text: str) -> bool:
    return text == "" or text.startswith("${")
