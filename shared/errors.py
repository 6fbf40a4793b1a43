"""What people are told when the input is refused, and the commands by which they go on."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

SCRIPT = "pix2pixhd-pipeline"  # of pyproject.toml
PROGRAM = Path(__file__).resolve().parents[1] / "pipeline.py"

# Environment of all that a command of ours starts: how a person calls Python and the pipeline, from
# which folder, and what goes on with the run.
PYTHON, PIPELINE, FOLDER = "PIPELINE_PYTHON", "PIPELINE_COMMAND", "PIPELINE_CALLED_IN"
GOES_ON = "PIPELINE_GOES_ON"


class InputError(ValueError):
    """Refused before work starts: one sentence with the flag, what was found, and what to do (exit
    code 2)."""


class WorkFailed(RuntimeError):
    """Failed after the work, for a reason that is known: one sentence that says what was found
    (exit code 1)."""


def repeat() -> str:
    """What to say to go on with a step that was interrupted: its command, or its pipeline's."""
    if command := os.environ.get(GOES_ON):
        return f"`{command}`"
    return "the same command again"


def runnable(text: str) -> str:
    """A text in which `python pipeline.py` and `python -m components.STEP` are what the person at
    this terminal types for them."""
    commands = {PIPELINE: r"python pipeline\.py\b", PYTHON: r"python(?= -m components)"}
    for name, words in commands.items():
        if called := os.environ.get(name):
            text = re.sub(rf"(?<![\w./-]){words}", lambda _, called=called: called, text)
    return text


def note_call() -> None:
    """Keep how we were called, for `runnable` here and in all that is started from here."""
    # The interpreter: as it was typed, unless a script's first line names it.
    script = Path(sys.argv[0])
    is_script = script.name == SCRIPT
    python = _short(sys.executable) if is_script else shlex.quote(sys.orig_argv[0])
    os.environ.setdefault(PYTHON, python)
    os.environ.setdefault(FOLDER, os.getcwd())

    # The pipeline.
    if is_script:
        pipeline = _short(sys.argv[0])
    elif script.name == PROGRAM.name:
        pipeline = f"{python} {shlex.quote(sys.argv[0])}"
    elif shutil.which(SCRIPT):
        pipeline = SCRIPT
    else:
        is_here = Path(PROGRAM.name).absolute() == PROGRAM
        pipeline = f"{python} {shlex.quote(PROGRAM.name if is_here else str(PROGRAM))}"
    os.environ.setdefault(PIPELINE, pipeline)


def _short(program: str) -> str:
    """A program for a shell: its name alone where that finds it."""
    name = Path(program).name
    return name if shutil.which(name) == program else shlex.quote(program)


def nearby(path: Path) -> str:
    """A path for people, from where they stand: relative where it lies below."""
    here, path = called_in(), path.absolute()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def runs_flag(runs: Path) -> str:
    """ " --runs FOLDER" for a command; "" where it looks there without."""
    runs = runs.resolve()
    return (
        "" if runs == (called_in() / "runs").resolve() else f" --runs {shlex.quote(nearby(runs))}"
    )


def called_in() -> Path:
    """The folder in which a person has called us; a run that goes on works in that of its begin."""
    return Path(os.environ.get(FOLDER) or Path.cwd())
