"""Every command of a component reads a data set where its location.json says, by every argument
that can name one or what lies in it; what is written is never sought there."""

import functools
import importlib
import inspect
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from shared import command
from shared.command import StepConfig
from shared.contracts.location import Location
from shared.files.digests import sha256_of
from shared.flags import as_flag
from tests.asking import refusal_of_command
from tests.places import STEPS

# Arguments that are written, by step and command; of the others each may name a data set.
WRITTEN = {
    "prepare": {"dataset", "check_report"},
    "prepare demo": {"out"},
    "train": {"model"},
    "train adopt": {"model"},
    "cluster": {"clusters"},
    "cluster exchange read": {"clusters"},
    "cluster exchange maps": {"clusters", "out"},
    "cluster exchange read-maps": {"clusters"},
    "export": {"exported"},
    "export synthesise": {"out"},
    "export compare-norms": {"out"},
    "export offline inputs": {"out", "exported"},  # an export, which never lies elsewhere
    "export offline pictures": {"out"},
    "benchmark": {"report"},
    "benchmark ais_bench inputs": {"out"},
}


def programs() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Step and sub-commands of every component."""
    found = {}

    def note(prog, step, commands, argv=None):
        found[prog.rpartition(".")[2]] = step, commands

    with pytest.MonkeyPatch.context() as patch:
        for step in STEPS:
            main = importlib.import_module(f"components.{step}.__main__")
            patch.setattr(main, "command_line", note)
            main.main([])
    return found


def places_of(function) -> list[str]:
    """The arguments that take a path, those of its config too."""
    hints = get_type_hints(function)
    config = hints.pop("config", None)
    hints |= (
        {name: field.annotation for name, field in config.model_fields.items()} if config else {}
    )
    return [name for name, kind in hints.items() if kind in (Path, Path | None)]


CASES = [
    (step, name, place)
    for step, (run, commands) in programs().items()
    for name, function in {"": run, **commands}.items()
    for place in places_of(function)
]


@pytest.fixture
def artifact(tmp_path) -> Path:
    """What a pod has of a data set that lies on a workspace."""
    (place := tmp_path / "workspace" / "dataset").mkdir(parents=True)
    (place / "test_label").mkdir()
    (place / "manifest.json").write_text("{}")
    (folder := tmp_path / "artifact").mkdir()
    Location(
        workspace=str(place.parent),
        place=str(place),
        run="run-1",
        described_by="manifest.json",
        sha256=sha256_of(place / "manifest.json").hex(),
    ).write(folder)
    return folder


def given_to(step: str, name: str, place: str, folder: Path, monkeypatch) -> Path:
    """What a command gets for an argument, which is named on the command line."""
    run, commands = programs()[step]
    function, got = (commands[name] if name else run), {}
    config = get_type_hints(function).get("config")

    @functools.wraps(function)
    def spy(**values):
        got.update(values)

    if config:  # what it refuses together is not looked at here
        monkeypatch.setattr(
            config, "check", lambda values, say=None: config.model_construct(**values)
        )
    words = [*name.split(), as_flag(place), str(folder)]
    arguments = inspect.signature(function).parameters
    required = {one for one in arguments if arguments[one].default is inspect.Parameter.empty}
    fields = config.model_fields if config else {}
    required |= {one for one, field in fields.items() if field.is_required()}
    for one in required - {place, "config"}:
        words += [as_flag(one), "x"]
    step_spy, commands = (run, {**commands, name: spy}) if name else (spy, commands)
    command._run_command(f"python -m components.{step}", step_spy, commands, words)
    return got[place] if place in got else getattr(got["config"], place)


@pytest.mark.parametrize(("step", "name", "place"), CASES)
def test_every_argument_is_read_where_it_lies(step, name, place, artifact, monkeypatch):
    written = place in WRITTEN.get(f"{step} {name}".strip(), set())
    workspace = artifact.parent / "workspace" / "dataset"
    for inside in ("", "test_label"):
        got = given_to(step, name, place, artifact / inside, monkeypatch)
        assert got == (artifact / inside if written else workspace / inside)
    assert given_to(step, name, place, artifact.parent / "else", monkeypatch).name == "else"


def test_what_lies_in_the_artifact_is_read_there(artifact, monkeypatch):
    (artifact / "test_label").mkdir()
    got = given_to("export", "synthesise", "labels", artifact / "test_label", monkeypatch)
    assert got == artifact / "test_label"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("prepare", ["check-dataset"]),
        ("cluster", ["exchange", "maps", "--clusters", "c"]),
        ("export", ["offline", "inputs", "--out", "o"]),
        ("export", ["offline", "pictures", "--outputs", "o", "--out", "p"]),
        ("export", ["synthesise", "--model", "m", "--out", "o"]),
        ("benchmark", ["--exported", "e", "--model", "m", "--report", "r"]),
    ],
)
def test_data_that_are_gone_are_said_before_work(step, words, artifact, capsys, monkeypatch):
    monkeypatch.chdir(artifact.parent)
    (artifact.parent / "workspace").rename(artifact.parent / "away")
    main = importlib.import_module(f"components.{step}.__main__").main
    sentence = refusal_of_command(capsys, main, *words, "--dataset", artifact)
    assert sentence.startswith(f"--dataset {artifact} lies in ") and "is not there: " in sentence


def test_a_config_is_known_by_its_base():
    """The step's own config says what it writes."""
    for step, (run, _) in programs().items():
        config = get_type_hints(run)["config"]
        assert issubclass(config, StepConfig) and config.OUTPUT in WRITTEN[step]
