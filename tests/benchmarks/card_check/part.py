"""`python -m tests.benchmarks.card_check.part NAME --rows FILE --work DIR --device D [--tiny]`: one
part of the check, in this process. Its last line on an error is the reason."""

import argparse
import importlib
import json
import math
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.card_check.frame import Row

MODULES = {
    "om": "compiled",
    "compiled": "speed",
    "graph": "speed",
    "both": "speed",
}  # by the first word of a part; others are called so


@dataclass(frozen=True)
class Given:
    """What a part is told."""

    name: str
    device: str  # npu, cuda or cpu
    tiny: bool
    work: Path  # a folder of its own
    rows: Path

    def say(self, what: str, value, unit: str = "", wanted: str = "", holds=None) -> None:
        """Keep a figure at once, and print it into the log."""
        value = value if isinstance(value, str | int) or math.isfinite(value) else str(value)
        row = Row(what, value, unit, wanted, holds)
        with self.rows.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(row, flush=True)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """A figure that fails is a row that does not hold, and the part goes on."""
        try:
            yield
        except Exception as error:  # whatever a driver, a compiler or an operator raises
            traceback.print_exc()
            self.say(what, f"failed: {reason_of(error)}", holds=False)


def reason_of(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0][:200]
    kind = type(error).__name__
    return first if kind in ("InputError", "WorkFailed") else f"{kind}: {first}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--tiny", action="store_true")
    given = Given(**vars(parser.parse_args()))
    kind = given.name.partition("_")[0]
    module = MODULES.get(kind, kind)
    try:
        importlib.import_module(f"tests.benchmarks.card_check.{module}").run(given)
    except Exception as error:
        traceback.print_exc()
        print(reason_of(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
