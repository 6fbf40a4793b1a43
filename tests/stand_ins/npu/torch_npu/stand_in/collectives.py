"""hccl, the collectives of the device, which are gloo's here."""


def register() -> None:
    """Nothing yet."""
