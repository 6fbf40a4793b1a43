"""What people are told when the input is refused, and how they go on."""

import os


class InputError(ValueError):
    """Refused before work starts: one sentence with the flag, what was found, and what to do (exit
    code 2)."""


def repeat() -> str:
    """What to say to go on with a step that was interrupted: its command, or its pipeline's."""
    if run := os.environ.get("PIPELINE_RUN"):
        return f"`python pipeline.py submit --continue {run}`"
    return "the same command again"
