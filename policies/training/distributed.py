"""``ray_map``: the builtin ``map`` over Ray tasks, with the same results in the same order.

A task is a pure function of its item, so how many run at once, and where, changes nothing but the
time. Needs the extra ``research``.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, TypeVar

from market.errors import NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")

OBJECT_STORE_BYTES: Final = 200 << 20
"""Room for items and results in flight, in shared memory."""

_SETTINGS: Final = {
    # One machine, one user: no token in the home folder, nothing sent to anybody.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # What Ray will do one day; said once a process otherwise.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextlib.contextmanager
def ray_cluster(cpus: int) -> Generator[Any]:
    """Gives the module ``ray`` with a cluster: the one that runs, or one on this machine meanwhile.

    Args:
        cpus: tasks at once, of a cluster that is started here.

    Raises:
        NotReady: Ray is not installed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # noqa: PLC0415 - two seconds, and only here
    except ImportError as error:
        raise NotReady(
            "Ray is not installed: run `pip install 'lodestone[research]'`, or leave --ray away"
        ) from error
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=OBJECT_STORE_BYTES,
        )
    try:
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


def ray_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, cpus: int
) -> Generator[Result]:
    """Yields ``function(item)`` for every item in order, each a Ray task.

    Args:
        function: pure; it and its results travel by cloudpickle.
        items: what it is called with; all tasks are handed out at once.
        cpus: tasks at once, of a cluster that is started here.

    Raises:
        NotReady: Ray is not installed.
        Exception: what ``function`` raised, in the place of its result.
    """
    with ray_cluster(cpus) as ray:
        # Ray takes functions only, and not what is merely callable, such as a partial.
        task = ray.remote(max_retries=0)(_call)
        shared = ray.put(function)
        for result in [task.remote(shared, item) for item in items]:
            yield ray.get(result)


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
