"""How every step starts, on the command line and in KFP: check the config, open the MLflow run,
refuse with exit 2."""

import dataclasses
import inspect
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, Self

import tyro
from pydantic import BaseModel, ConfigDict, ValidationError

from shared import tracking
from shared.errors import InputError


class StepConfig(BaseModel):
    """Base of a step's config: frozen, no unknown keys, the docstring under a field is its help
    text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    STEP: ClassVar[str]

    @property
    def step_name(self) -> str:
        """Name of the step's MLflow run and of its part of a recipe."""
        return self.STEP

    @classmethod
    def check(cls, values: dict[str, Any]) -> Self:
        """Build the config. Raises InputError with one sentence that names the flag."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
            if not first["loc"]:  # of several fields together: it names them
                raise InputError(f"{reason}.") from None
            flag = "--" + str(first["loc"][0]).replace("_", "-")
            if first["type"] == "extra_forbidden":
                raise InputError(
                    f"{cls.STEP} has no option {flag}: see `python -m components.{cls.STEP} "
                    "--help`."
                ) from None
            raise InputError(f"{flag} {first['input']!r}: {reason}.") from None


def main(
    run: Callable[..., dict[str, float]], config: type[StepConfig], argv: list[str] | None = None
) -> NoReturn:
    """`python -m components.<step>`: one flag per folder and config field; exit 0 done, 1 failed, 2
    refused."""
    values, folders = parse(run, config, argv)
    execute(run, config, values, **folders)
    sys.exit(0)


def parse(
    run: Callable[..., Any], config: type[StepConfig], argv: list[str] | None
) -> tuple[dict[str, Any], dict[str, Path | str | None]]:
    """The command line as values of the config, unchecked, and `run`'s folders."""
    arguments = tyro.cli(_flags(run, config), prog=f"python -m components.{config.STEP}", args=argv)
    values = dataclasses.asdict(arguments)
    return values, {name: values.pop(name) for name in _folders(run)}


def execute(
    run: Callable[..., dict[str, float]],
    config: type[StepConfig],
    values: dict[str, Any],
    **folders: Path | str | None,
):
    """Check `values`, run the step in its MLflow run, return its figures; a refusal exits with
    2."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        checked = config.check(values)
        with tracking.step_run(checked.step_name, checked.model_dump()):
            return run(
                config=checked, **{name: _place(run, name, path) for name, path in folders.items()}
            )
    except InputError as refusal:
        refuse(config, refusal)


def _stop(signum: int, _frame) -> NoReturn:
    """Leave by an exception, so that the MLflow run is closed; a second signal must not break that
    off."""
    signal.signal(signum, signal.SIG_IGN)
    sys.exit(128 + signum)


def refuse(config: type[StepConfig], refusal: InputError) -> NoReturn:
    print(f"{config.STEP} refused: {refusal}", file=sys.stderr)
    sys.exit(2)


def _place(run: Callable, name: str, path: Path | str | None) -> Path | str | None:
    """A folder as `run` wants it: a Path, or a str where it may be a URL."""
    return path if path is None or _folders(run)[name].annotation is str else Path(path)


def _folders(run: Callable) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in inspect.signature(run).parameters.items() if name != "config"}


def _flags(run: Callable, config: type[StepConfig]) -> type:
    """A dataclass of all flags; the help of the folders stands in `run`'s docstring.

    pydantic checks the values later, in `StepConfig.check`, so that a refusal is one sentence.
    """
    fields = []
    for name, parameter in _folders(run).items():
        required = parameter.default is inspect.Parameter.empty
        kind = parameter.annotation if required else Path | None
        path = Annotated[kind, tyro.conf.arg(metavar="PATH")]
        fields.append((name, path) if required else (name, path, None))
    for name, field in config.model_fields.items():
        annotation = tyro.conf.arg(help=" ".join((field.description or "").split()))
        fields.append(
            (
                name,
                Annotated[field.annotation, annotation],
                dataclasses.field(default=field.default),
            )
        )
    return dataclasses.make_dataclass(
        "Flags", fields, kw_only=True, namespace={"__doc__": inspect.getdoc(run)}
    )
