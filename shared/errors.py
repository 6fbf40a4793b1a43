"""The one exception that means: the input is refused."""


class InputError(ValueError):
    """Input refused before work starts: one sentence that names the flag, what was found, and what to do (exit code 2)."""
