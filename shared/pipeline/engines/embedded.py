"""The embedded engine: every step is a process of this machine, in our own environment."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext

from shared.code_version import code_version
from shared.command import CODE_IS_KNOWN
from shared.pipeline.engines.steps import StepTask
from shared.pipeline.runs import Run
from shared.terminal.screen import Screen


class Embedded:
    """A `Place` that needs nothing."""

    def made_ready(self, run: Run, screen: Screen) -> AbstractContextManager[None]:
        return nullcontext()

    def code_of(self, component: str, compiled: str) -> str:
        """As it is now: it may have been edited since the run began."""
        return code_version(component)

    def command(self, task: StepTask, executor: list[str]) -> tuple[list[str], dict[str, str]]:
        environment = {**os.environ, **task.environment, "_KFP_RUNTIME": "true"}
        environment[CODE_IS_KNOWN] = "true"
        return [sys.executable, *executor], environment

    def explains(self, status: int) -> bool:
        return False
