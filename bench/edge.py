"""The edge of a bid: how much dirt survives decoding, and what decoding and encoding cost.

Decoding is ``market.openrtb_decode.decode_request``, lax and mending, against msgspec's strict
decoder of the very same types and against orjson into dictionaries; encoding is
``market.openrtb.encode_response`` against msgspec and orjson on dictionaries of the same content.
Every round times all of them one after the other over the same bodies; ratios are medians over the
rounds of ratios within a round. CPU time, one thread.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from market.errors import BadInput
from market.openrtb import BidRequest, BidResponse, encode_response
from market.openrtb_decode import decode_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ROOT = Path(__file__).resolve().parents[1]
_REAL = _ROOT.parent / "shared" / "requests"
_GOLDEN = _ROOT / "tests" / "golden" / "bid"
_CALLS = 20_000
"""Calls of each contender in a round."""


class Body(NamedTuple):
    """One request body; ``is_valid``: the manifest expects an exchange to send it."""

    name: str
    content: bytes
    is_valid: bool


def run(rounds: int) -> dict[str, object]:
    """Returns the figures of the edge; see the module for what is run."""
    found, source = _bodies()
    faults = _faults(found)
    valid = [body for body in found if body.is_valid]
    strict = msgspec.json.Decoder(BidRequest)
    clean = [body.content for body in valid if _is_taken(strict.decode, body.content)]
    dirty = [
        body.content
        for body in valid
        if body.name not in faults and not _is_taken(strict.decode, body.content)
    ]
    result: dict[str, object] = {
        "bodies": source,
        "rounds": rounds,
        "parsable_valid": len(valid),
        "survive_decode_share": sum(body.name not in faults for body in valid) / len(valid),
        "parsable_invalid": len(found) - len(valid),
        "invalid_refused": {
            body.name: faults[body.name]
            for body in found
            if not body.is_valid and body.name in faults
        },
        "strict_refuses": len(valid) - len(clean),
        "body_bytes_mean": round(statistics.mean(map(len, clean))),
    }
    orjson_loads, orjson_dumps = _orjson("loads"), _orjson("dumps")
    decoders: dict[str, Callable[[bytes], object]] = {
        "decode": decode_request,
        "msgspec_strict": strict.decode,
        "msgspec_untyped": msgspec.json.decode,
    }
    if orjson_loads is None:
        result["orjson"] = "not installed"
    else:
        decoders["orjson"] = orjson_loads
    result |= _compared("decode", decoders, clean, rounds)
    if dirty:
        result |= _timed("decode_mended", decode_request, dirty, rounds)
    answers = _answers()
    plain = [msgspec.to_builtins(answer) for answer in answers]
    encoders: dict[str, tuple[Callable[..., bytes], Sequence[object]]] = {
        "encode": (encode_response, answers),
        "msgspec_dict": (msgspec.json.encode, plain),
    }
    if orjson_dumps is not None:
        encoders["orjson"] = (orjson_dumps, plain)
    result["answer_bytes_mean"] = round(
        statistics.mean(len(encode_response(answer)) for answer in answers)
    )
    return result | _ratios("encode", encoders, rounds)


def _bodies() -> tuple[list[Body], str]:
    """Returns the bodies that are JSON, and where they come from."""
    manifest = _REAL / "manifest.json"
    if not manifest.exists():
        golden = [
            Body(path.name, json.dumps(json.loads(path.read_text())["request"]).encode(), True)
            for path in sorted((_GOLDEN / "exemplary").glob("*.json"))
        ]
        return golden, "requests of the golden tests (../shared/requests is not there)"
    found: list[Body] = []
    for entry in json.loads(manifest.read_text()):
        if not entry["parses"]:
            continue
        content = (_REAL / entry["file"]).read_bytes()
        if entry["file"].endswith(".gz"):
            content = gzip.decompress(content)
        found.append(Body(entry["file"], content, not entry["kind"].startswith("invalid")))
    return found, "real bodies"


def _faults(found: Sequence[Body]) -> dict[str, str]:
    """Returns why bodies are refused, by name; those that survive are absent."""
    faults: dict[str, str] = {}
    for body in found:
        try:
            decode_request(body.content)
        except BadInput as error:
            faults[body.name] = str(error)
    return faults


def _is_taken(decode: Callable[[bytes], object], content: bytes) -> bool:
    try:
        decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def _answers() -> list[BidResponse]:
    """Returns the bid responses of the golden tests, notice URLs at their real length."""
    signed = "A" * 126
    answers: list[BidResponse] = []
    for path in sorted((_GOLDEN / "exemplary").glob("*.json")):
        response = json.dumps(json.loads(path.read_text())["expected"]["response"])
        answers.append(msgspec.json.decode(response.replace("<signed>", signed), type=BidResponse))
    return answers


def _orjson(name: str) -> Callable[..., bytes] | None:
    """Returns a function of orjson, None where it is not installed: it is no dependency of ours."""
    if importlib.util.find_spec("orjson") is None:
        return None
    return getattr(importlib.import_module("orjson"), name)


def _compared(
    what: str,
    contenders: dict[str, Callable[[bytes], object]],
    values: Sequence[bytes],
    rounds: int,
) -> dict[str, object]:
    return _ratios(what, {name: (call, values) for name, call in contenders.items()}, rounds)


def _timed(
    what: str, call: Callable[[bytes], object], values: Sequence[bytes], rounds: int
) -> dict[str, object]:
    times = [_us_per_call(call, values) for _ in range(rounds)]
    return {f"{what}_us": round(statistics.median(times), 2)}


def _ratios(
    what: str,
    contenders: Mapping[str, tuple[Callable[..., object], Sequence[object]]],
    rounds: int,
) -> dict[str, object]:
    """Returns the time of each contender, and the first one's as a ratio to each other one."""
    times = [
        {name: _us_per_call(call, values) for name, (call, values) in contenders.items()}
        for _ in range(rounds)
    ]
    ours, *others = contenders
    figures: dict[str, object] = {
        f"{what}_us" if name == ours else f"{what}_{name}_us": round(
            statistics.median(each[name] for each in times), 2
        )
        for name in contenders
    }
    for other in others:
        ratio = statistics.median(each[ours] / each[other] for each in times)
        figures[f"{what}_ratio_to_{other}"] = round(ratio, 3)
    return figures


def _us_per_call(call: Callable[..., object], values: Sequence[object]) -> float:
    turns = max(1, _CALLS // len(values))
    began = time.process_time_ns()
    for _ in range(turns):
        for value in values:
            call(value)
    return (time.process_time_ns() - began) / 1_000 / (turns * len(values))
