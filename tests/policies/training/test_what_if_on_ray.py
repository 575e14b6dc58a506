"""What if, on Ray: the comparison of one core, byte for byte."""

from __future__ import annotations

from functools import partial

from policies.training.distributed import ray_map
from simulator.scenario import text_of
from simulator.what_if_command import run_simulate


def test_days_on_ray_are_those_of_one_core(tmp_path):
    text, _ = text_of("auctionnet")
    market = tmp_path / "small.toml"
    market.write_text(text.replace("opportunity_count = 500_000", "opportunity_count = 3_000"))
    for name, mapper in (("alone", None), ("ray", partial(ray_map, cpus=2))):
        code = run_simulate(
            str(market), ("pid", "pid,budget=2"), (0,), 3, 5, tmp_path / name, mapper=mapper
        )
        assert code == 0
    for name in ("comparison.json", "report.html"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
