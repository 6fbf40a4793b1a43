"""What we read of the answers of a KFP API server, by v2beta1 of its published description.

Whatever else it says is left aside; an answer that lacks what its kind must have is none."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

OVER = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")

Id = Annotated[str, Field(pattern="^[A-Za-z0-9._-]+$", max_length=300)]  # a part of addresses


def _known(time: Any) -> Any:
    """Servers say 1970 for what has no time yet."""
    return None if str(time).startswith(("1970-", "0001-")) else time


def _aware(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=time.tzinfo or UTC) if time else None


Time = Annotated[datetime | None, BeforeValidator(_known), AfterValidator(_aware)]


class Answer(BaseModel):
    """Base of what is read; a null is as if it were not there."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise ValueError("no object")
        return {name: value for name, value in values.items() if value is not None}


class Nothing(Answer):
    """Of a call that changes something."""


class Health(Answer):
    """Of a server that is up; no other health check has these fields and no others."""

    model_config = ConfigDict(extra="forbid")

    multi_user: bool = False
    pipeline_store: str = ""


class Experiment(Answer):
    experiment_id: Id
    display_name: str = ""


class Pipeline(Answer):
    pipeline_id: Id


class PipelineVersion(Answer):
    pipeline_version_id: Id
    name: str = ""


class Status(Answer):
    """google.rpc.Status: why something failed."""

    message: str = ""


class StateAt(Answer):
    """A state that was reached, with what was wrong then."""

    state: str = ""
    error: Status = Status()


class Child(Answer):
    task_id: str = ""
    pod_name: str = ""


class Task(Answer):
    """A node of the workflow, which are more than the tasks of the graph: see steps.py."""

    task_id: str = ""
    pod_name: str = ""
    display_name: str = ""
    state: str = ""
    start_time: Time = None
    end_time: Time = None
    error: Status = Status()
    state_history: list[StateAt] = []
    child_tasks: list[Child] = []

    @property
    def node(self) -> str:
        """Its name among the nodes: where it has a pod, the pod's."""
        return self.pod_name or self.task_id

    @property
    def complaint(self) -> str:
        return complaint(self.error, self.state_history)


class Details(Answer):
    task_details: list[Task] = []


class Run(Answer):
    run_id: Id
    experiment_id: str = ""
    display_name: str = ""
    description: str = ""
    state: str = ""
    created_at: Time = None
    finished_at: Time = None
    error: Status = Status()
    state_history: list[StateAt] = []
    run_details: Details = Details()

    @property
    def name(self) -> str:
        return self.display_name or self.run_id

    @property
    def ended(self) -> str:
        """How it is over, one of OVER; "" where it is not. A server ends what it was told to
        terminate as failed."""
        was_canceled = any(one.state in ("CANCELING", "CANCELED") for one in self.state_history)
        if self.state == "FAILED" and was_canceled:
            return "CANCELED"
        return self.state if self.state in OVER else ""

    @property
    def seconds(self) -> float:
        """How long it took, or takes until now."""
        return seconds_between(self.created_at, self.finished_at if self.ended else None)

    @property
    def complaint(self) -> str:
        return complaint(self.error, self.state_history)


class CronSchedule(Answer):
    cron: str = ""


class Trigger(Answer):
    cron_schedule: CronSchedule | None = None


class RecurringRun(Answer):
    recurring_run_id: Id
    display_name: str = ""
    description: str = ""
    status: str = ""
    created_at: Time = None
    trigger: Trigger = Trigger()


def complaint(error: Status, history: list[StateAt]) -> str:
    """What was wrong in the end, "" where nobody says."""
    said = [one.error.message for one in history] + [error.message]
    return next((message for message in reversed(said) if message.strip()), "")


def seconds_between(begin: datetime | None, end: datetime | None) -> float:
    """From one to the other, or to now; 0 where it did not begin."""
    end = end or datetime.now(UTC)
    return max(0.0, (end - begin).total_seconds()) if begin else 0.0
