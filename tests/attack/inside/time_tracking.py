"""How long a command was held by what it tells MLflow, in seconds, into the file HELD_LOG. To be
run in it as a `Case.inside`."""

import functools
import os
import time

from shared import tracking

CALLS = ("log_metrics", "log_figures", "log_headline", "log_params", "set_tags", "log_picture")
CALLS += ("log_files", "log_dataset", "run_id", "links", "_close")


def watch(log: str) -> None:
    held_s, depth = 0.0, 0

    def timed(function):
        @functools.wraps(function)
        def call(*arguments, **options):
            nonlocal held_s, depth
            began, depth = time.monotonic(), depth + 1
            try:
                return function(*arguments, **options)
            finally:
                depth -= 1
                if depth == 0:
                    held_s += time.monotonic() - began
                    with open(log, "w") as file:
                        file.write(f"{held_s:.3f}")

        return call

    for name in CALLS:
        setattr(tracking, name, timed(getattr(tracking, name)))


watch(os.environ["HELD_LOG"])
