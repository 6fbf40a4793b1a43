"""How every step starts, on the command line and in KFP: checked config, MLflow run, refusals,
exit codes."""

import contextlib
import dataclasses
import difflib
import errno
import gc
import inspect
import itertools
import os
import re
import shutil
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, ClassVar, NoReturn, Self, get_type_hints

import tyro
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from shared import tracking
from shared.ascend.environment import keep_operators_on
from shared.bounds import reason_of
from shared.code_version import code_version
from shared.device_names import take_cards
from shared.errors import InputError, WorkFailed, note_call, runnable
from shared.files import room
from shared.files.owned import only_writer
from shared.flags import as_flag, first_paragraph, flag_of, name_of, read_flags, takes_word
from shared.recipes.files import Numbers, read_section
from shared.recipes.words import in_words_of_recipe, owners_of, owners_of_folders
from shared.secrets import restored, without_secrets
from shared.servers import keep_loopback, plain
from shared.terminal import ranks, stopping
from shared.terminal.screen import FittingLines
from shared.workspace.attempts import refused_once
from shared.workspace.inputs import where_they_lie
from shared.workspace.outputs import Stays, output_on

Say = Callable[[str, Any], str]

# Environment of a step of the embedded engine, which looks itself at the code that it starts.
CODE_IS_KNOWN = "PIPELINE_CODE_IS_KNOWN"
HELP = {"-h", "--help", "-H", "--help-verbose"}


class Options(BaseModel):
    """Base of a group of options: frozen, no unknown keys, the docstring under a field is its help
    text.

    The groups that a config inherits have a box each in --help: `class LossOptions` is `loss
    options` there, explained by the first paragraph of its docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CheckOptions(Options):
    """How far the data set is trusted."""

    check_dataset: bool = False
    """Read the data set and its cache to the end before work, and compare them with the SHA-256
    that prepare noted. Sizes, types and checksums are compared at each read in any case."""


Card = Annotated[int, Field(ge=0, lt=1024)]


class CardOptions(Options):
    """Which GPUs or NPUs of this machine."""

    cards: tuple[Card, ...] = Field((), max_length=64)
    """Numbers of the GPUs or NPUs to use, from 0, as nvidia-smi or npu-smi counts them. Empty: all
    that CUDA_VISIBLE_DEVICES or ASCEND_RT_VISIBLE_DEVICES lets be seen; the first is used first."""

    @field_validator("cards")
    @classmethod
    def _ascend(cls, cards: tuple[int, ...]) -> tuple[int, ...]:
        if list(cards) != sorted(set(cards)):  # CANN takes no other order
            raise ValueError("should be different numbers, the smallest first")
        return cards

    @model_validator(mode="after")
    def _are_of_a_device(self) -> Self:
        if self.cards and getattr(self, "device", "auto") == "cpu":
            raise ValueError(
                "--cards names GPUs or NPUs but --device is cpu: leave one of them out"
            )
        return self


def _as_flag_has_it(field: str, value: Any) -> str:
    return f"{as_flag(field)} {value!r}"


class StepConfig(Options):
    """Base of the config of a step, or of a command with many flags."""

    STEP: ClassVar[str]
    OUTPUT: ClassVar[str] = ""  # of a step: the argument that takes the folder which it writes
    WRITES: ClassVar[tuple[str, ...]] = ()  # what it will write there, whose places are tried
    MADE: ClassVar[tuple[str, ...]] = ()  # patterns of what goes there when it is made anew
    APPEARS_WHOLE: ClassVar[bool] = False  # its output takes the place of a hidden folder beside it
    RENAMED: ClassVar[dict[str, str]] = {}  # old name of a field -> its name now
    ASKS_MLFLOW: ClassVar[bool] = False  # of a step: for its own run, and what was before it
    STAYS: ClassVar[Stays | None] = None  # what of its output stays on a workspace, None = nothing
    # Fields that are those of a model to start from, where there is one and nobody says them.
    OF_MODEL: ClassVar[set[str]] = set()

    @property
    def step_name(self) -> str:
        """Name of the step's MLflow run and of its part of a recipe."""
        return self.STEP

    @classmethod
    def check(cls, values: dict[str, Any], say: Say = _as_flag_has_it) -> Self:
        """Build the config. Raises InputError with one sentence that names the flag.

        say: what a field and its value are called in that sentence."""
        for name in values:
            cls.refuse_renamed(as_flag(name))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first, reason = error.errors(include_url=False)[0], reason_of(error)
            if not first["loc"]:  # of several fields together: it names them
                raise InputError(f"{reason}.") from None
            name = str(first["loc"][0])
            if first["type"] == "extra_forbidden":
                raise InputError(
                    f"{cls.STEP} has no option {as_flag(name)}: see `python -m "
                    f"components.{cls.STEP} --help`."
                ) from None
            raise InputError(f"{say(name, first['input'])}: {reason}.") from None

    @classmethod
    def refuse_renamed(cls, flag: str) -> None:
        """Raises InputError for a flag that has another name now, and says which."""
        for old, new in cls.RENAMED.items():
            if flag == as_flag(old):
                raise InputError(f"{flag} has a new name: write {as_flag(new)}.")


# A step in its MLflow run.


def execute(
    run: Callable[..., dict[str, float]],
    config: type[StepConfig],
    numbers: dict[str, Any],
    version: str = "",
    given: dict[str, Any] | None = None,
    workspace: str = "",
    is_tracked: bool = True,
    **folders: Path | str | None,
) -> dict[str, float]:
    """Run a step for KFP, return its figures; a refusal exits with 2.

    Args:
        run: The step's story.
        config: Class of its config, which checks the numbers.
        numbers: Those of the recipe.
        version: Code version that the step is kept under when it is done; "" where it is not kept.
        given: What lies over the recipe's numbers.
        workspace: Folder that all pods share, which keeps what another attempt of the step needs;
            "" = there is none.
        is_tracked: The step logs to MLflow and writes its output here, not on other machines.
        folders: Artifacts and other places, by the parameters of `run`.
    """
    gc.freeze()  # what is loaded stays; an engine has switched the collection off until here
    gc.enable()
    values = numbers | (given or {})
    step = config.model_construct(**values).step_name
    if workspace:
        keep_operators_on(workspace)
    with refusals(config.STEP, workspace, step), stopping.listening(config.STEP):
        _refuse_other_code(config.STEP, version)
        parameters = inspect.signature(run).parameters
        places = {
            name: path if path is None or parameters[name].annotation is str else Path(path)
            for name, path in folders.items()
        }
        with _in_words_of_recipe(config.model_construct(**values), places.values()):
            checked = config.check(values)
            _take_cards(checked)
            places = where_they_lie(places, {config.OUTPUT})
            if not is_tracked:
                with room.said(_options_in(places, checked)):
                    return run(config=checked, **places)
            with (
                room.said(_options_in(places, checked)),
                _on_workspace(workspace, checked, places) as places,
                room.said(_options_in(places, checked)),
            ):
                return run_tracked(run, checked, **places)


@contextlib.contextmanager
def _in_words_of_recipe(config: StepConfig, places: Iterable[Any]) -> Iterator[None]:
    """Say what is refused or fails in the words of whoever started the pipeline."""
    try:
        yield
    except (InputError, WorkFailed) as end:
        step, folders = config.step_name, [place for place in places if isinstance(place, Path)]
        owners = owners_of_folders(folders) | owners_of({step: config})
        raise type(end)(in_words_of_recipe(str(end), owners, step)) from None


@contextlib.contextmanager
def _on_workspace(
    workspace: str, config: StepConfig, folders: Mapping[str, Path | str | None]
) -> Iterator[Mapping[str, Path | str | None]]:
    """The folders of a step, its output on the workspace if there is one."""
    if not workspace or not config.STAYS:
        yield folders
        return
    output = config.OUTPUT
    artifact = Path(folders[output])
    with output_on(workspace, config.step_name, output, artifact, config.STAYS) as place:
        yield {**folders, output: place}


def _take_cards(config: Options | None) -> None:
    """Before anything asks which there are. Raises InputError."""
    if isinstance(config, CardOptions):
        take_cards(config.cards)


def _refuse_other_code(step: str, version: str) -> None:
    """Refuse to run code that is not what the outputs will be kept under: an image built before the
    last edit."""
    if not version or CODE_IS_KNOWN in os.environ:
        return
    if (found := code_version(step)) != version:
        raise InputError(
            f"this image holds other code of {step} ({found}) than the pipeline was compiled from "
            f"({version}): build the image again, or compile from the code that it holds."
        )


def run_tracked(
    run: Callable[..., dict[str, float]], config: StepConfig, **folders: Path | str | None
) -> dict[str, float]:
    """Run a step in its MLflow run, as the only one that writes to its output; return its
    figures."""
    output = Path(folders[config.OUTPUT]) if config.OUTPUT else None
    # MLflow shows a run's parameters above its pictures, and the 70 of a training hide them: in a
    # pipeline its own run has those of all steps.
    params = {} if tracking.PIPELINE in os.environ else config.model_dump()
    with contextlib.ExitStack() as held:
        if output and ranks.is_main():  # the others write nothing
            refuse_overlap(config, folders)
            owned = only_writer(output, as_flag(config.OUTPUT), config.WRITES, config.APPEARS_WHOLE)
            held.enter_context(owned)
        with tracking.step_run(config.step_name, params, output, config.ASKS_MLFLOW):
            return run(config=config, **folders)


def refuse_overlap(config: StepConfig, folders: Mapping[str, Path | str | None]) -> None:
    """Raises InputError where a step would write over what it reads, or into a data set, whose
    folder holds what its manifest says and nothing else."""
    output = Path(folders[config.OUTPUT]).resolve()
    for name, given in folders.items():
        if name == config.OUTPUT or not given or "://" in str(given):
            continue
        place = Path(given).resolve()
        how = ""
        if output == place:
            how = "is"
        elif name == "dataset" and output.is_relative_to(place):
            how = "lies inside"
        elif place.is_relative_to(output):
            top = place.relative_to(output).parts[0]
            how = "is cleared of" if any(fnmatch(top, made) for made in config.MADE) else ""
        if how:
            raise InputError(
                f"{as_flag(config.OUTPUT)} {folders[config.OUTPUT]} {how} {as_flag(name)} {given}: "
                "give a folder elsewhere."
            )


@contextlib.contextmanager
def refusals(name: str, workspace: str = "", step: str = "") -> Iterator[None]:
    """Make a refusal one line that begins with who refuses, and exit code 2; a failure of a known
    reason likewise, and exit code 1.

    workspace: Of a pod that does the step `step`: where it notes its refusal for the next one."""
    sys.excepthook = _show_error
    threading.excepthook = _show_error_of_thread
    try:
        with refused_once(workspace, step):
            yield
    except (InputError, WorkFailed) as end:
        how, code = ("refused", 2) if isinstance(end, InputError) else ("failed", 1)
        sentence = plain(without_secrets(str(end)))  # it may quote a server, or a file's name
        print(f"{name} {how}: {runnable(sentence)}", file=sys.stderr)
        sys.exit(code)
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        place = without_secrets(str(error.filename))[:80]
        print(f"{name} refused: {place} ... leads nowhere ({error.strerror}).", file=sys.stderr)
        sys.exit(2)


def _show_error(kind: type[BaseException], error: BaseException, trace: TracebackType) -> None:
    """What Python shows of an error that nobody caught, without the passwords of addresses."""
    text = "".join(traceback.format_exception(kind, error, trace))
    print(plain(without_secrets(text)), end="", file=sys.stderr)


def _show_error_of_thread(ended: threading.ExceptHookArgs) -> None:
    """The same of a thread."""
    if not issubclass(ended.exc_type, SystemExit):
        _show_error(ended.exc_type, ended.exc_value, ended.exc_traceback)


# A step and its commands on the command line.


@dataclass
class RecipeFlags:
    """Where a step's numbers come from; flags win."""

    recipe: Annotated[str, tyro.conf.arg(prefix_name=False, metavar="NAME|PATH")] = ""
    """Recipe whose section of this step lies under the flags: a built-in name, or a YAML file."""
    recipe_section: Annotated[str, tyro.conf.arg(prefix_name=False)] = ""
    """Which section, where the recipe has two: train_global (taken unless said) or train_local."""


def command_line(
    prog: str,
    step: Callable[..., None] | None,
    commands: dict[str, Callable[..., None]],
    argv: list[str] | None = None,
) -> None:
    """Run `step`, or the one of `commands` that the first words name, such as "offline inputs".
    Without a step there are commands only.

    A function's parameters are its flags, explained by its docstring, which ends with an example.
    One called `config` stands for a flag per field. What a function needs it imports in its body,
    so that --help loads no torch.

    Exit codes: 0 done, 1 failed, 2 refused, 130 stopped by Ctrl-C, 143 by SIGTERM.

    argv: None: those of the program, which this is then all of: signals are its own.
    """
    keep_loopback()
    if argv is not None:
        return _run_command(prog, step, commands, argv)
    note_call()
    with stopping.program(prog.split()[-1].removeprefix("components.")):
        _run_command(prog, step, commands, [restored(word) for word in sys.argv[1:]])


def _run_command(
    prog: str,
    step: Callable[..., None] | None,
    commands: dict[str, Callable[..., None]],
    argv: list[str],
) -> None:
    # The words before the flags, and the commands that begin with them.
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    if takes_word(commands.get(" ".join(words[:-1]))):  # it is no part of the name
        words.pop()
    rest, name = argv[len(words) :], " ".join(words)
    below = {one: commands[one] for one in commands if one.split()[: len(words)] == words}

    # Who speaks, and to whom.
    asks_help = not HELP.isdisjoint(rest)
    out = FittingLines(sys.stdout) if asks_help else sys.stdout
    own_name = step.__name__ if step else prog.split()[-1]
    teller = words[0] if step and below and words else own_name
    prog = runnable(prog)
    with refusals(teller), contextlib.redirect_stdout(out):
        # Words that name no command, but perhaps a few.
        if name not in commands and (words or step is None):
            if below and asks_help:
                print(_listing(prog, below))
                return
            _refuse_command(name, below, commands)

        # Flags to arguments, or the help.
        function = commands[name] if words else step
        try:
            values = _arguments(function, f"{prog} {name}".strip(), rest)
        except SystemExit:  # tyro has printed its help
            if asks_help:
                if commands and not words:
                    print(_listing(prog, commands), end="\n\n")
                print(_example(function))
            raise

        _take_cards(values.get("config"))
        if step:  # of a component, whose folders these are
            values = _where_they_lie(values, get_type_hints(step).get("config"), is_step=not words)
        with (
            stopping.at_work(name or own_name),
            room.said(_options_in(values, values.get("config"))),
        ):
            function(**values)


def _where_they_lie(
    values: dict[str, Any], of_step: type[StepConfig] | None, is_step: bool
) -> dict[str, Any]:
    """The arguments of a step or of a sub-command of it, those in a config too, where they are to
    be read. What the step writes, a sub-command writes or makes complete, but for data sets."""
    config = values.get("config")
    written = {"out", "check_report", getattr(config or of_step, "OUTPUT", "")}
    if not is_step:
        written.discard("dataset")
    if isinstance(config, BaseModel):
        places = where_they_lie(dict(config), written)
        moved = {name: place for name, place in places.items() if place != getattr(config, name)}
        values = values | {"config": config.model_copy(update=moved)}
    return where_they_lie(values, written)


def _options_in(values: dict[str, Any], config: Any) -> dict[str, Any]:
    """Arguments by name, with those that a config holds; what is written to comes first."""
    options = values | (dict(config) if isinstance(config, BaseModel) else {})
    outputs = {getattr(config, "OUTPUT", ""), "out"} & options.keys()
    return {name: options[name] for name in outputs} | options


def _arguments(function: Callable[..., None], prog: str, argv: list[str]) -> dict[str, Any]:
    """What the command line gives a function, its config checked."""
    config = get_type_hints(function).get("config")
    if config is None:
        return read_flags(function, prog, argv)
    for argument in argv:
        config.refuse_renamed(name_of(argument))

    # Of a step, a recipe's section lies under the flags.
    if config.OUTPUT:
        values, numbers = _over_recipe(function, prog, argv, config)
    else:
        values, numbers = read_flags(function, prog, argv), Numbers("")

    # What nobody said the config is not given, so that it knows.
    given = {name_of(argument) for argument in argv}
    read = {name: values.pop(name) for name in config.model_fields}
    flags = {name: flag_of(config, name) for name in read}
    said = {name for name in read if not given.isdisjoint({flags[name], as_flag(f"no_{name}")})}

    def say(name: str, value: Any) -> str:
        place = flags[name] if name in said else numbers.places.get(name, flags[name])
        return f"{place} {value!r}"

    options = numbers.values | {name: read[name] for name in said}
    return values | {"config": config.check(options, say)}


def _over_recipe(
    function: Callable[..., None], prog: str, argv: list[str], config: type[StepConfig]
) -> tuple[dict[str, Any], Numbers]:
    """What the command line gives a step, over the section of the recipe that it names; and what
    that section gives."""
    values = read_flags(function, prog, argv, RecipeFlags)
    recipe, section = values["recipe"], values["recipe_section"]
    numbers = Numbers("")
    if recipe:
        numbers = read_section(recipe, config.STEP, section, config)
        values = read_flags(function, prog, argv, RecipeFlags, numbers.values)
        print(f"{config.STEP}: numbers of recipe {recipe}, {numbers.section}", flush=True)
    elif section:
        raise InputError("--recipe-section is of a recipe: name that with --recipe.")
    for flag in dataclasses.fields(RecipeFlags):
        del values[flag.name]
    return values, numbers


def _refuse_command(name: str, below: Iterable[str], commands: Iterable[str]) -> NoReturn:
    """Raises InputError for the first words of some commands, or none, and for a word of none."""
    close = [] if below else difflib.get_close_matches(name, commands, n=1)
    choice = f"choose one of {', '.join(below or commands)}."
    found = f"{name!r} is no command" if name else "no command was given"
    raise InputError(f"{found}: {f'did you mean {close[0]}?' if close else choice}")


def _listing(prog: str, commands: dict[str, Callable[..., None]]) -> str:
    """What else there is: names and first sentences."""
    width = max(map(len, commands))
    lines = [f"commands (`{prog} COMMAND --help`):"]
    for name, function in commands.items():
        lines.append(f"  {name:{width}}  {first_paragraph(function)}")
    return "\n".join(lines)


def _example(function: Callable[..., None]) -> str:
    """The end of its docstring; a long command goes on in the next line, as a shell has it."""
    text = runnable(textwrap.dedent(inspect.getdoc(function).partition("\nExample:\n")[2]).strip())
    columns, lines = shutil.get_terminal_size().columns, ["example:"]
    for line in text.split("\n"):
        first, *options = re.split(r" (?=--)", line) if len(line) > columns - 4 else [line]
        lines.append(f"  {first}")
        for option in options:
            if len(lines[-1]) + len(option) > columns - 3:
                lines[-1] += " \\"
                lines.append(f"      {option}")
            else:
                lines[-1] += f" {option}"
    return "\n".join(lines)
