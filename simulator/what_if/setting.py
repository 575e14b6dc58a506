"""A setting: how the steered campaign bids, and with what budget and target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from market.errors import BadInput
from simulator.period.scenario import LAWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.period.engine import Agents

_KEYS: Final = ("gain", "budget", "target")
GAIN_MAX: Final = 10.0
FACTOR_MAX: Final = 1_000.0


class Setting(msgspec.Struct, frozen=True):
    """One way to bid.

    Attributes:
        name: what tables and pages call it.
        law: of ``market.kernels_control``, by name.
        gain: of the law.
        budget_factor: times the campaign's budget in the scenario.
        target_factor: times what a conversion may cost there.
    """

    name: str
    law: str
    gain: float = 1.0
    budget_factor: float = 1.0
    target_factor: float = 1.0

    def applied(self, agents: Agents, rows: Sequence[int]) -> Agents:
        """Returns the agents with this setting in ``rows``."""
        steered = np.array(rows)
        law, gain = agents.law.copy(), agents.gain.copy()
        budget, unit = agents.budget_micros.copy(), agents.unit_micros.copy()
        law[steered] = LAWS[self.law]
        gain[steered] = self.gain
        budget[steered] = np.maximum(np.round(budget[steered] * self.budget_factor), 1)
        unit[steered] *= self.target_factor
        return agents._replace(law=law, gain=gain, budget_micros=budget, unit_micros=unit)


def read_settings(texts: Sequence[str]) -> tuple[Setting, ...]:
    """Returns the settings that texts such as ``pid`` or ``bold=pid,budget=2,gain=0.8`` describe.

    Raises:
        BadInput: there are fewer than two, two have one name, or a text breaks the form.
    """
    settings = tuple(read_setting(text) for text in texts)
    if len(settings) < 2:
        raise BadInput(f"--setting: {len(settings)} given; name at least two to compare")
    names = [setting.name for setting in settings]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadInput(f"--setting: {sorted(twice)[0]!r} stands twice; write NAME=LAW,...")
    return settings


def read_setting(text: str) -> Setting:
    """Returns the setting of ``[NAME=]LAW[,gain=..][,budget=..][,target=..]``.

    Raises:
        BadInput: the text breaks that form, or a number its range.
    """
    head, *rest = text.split(",")
    name, _, law = head.rpartition("=")
    name, law = name.strip() or law.strip(), law.strip()
    if law not in LAWS:
        raise BadInput(f"--setting {text!r}: law is {law!r}; it must be one of {', '.join(LAWS)}")
    found: dict[str, float] = {}
    for part in rest:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in _KEYS or key in found:
            raise BadInput(
                f"--setting {text!r}: {part.strip()!r}; it must be one each of "
                f"{', '.join(f'{known}=NUMBER' for known in _KEYS)}"
            )
        found[key] = _number(text, key, value)
    return Setting(
        name, law, found.get("gain", 1.0), found.get("budget", 1.0), found.get("target", 1.0)
    )


def _number(text: str, key: str, value: str) -> float:
    least, most = (0.0, GAIN_MAX) if key == "gain" else (1e-6, FACTOR_MAX)
    try:
        number = float(value)
    except ValueError as error:
        raise BadInput(f"--setting {text!r}: {key} is {value!r}; it must be a number") from error
    if not least <= number <= most:
        raise BadInput(f"--setting {text!r}: {key} is {value}; it must be {least:g} to {most:g}")
    return number
