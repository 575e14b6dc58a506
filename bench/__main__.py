"""``python -m bench [NAME] [--json]``: measures, as ratios against a baseline of the same run.

The last line of ``--json`` is one JSON object. Benches print what they ran with, so that a figure
can be run again; tests never assert times.
"""

from __future__ import annotations

import argparse
import json
import sys

from bench import calibration, decide, edge, faults, ledger, serving, simulator, sizing, store

BENCHES = {
    "calibration": calibration.run,
    "decide": decide.run,
    "edge": edge.run,
    "faults": faults.run,
    "ledger": ledger.run,
    "serving": serving.run,
    "simulator": simulator.run,
    "sizing": sizing.run,
    "store": store.run,
}


def main() -> int:
    """Runs one bench, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(BENCHES), help="default: all")
    parser.add_argument("--json", action="store_true", dest="as_json")
    parser.add_argument("--rounds", type=int, default=5, help="medians are over these")
    arguments = parser.parse_args()
    names = [arguments.name] if arguments.name else sorted(BENCHES)
    results: dict[str, object] = {}
    for name in names:
        found = BENCHES[name](arguments.rounds)
        for key, value in found.items():
            print(f"{name}.{key}: {value}", file=sys.stderr)
        results.update(found if len(names) == 1 else {name: found})
    if arguments.as_json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
