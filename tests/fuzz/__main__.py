"""`make fuzz MINUTES=n`, or `python -m tests.fuzz --minutes 1 --targets png,npy`: every reader on
inputs made from good ones; exit code 1 where one crashed or hung.

A reader may take an input or refuse it by one sentence; anything else is a finding. Its input is
kept outside of the tree, beside what happened and the command that repeats it."""

import argparse
import itertools
import random
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from tests.fuzz import engine
from tests.fuzz.engine import Result, Target
from tests.fuzz.readers import answers, cards, exported, pictures, raw, weights, words

TARGETS = {
    target.name: target
    for module in (cards, weights, pictures, raw, exported, words, answers)
    for target in module.TARGETS
}
FINDINGS = Path(tempfile.gettempdir()) / "fuzz-findings"
TURN_SECONDS = 15.0  # of a target, before the next one's turn


def fuzz_all(
    targets: list[Target], seconds: float, seed: int, findings: Path, turn_seconds: float
) -> dict[str, Result]:
    """Try all targets in turns until the time is over; each has one turn at least."""
    results = {target.name: Result() for target in targets}
    began = time.monotonic()
    for round_number in itertools.count():
        for target in targets:
            left = seconds - (time.monotonic() - began)
            if round_number and left <= 0:
                return results
            share = seconds / len(targets) if not round_number else turn_seconds
            turn = min(share, turn_seconds)
            found = engine.fuzz(target, turn, seed + round_number, findings)
            results[target.name].add(found)
            if found.crashes or found.hangs:
                print(f"{target.name}: {found.crashes} {found.hangs} hangs", flush=True)
        if time.monotonic() - began >= seconds:
            return results


def print_table(results: dict[str, Result], findings: Path) -> None:
    """What came out, by target and together."""
    head = ("reader", "inputs", "per second", "taken", "answers", "crashes", "kinds", "hangs")
    rows = [
        (name, one.inputs, round(one.inputs / max(one.seconds, 0.01)), one.accepted,
         one.sentences, sum(one.crashes.values()), len(one.crashes), one.hangs)
        for name, one in results.items()
    ]  # fmt: skip
    print(tabulate(rows, head, tablefmt="plain"))
    inputs, crashes, hangs = (sum(row[place] for row in rows) for place in (1, 5, 7))
    kinds = sum(row[6] for row in rows)
    found = f"{crashes} crashes of {kinds} kinds, {hangs} hangs"
    print(f"{inputs} inputs over {len(rows)} readers: {found}")
    if crashes or hangs:
        print(f"their inputs are in {findings}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--targets", default="", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--findings", type=Path, default=FINDINGS)
    parser.add_argument("--repeat", type=Path, help="the input of a finding")
    given = parser.parse_args()
    if given.repeat:
        target = TARGETS[given.repeat.name.rpartition("-")[0]]
        outcome, crash, told = engine.repeat(target, given.repeat.read_bytes())
        print(told or outcome)
        return bool(crash)
    chosen = [TARGETS[name] for name in filter(None, given.targets.split(","))] or [
        *TARGETS.values()
    ]
    print(f"seed {given.seed}", flush=True)
    results = fuzz_all(chosen, given.minutes * 60, given.seed, given.findings, TURN_SECONDS)
    print_table(results, given.findings)
    return any(one.crashes or one.hangs for one in results.values())


if __name__ == "__main__":
    sys.exit(main())
