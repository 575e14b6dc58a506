"""What one period of a world leaves to the next, in memory and in a file.

``(state, bids) -> (state, events)``: the state goes in with ``PeriodWorld(carried=...)`` and comes
out of ``PeriodWorld.carried``. What starts anew each period is what advertisers set: budgets and
the memory of control laws.

Dimension names: as in ``simulator.world.tables``.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from market.errors import BadInput, Corrupt
from simulator.world.kernels_values import UserState

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.world.scenario import WorldScenario
    from simulator.world.tables import Tables, UserArrays

DUE_DTYPE = np.dtype(
    [("tick", np.int64), ("agent", np.int32), ("conversions", np.int64), ("micros", np.int64)]
)

_DAMAGES = (
    ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error,
    # A zip of another version, kind or encryption, says zipfile.
    RuntimeError,
)  # fmt: skip


class Carried(NamedTuple):
    """All of a world that outlives a period; nobody who is handed it writes it.

    Attributes:
        period: number of the period that it comes from.
        age: periods since users started without memory; tastes have turned for as long.
        people: ``people_of`` its world: whose state it is, and how long a tick is.
        state: the users at its end. What is remembered is as of then, and ``head`` counts from the
            start of the next period.
        due: [N] DUE_DTYPE: what accounts are still to be told, by tick of the next period (those
            beyond its end are handed on again).
    """

    period: int
    age: int
    people: str
    state: UserState
    due: npt.NDArray[np.void]


def people_of(scenario: WorldScenario) -> str:
    """Returns a digest of what says who users and agents are, and how long a tick is.

    What people meet (prices, floors, deals, shocks, mechanisms that are off) is not part of it: it
    may change from one day to the next.
    """
    who = (
        scenario.world_seed, scenario.tick_count, scenario.users, scenario.departments,
        scenario.products,
    )  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(who)).hexdigest()


def turned(users: UserArrays, ticks: int) -> UserArrays:
    """Returns the users after ``ticks``: their tastes have turned, as within a period."""
    angle = users.turn.astype(np.float64)[:, None] * ticks
    cosine, sine = np.cos(angle), np.sin(angle)
    traits = users.traits.copy()
    width = users.interest_count
    traits[:, :width] = cosine * users.taste + sine * users.other
    traits[:, width : 2 * width] = cosine * users.other - sine * users.taste
    return users._replace(traits=traits)


def new_state(tables: Tables) -> UserState:
    """Returns users who need and remember nothing."""
    users, agents = tables.users.region.shape[0], tables.agents.category.shape[0]
    categories = tables.traffic.need_cdf.shape[0]
    return UserState(
        need=np.zeros((users, categories), np.float32),
        made=np.zeros((users, categories), np.float32),
        made_alone=np.zeros((users, categories), np.float32),
        memory=np.zeros((users, agents, 3), np.float32),
        head=np.zeros((users, 2), np.int32),
    )


def copied(state: UserState) -> UserState:
    """Returns a state of its own arrays."""
    return state._replace(**{name: array.copy() for name, array in state._asdict().items()})


def check_carried(carried: Carried, tables: Tables, period: int) -> None:
    """Checks that a state can start a period of a world.

    Raises:
        BadInput: it is not of the period before, or of a world of another size or other people.
    """
    if carried.period + 1 != period:
        raise BadInput(
            f"carried.period: is {carried.period}; it must be {period - 1}, the one before "
            f"period {period}, for no two periods may share draws"
        )
    for name, wanted in new_state(tables)._asdict().items():
        found = getattr(carried.state, name)
        if found.shape != wanted.shape:
            raise BadInput(
                f"carried.state.{name}: shape {found.shape}; this world needs {wanted.shape}"
            )
    if carried.people != people_of(tables.scenario):
        raise BadInput(
            "carried.people: the state is of other people; /world_seed, /tick_count, /users, "
            "/departments and /products must be those of the world that it comes from"
        )


def save(carried: Carried, path: Path) -> None:
    """Writes a checkpoint: whole, or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            numbers=np.array([carried.period, carried.age]),
            people=np.array(carried.people),
            due=carried.due,
            **carried.state._asdict(),
        )
    partial.replace(path)


def restore(path: Path) -> Carried:
    """Returns what ``save`` wrote.

    Raises:
        BadInput: there is no such file.
        Corrupt: the file is damaged, or none of ``save``.
    """
    try:
        # np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            period, age = found["numbers"].tolist()
            state = UserState(*(found[name] for name in UserState._fields))
            return Carried(period, age, str(found["people"]), state, found["due"])
    except FileNotFoundError as error:
        raise BadInput(f"checkpoint '{path}': there is no such file") from error
    except _DAMAGES as error:
        raise Corrupt(f"checkpoint '{path}': {error}") from error
