"""What is made on a server is made once, whatever happens to the call that makes it."""

import time
from collections.abc import Callable
from typing import TypeVar

from shared.pipeline.server.answers import Answer
from shared.pipeline.server.client import PAUSES
from shared.pipeline.server.reasons import NoAnswer
from shared.servers import patience_s

EXISTS = 409
Kind = TypeVar("Kind", bound=Answer)


def create_once(
    create: Callable[[], Kind], find: Callable[[], Kind | None], is_unique: bool = False
) -> Kind:
    """What `create` makes; where its call fails for a passing reason, `find` looks whether it was
    made all the same, before it is made again. After silence it is not: the server may still be at
    work on it.

    Args:
        is_unique: Whether the server takes a name only once: then a second try does no harm.
    """
    for pause in (*PAUSES, None):
        try:
            return create()
        except NoAnswer as failed:
            if failed.status == EXISTS and is_unique and (found := find()):
                return found
            if not (failed.passes or failed.is_silence):
                raise
            last = failed
        try:
            if pause is not None:
                time.sleep(patience_s() * pause)
            if found := find():
                return found
        except NoAnswer as failed:
            raise _unsure(failed) from None
        if pause is None:
            raise last
        if last.is_silence and not is_unique:
            break
    raise _unsure(last)


def _unsure(failed: NoAnswer) -> NoAnswer:
    return NoAnswer(
        f"{str(failed).rstrip('.')}; look there for what was made before you say the same command "
        "again."
    )
