"""Ray tasks: the same results as without, and errors that arrive as themselves."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from market.errors import BadInput, NotReady
from market.kernels import stream, uniform
from policies.training.distributed import ray_cluster, ray_map


def drawn(seed):
    if seed < 0:
        raise BadInput(f"seed is {seed}; it must be >= 0")
    return float(uniform(np.uint64(stream(seed, 1)), 0))


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster(2) as ray:
        yield ray


def test_tasks_give_what_a_loop_gives_in_its_order(cluster):
    found = list(ray_map(drawn, range(20), cpus=2))
    assert found == [drawn(seed) for seed in range(20)]


def test_what_a_task_raises_arrives_as_it_is(cluster):
    with pytest.raises(BadInput, match="seed is -1"):
        list(ray_map(drawn, [1, -1], cpus=2))


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NotReady, match=r"pip install 'lodestone\[research\]'"):
        list(ray_map(drawn, [1], cpus=1))
