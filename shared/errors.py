"""The one exception that means: the input is refused."""


class InputError(ValueError):
    """Refused before work starts: one sentence with the flag, what was found, and what to do (exit
    code 2)."""
