"""`python -m tests.attack`: lists the attacks; `python -m tests.attack NAME` runs one."""

import argparse
import importlib
import sys
from pathlib import Path

from tests.attack.trying import attack
from tests.places import ROOT


def main() -> None:
    scripts = {
        path.stem: importlib.import_module(f"tests.attack.{path.stem}")
        for path in sorted(Path(__file__).parent.glob("[a-z]*.py"))
    }
    scripts = {name: one for name, one in scripts.items() if hasattr(one, "cases")}
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("name", nargs="?", choices=scripts)
    parser.add_argument("--code", type=Path, default=ROOT, help="the checkout that is attacked")
    options = parser.parse_args()
    if options.name:
        is_good = attack(options.name, scripts[options.name].cases, options.code)
        sys.exit(0 if is_good else 1)
    for name, script in scripts.items():
        print(f"{name:14} {script.__doc__.partition(chr(10) * 2)[0]}")


if __name__ == "__main__":
    main()
