"""The largest numbers that mean something, of options and of what files say; and what is said of
others."""

from typing import Annotated

from pydantic import Field, ValidationError

MANY = 10**6  # of what one machine does in its life: epochs, rounds, pictures of a page
LARGEST_BATCH = 1 << 16
LONGEST_SIDE = 1 << 16  # pixels
MOST_PIXELS = 1 << 28  # of one frame

Count = Annotated[int, Field(ge=0, lt=2**53)]  # what JSON's numbers hold
BatchSize = Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
BatchSizes = Annotated[tuple[BatchSize, ...], Field(min_length=1, max_length=100)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what random numbers of NumPy take
Feature = Annotated[float, Field(ge=-1e6, le=1e6)]  # of an encoder in [-1, 1], of others not
Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]


def reason_of(error: ValidationError) -> str:
    """Why a value is refused, for people, without a full stop."""
    first = error.errors(include_url=False)[0]
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return reason.partition(", unable to parse")[0].removesuffix(".")  # what it is, not how
