"""``lodestone replay`` for people and for machines: a line per body, and a summary."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.text import Text

from bidder.catalogue import SHIPPED_CATALOGUE, read_catalogue
from bidder.replay import Replay, Replayed, Summary, bodies_of, summary_of
from market.errors import BadInput
from market.exchange import DEFAULT_EXCHANGES, check_profiles

if TYPE_CHECKING:
    from pathlib import Path

_STATUS_STYLES = {200: "green", 204: "yellow", 400: "red"}
_FORMATS = {1: "banner", 2: "video", 3: "audio", 4: "native"}


def run_replay(
    paths: tuple[Path, ...], campaigns: Path | None, exchange: str, *, as_json: bool
) -> None:
    """Replays every body in ``paths`` and prints what became of it.

    With ``as_json`` every body is one JSON object on its line, and the last line is the summary.

    Raises:
        BadInput: a path, the campaign file or the exchange is wrong.
    """
    profiles = check_profiles(DEFAULT_EXCHANGES)
    if exchange not in profiles:
        raise BadInput(f"exchange '{exchange}': it must be one of {', '.join(profiles)}")
    now_ms = time.time_ns() // 1_000_000
    replay = Replay(read_catalogue(campaigns or SHIPPED_CATALOGUE), profiles[exchange], now_ms)
    console = Console(highlight=False, soft_wrap=True)
    replayed: list[Replayed] = []
    for name, body in bodies_of(paths):
        each = replay.run(name, body, now_ms)
        replayed.append(each)
        if as_json:
            _write_json(each)
        else:
            console.print(_lines(each))
    summary = summary_of(replayed)
    if as_json:
        _write_json(summary)
    else:
        console.print(_summary_lines(summary))


def _write_json(value: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.flush()


def _lines(each: Replayed) -> Text:
    text = Text()
    text.append(f"{each.status} ", style=_STATUS_STYLES.get(each.status, "bold red"))
    text.append(f"{each.name}", style="bold")
    text.append(f"  {each.latency_us:.0f} us\n", style="dim")
    for bid in each.bids:
        deal = f", deal {bid.deal}" if bid.deal else ""
        text.append(
            f"      imp {bid.imp_id}: {bid.price_cpm:.2f} {bid.currency} CPM, "
            f"{_FORMATS.get(bid.format, '?')} creative {bid.creative} of {bid.campaign}, "
            f"seat {bid.seat}{deal}\n"
        )
    for refusal in each.refusals:
        where = "request" if refusal.imp_index < 0 else f"imp #{refusal.imp_index}"
        field = f" ({refusal.field})" if refusal.field else ""
        text.append(f"      {where}: {refusal.reason}{field}: {refusal.text}\n", style="yellow")
    if each.detail:
        text.append(f"      {each.detail}\n", style="red")
    for mend in each.mended:
        text.append(f"      mended {mend}\n", style="dim")
    text.rstrip()
    return text


def _summary_lines(summary: Summary) -> Text:
    text = Text()
    text.append(
        f"\n{summary.files} bodies: {summary.answered_200} x 200, {summary.answered_204} x 204, "
        f"{summary.answered_400} x 400, {summary.answered_5xx} x 5xx; {summary.bids} bids\n",
        style="bold",
    )
    for reason, count in sorted(summary.no_bids_by_reason.items(), key=lambda pair: -pair[1]):
        text.append(f"  {count:4d}  {reason}\n")
    text.append(f"latency p50 {summary.latency_us_p50:.0f} us, p99 {summary.latency_us_p99:.0f} us")
    return text
