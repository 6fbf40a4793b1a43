"""What can be said of a step before it runs, when the folders that it will read are not there yet:
each `checks.py` says it for its step, the pipeline asks all of them before the first."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from shared.contracts.dataset import DatasetManifest
from shared.errors import InputError

Given = TypeVar("Given")


class Refusals(list[str]):
    """The sentences with which checks refuse."""

    def of(self, check: Callable[..., Given], *arguments: Any, **options: Any) -> Given | None:
        """What a check returns; None where it refuses: its sentence is kept."""
        try:
            return check(*arguments, **options)
        except InputError as refusal:
            self.append(str(refusal))
            return None


@dataclass
class Forecast(Generic[Given]):
    """What a step will need and give."""

    refusals: Refusals = field(default_factory=Refusals)  # what it will need and does not find
    unknown: list[str] = field(default_factory=list)  # what could not be looked at, in sentences
    remarks: list[str] = field(default_factory=list)  # what costs more than it need, in sentences
    found: str = ""  # what was looked at, in a few words
    gives: Given | None = None  # what its folder will say, None = not known
    # Bytes on the disk of the runs, by estimate.
    stay_bytes: float = 0
    passing_bytes: float = 0  # while it runs


@dataclass(frozen=True)
class PreparedData:
    """The data set that is to come: digests and what pixels tell are not in its manifest."""

    manifest: DatasetManifest
    has_cache: bool
    knows_num_labels: bool = True  # else they are some, but not as many as the manifest says
