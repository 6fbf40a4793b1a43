"""The one command line: flags of functions and configs, commands, help, refusals, exit codes."""

import importlib
import inspect
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_type_hints

import pytest
import tyro
from pydantic import Field, model_validator

from shared.code_version import code_version
from shared.command import Options, StepConfig, command_line, execute
from shared.errors import InputError, WorkFailed
from shared.flags import groups_of, join_repeated, read_flags
from tests.places import ROOT, STEPS

done = []


class ShapeOptions(Options):
    """Layers and
    channels.

    Not shown in the box."""

    ngf: int = Field(64, ge=1)
    """Channels of the first layer."""
    sizes: tuple[int, ...] = (1, 2)
    """Sizes."""


class LearningRateOptions(Options):
    """How fast."""

    learning_rate: float = Field(2e-4, gt=0)
    """Step size."""
    policy: Literal["flat", "linear"] = "flat"
    """Its course."""


# pydantic puts the fields of the last base first, and so does --help.
class PotConfig(LearningRateOptions, ShapeOptions, StepConfig):
    STEP: ClassVar[str] = "pot"
    RENAMED: ClassVar[dict[str, str]] = {"old_sizes": "sizes"}

    glaze: bool = False
    """Glaze it."""

    @model_validator(mode="after")
    def _no_large_flat_ones(self) -> "PotConfig":
        if self.ngf > 100 and self.policy == "flat":
            raise ValueError("--ngf above 100 needs --policy linear")
        return self


def pot(clay: Path, kiln: Path | None = None, *, config: PotConfig) -> None:
    """Make a pot.

    Args:
        clay: What it is made of.
        kiln: Where it is fired.

    Example:
        python -m pot --clay red
    """
    done.append((clay, kiln, config))


def wash(
    cups: tuple[str, ...] = (),
    marks: Annotated[tuple[str, ...], tyro.conf.arg(name="mark")] = (),
    number: int | None = None,
) -> None:
    """Wash cups.

    Args:
        cups: Which.
        marks: Signs on them.
        number: How many.
    """
    if not cups:
        raise InputError("--cups is empty: name some.")
    done.append((cups, marks, number))


COMMANDS = {"wash": wash, "trade buy": wash, "trade sell": wash}


@pytest.fixture(autouse=True)
def usual_signals():
    done.clear()
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def pots(*argv: str) -> None:
    command_line("python -m pot", pot, COMMANDS, list(argv))


def refused_line(capsys, *argv: str) -> str:
    """The one line of a refusal, which is exit code 2."""
    with pytest.raises(SystemExit) as refused:
        pots(*argv)
    out, err = capsys.readouterr()
    assert (refused.value.code, out, err.count("\n"), done) == (2, "", 1, [])
    return err.strip()


def help_of(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as shown:
        pots(*argv, "--help")
    assert not shown.value.code
    return capsys.readouterr().out


def test_flags_of_the_step_become_folders_and_a_checked_config():
    pots("--clay", "red", "--ngf", "8", "--glaze", "--sizes", "3", "4")
    pots("--clay=red", "--kiln", "hot", "--learning_rate", "0.5", "--policy=linear")
    assert done == [
        (Path("red"), None, PotConfig(ngf=8, glaze=True, sizes=(3, 4))),
        (Path("red"), Path("hot"), PotConfig(learning_rate=0.5, policy="linear")),
    ]


def test_a_flag_of_a_list_may_be_repeated():
    pots("wash", "--cups", "a", "b", "--mark", "x", "--cups=c", "--number", "-4", "--mark", "y")
    pots("trade", "buy", "--cups", "d")
    assert done == [(("a", "b", "c"), ("x", "y"), -4), (("d",), (), None)]
    assert join_repeated(["--a_b", "1", "--c", "--a-b", "2"], {"--a-b"}) == "--a-b 1 2 --c".split()
    assert join_repeated(["--c", "1", "--c", "2"], {"--a-b"}) == "--c 1 --c 2".split()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("", "pot refused: --clay is missing: see `python -m pot --help`."),
        ("--cly red", "pot refused: --cly is unknown: did you mean --clay?"),
        ("--clay red blue", "pot refused: blue is unknown: see `python -m pot --help`."),
        ("--clay red --ngf", "pot refused: --ngf was given no value: see `python -m pot --help`."),
        ("--clay red --policy up", "pot refused: --policy 'up': choose one of flat, linear."),
        ("--clay red --ngf 0", "pot refused: --ngf 0: should be greater than or equal to 1."),
        ("--clay red --ngf 101", "pot refused: --ngf above 100 needs --policy linear."),
        ("--clay red --old-sizes 1", "pot refused: --old-sizes has a new name: write --sizes."),
        ("--clay red --old_sizes=1", "pot refused: --old-sizes has a new name: write --sizes."),
        ("wsh --cups a", "pot refused: 'wsh' is no command: did you mean wash?"),
        ("sing", "pot refused: 'sing' is no command: choose one of wash, trade buy, trade sell."),
        ("trade", "trade refused: 'trade' is no command: choose one of trade buy, trade sell."),
        ("trade buy", "trade refused: --cups is empty: name some."),
    ],
)
def test_misuse_is_refused_in_one_sentence(capsys, argv, sentence):
    assert refused_line(capsys, *argv.split()) == sentence


def test_a_number_that_is_none(capsys):
    sentence = refused_line(capsys, "--clay", "red", "--ngf", "many")
    assert sentence.startswith("pot refused: --ngf: invalid literal for int() with base 10: 'many'")
    assert refused_line(capsys, "wash", "--number", "x").startswith("wash refused: --number: ")


def test_old_names_are_refused_in_a_config_too():
    with pytest.raises(InputError, match="^--old-sizes has a new name: write --sizes.$"):
        PotConfig.check({"old_sizes": [1]})
    with pytest.raises(InputError, match="^pot has no option --lid: see"):
        PotConfig.check({"lid": 1})


def test_help_shows_groups_then_commands_and_ends_with_an_example(capsys):
    text = help_of(capsys)
    parts = ["Make a pot.", " options ", "--clay PATH", "--glaze", " shape options "]
    parts += ["Layers and channels.", "--ngf INT", " learning-rate options ", "How fast."]
    parts += ["commands (`python -m pot COMMAND --help`):", "  wash        Wash cups."]
    places = [text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert "Not shown" not in text and "--shape" not in text and "Example" not in text
    assert text.endswith("\nexample:\n  python -m pot --clay red\n")
    assert list(groups_of(PotConfig)) == [ShapeOptions, LearningRateOptions, PotConfig]


def test_help_of_commands(capsys):
    pots("trade", "--help")
    assert capsys.readouterr().out.splitlines() == [
        "commands (`python -m pot COMMAND --help`):",
        "  trade buy   Wash cups.",
        "  trade sell  Wash cups.",
    ]
    text = help_of(capsys, "trade", "sell")
    assert "usage: python -m pot trade sell" in text and "--number INT" in text


def test_kfp_hands_over_strings_and_is_refused_likewise(capsys):
    seen = []

    def run(source: str, clay: Path, kiln: Path | None = None, *, config: PotConfig) -> dict:
        seen.extend([source, clay, kiln, config])
        return {"pots": 1.0}

    assert execute(run, PotConfig, {"ngf": 8.0}, source="s3://x", clay="red", kiln=None) == {
        "pots": 1.0
    }
    assert seen == ["s3://x", Path("red"), None, PotConfig(ngf=8)]

    # What is given lies over the recipe's numbers, the rest of which stay.
    recipe = {"ngf": 8.0, "glaze": True}
    execute(run, PotConfig, recipe, given={"ngf": 4.0}, source="s3://x", clay="red")
    assert seen[-1] == PotConfig(ngf=4, glaze=True)
    with pytest.raises(SystemExit) as refused:
        execute(run, PotConfig, {"ngf": 0}, source="s3://x", clay="red")
    assert refused.value.code == 2
    assert capsys.readouterr().err.startswith("pot refused: --set pot.ngf=0: ")


def test_work_that_failed_for_a_known_reason_is_one_sentence(capsys):
    def run(config: PotConfig) -> dict:
        raise WorkFailed("the pot leaks at its bottom.")

    with pytest.raises(SystemExit) as failed:
        execute(run, PotConfig, {})
    assert failed.value.code == 1
    assert capsys.readouterr().err == "pot failed: the pot leaks at its bottom.\n"


def test_code_that_is_not_what_the_pipeline_was_compiled_from_is_refused(capsys, monkeypatch):
    class TrainOptions(PotConfig):
        STEP: ClassVar[str] = "train"

    run = lambda config: {}  # noqa: E731
    assert execute(run, TrainOptions, {}, code_version("train")) == {}
    with pytest.raises(SystemExit) as refused:
        execute(run, TrainOptions, {}, "0123456789abcdef")
    assert refused.value.code == 2
    sentence = "train refused: this image holds other code of train"
    assert capsys.readouterr().err.startswith(sentence)
    monkeypatch.setenv("PIPELINE_CODE_IS_KNOWN", "true")  # by the embedded engine
    assert execute(run, TrainOptions, {}, "0123456789abcdef") == {}


# The real ones.


@pytest.mark.parametrize("step", STEPS)
def test_help_loads_no_torch(step):
    """Of the step and of every command that its help lists."""
    code = (
        "import contextlib, io, sys\n"
        f"from components.{step}.__main__ import main\n"
        "def show(words):\n"
        "    shown = io.StringIO()\n"
        "    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):\n"
        "        main([*words, '--help'])\n"
        "    return shown.getvalue()\n"
        "listed = show([]).partition('\\ncommands (')[2].partition('\\n\\nexample:')[0]\n"
        "lines = [line for line in listed.splitlines()[1:] if line[2] != ' ']\n"
        "commands = [line.strip().split('  ')[0].split() for line in lines]\n"
        "for words in [[], *commands]:\n"
        "    text = show(words)\n"
        "    assert 'usage: ' in text and '\\nexample:\\n  python -m components.' in text, words\n"
        "print(len(commands), *{'torch', 'onnxruntime', 'mlflow.pytorch'} & set(sys.modules))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    of_step = {"prepare": 2, "train": 1, "cluster": 3, "export": 4, "benchmark": 2}
    assert shown.stdout.split() == [str(of_step[step])]


@pytest.mark.parametrize("step", STEPS)
def test_examples_are_commands_that_would_run(step, monkeypatch):
    module = importlib.import_module(f"components.{step}.__main__")
    given = []
    monkeypatch.setattr(module, "command_line", lambda *of_step: given.append(of_step))
    module.main([])
    ((prog, face, commands, _),) = given
    for name, function in {"": face, **commands}.items():
        example = inspect.getdoc(function).partition("\nExample:\n")[2]
        words = shlex.split(example.replace("\\\n", " "))
        start = f"{prog} {name}".split()
        assert words[: len(start)] == start
        values = read_flags(function, prog, words[len(start) :])
        if config := get_type_hints(function).get("config"):
            config.check({field: values[field] for field in config.model_fields})
