"""What each operator takes on a chip."""


def register() -> None:
    """Nothing yet."""
