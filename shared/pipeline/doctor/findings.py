"""What the doctor finds, one row each."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from shared.errors import InputError
from shared.servers import patience_s, plain, said, within


class Finding(NamedTuple):
    """A row: what was looked for, how it is, and what was found or is to be done."""

    what: str
    state: Literal["there", "missing", "not there", "not seen"]
    about: str

    @property
    def is_needed(self) -> bool:
        """Whether nothing works before something is done; else it is only said."""
        return self.state == "missing"


Check = Callable[[], list[Finding]]


def look(what: str, check: Check) -> list[Finding]:
    """What a check finds; a refusal, or no answer in time, is a finding too."""
    try:
        return within(2 * patience_s(), check)
    except InputError as refusal:
        return [Finding(what, "missing", plain(str(refusal)))]
    except TimeoutError as silence:
        return [Finding(what, "missing", f"{said(silence)}: see why it hangs.")]
