"""`python -m components.prepare`: raw pictures in, a checked data set out; with --check the check
alone."""

import sys

from components.prepare.check import check
from components.prepare.config import PrepareConfig
from components.prepare.run import run
from shared.command import main, parse, refuse
from shared.errors import InputError


def main_check(argv: list[str]) -> int:
    """Exit code: 0 without problems, 2 with some."""
    values, places = parse(check, PrepareConfig, argv)
    try:
        return 2 if check(config=PrepareConfig.check(values), **places) else 0
    except InputError as refusal:
        refuse(PrepareConfig, refusal)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(main_check([argument for argument in sys.argv[1:] if argument != "--check"]))
    main(run, PrepareConfig)
