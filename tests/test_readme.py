"""The commands of the READMEs, run as they stand there."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline import CONFIGS
from shared.flags import as_flag, groups_of, help_texts
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.recipes import read_recipe
from tests.calling import recording
from tests.places import ROOT, STEPS, config_of


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def run_block(block: str, runs: Path) -> subprocess.CompletedProcess:
    """Run the lines with `runs/` elsewhere, in the environment of the tests."""
    lines = block.replace("source .venv/bin/activate\n", "").replace("runs/", f"{runs}/")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-ec", lines],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=900,
    )


def test_each_step_alone_as_the_readme_says(tmp_path):
    (block,) = [block for block in blocks(ROOT / "README.md") if "components.prepare demo" in block]
    result = run_block(block, tmp_path)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert (tmp_path / "report" / "report.html").is_file()
    assert "from the previous stage: latest_net_G.pth" in result.stdout


def test_examples_of_the_steps_readmes(tmp_path):
    """In this process: programs they are in the test above."""
    for step in STEPS:
        block = blocks(ROOT / "components" / step / "README.md")[0]
        assert f"python -m components.{step} " in block
        for line in block.replace("\\\n", "").replace("runs/", f"{tmp_path}/").splitlines():
            words = shlex.split(line, comments=True)
            assert words[:2] == ["python", "-m"], line
            try:
                importlib.import_module(f"{words[2]}.__main__").main(words[3:])
            except SystemExit as end:
                assert end.code == 0, line


VERBS = {"compile", "preflight", "submit", "nightly", "schedule", "ui"}


def pipeline_commands() -> list[list[str]]:
    """Every `pipeline.py COMMAND ...` of the READMEs and recipes, continued lines joined."""
    places = [*ROOT.glob("*.md"), *ROOT.glob("docker/**/*"), *ROOT.glob("shared/recipes/*.yaml")]
    text = "\n".join(path.read_text() for path in places if path.is_file())
    text = re.sub(r"\\\n[#\s]*", "", text)
    found = re.findall(
        r"pipeline\.py ((?:compile|preflight|submit|nightly|schedule|ui)[^\n`>|)]*)", text
    )
    return [
        shlex.split(line.replace("[", "").replace("]", "").replace("...", "")) for line in found
    ]


def test_commands_of_the_pipeline_have_flags_recipes_and_fields_that_exist(capsys):
    commands = pipeline_commands()
    names = {words[0] for words in commands}
    assert (
        names == {"compile", "preflight", "submit", "nightly", "schedule", "ui"}
        and len(commands) >= 10
    )
    usage = {}
    for name in names:
        with pytest.raises(SystemExit, match="^0$"):
            pipeline.main([name, "--help"])
        usage[name] = capsys.readouterr().out
    for name, *words in commands:
        for flag in filter(lambda word: word.startswith("--"), words):
            assert re.search(rf"{flag}[ ,]", usage[name]), f"{name} has no {flag}"
        recipe = words[words.index("--recipe") + 1] if "--recipe" in words else "demo"
        overrides = tuple(word for word in words if re.fullmatch(r"[a-z_]+\.\w+=\S+", word))
        if recipe != "R":
            parameters = read_recipe(recipe, CONFIGS, overrides)
            assert parameters


CLUSTER_PAGE = ROOT / "docs" / "from_laptop_to_cluster.md"


def test_the_command_line_takes_every_command_of_the_page_on_clusters(monkeypatch):
    """As it is written there; the verbs are recorded, and nothing is started."""
    monkeypatch.chdir(ROOT)
    asked = []
    monkeypatch.setattr(pipeline, "command_line", recording(asked))
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in "".join(blocks(CLUSTER_PAGE)).replace("\\\n", "").splitlines():
        match shlex.split(line, comments=True):
            case ["python", "pipeline.py", *words]:
                pipeline.main(words)
            case ["make", target, *_]:
                assert target in targets, line
            case _:
                assert line.startswith(("python -m components.prepare demo ", "kubectl cp ")), line
    assert len(asked) >= 6

    # Recipes and their numbers, and what a cluster has.
    for values in asked:
        values |= dict(values.pop("config", ()))
        read_recipe(values.get("recipe", "demo"), CONFIGS, values.get("overrides", ()))
        if values.get("cluster"):
            assert read_cluster(values["cluster"]).accelerator


def test_the_pages_table_of_parameters_is_that_of_a_compiled_pipeline():
    table = CLUSTER_PAGE.read_text().partition("| parameter |")[2].split("\n\n")[0]
    rows = re.findall(r"^\| (`.*) \| (\w+) \|", table, re.MULTILINE)
    found = {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    inputs = pipeline.build("demo", read_recipe("demo", CONFIGS)).component_spec.inputs
    kinds = {"String": "string", "Integer": "integer", "Dict": "JSON"}
    assert found == {name: kinds[one.type] for name, one in inputs.items()}


@pytest.mark.parametrize("step", STEPS)
def test_flag_tables_say_what_the_help_says(step):
    config = config_of(step)
    text = (ROOT / "components" / step / "README.md").read_text()
    table = text[text.index("| flag ") :].split("\n\n")[0]
    rows = re.findall(r"^\| `(--[\w-]+)`[^|]*\|[^|]*\| (.*) \|$", table, re.MULTILINE)
    helps = {
        as_flag(name): help_texts(group)[name]
        for group, names in groups_of(config).items()
        for name in names
    }
    assert [flag for flag, _ in rows] == list(helps)
    for flag, text in rows:
        assert text.replace("`", "") == helps[flag].replace("`", ""), flag


def test_files_that_the_readmes_name_exist():
    readmes = [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("components/*/README.md")]
    readmes += ROOT.glob("docs/*.md")
    for readme in readmes:
        for target in re.findall(r"\]\(([^)#:]+)\)", readme.read_text()):
            assert (readme.parent / target).exists(), f"{readme}: {target}"


def facts_of(section: str) -> dict[str, list]:
    """What a translation leaves as it is."""
    lines = section.splitlines()
    rows = [line for line in lines if line.startswith("|")]
    prose = re.sub(r"^```.*?^```", "", section, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)]*)\)", prose)
    return {
        "level": re.findall(r"^#+", section),
        "commands": re.findall(r"^```(?:sh|python)\n.*?^```", section, re.DOTALL | re.MULTILINE),
        "code": sorted(" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)),
        "columns": [row.count("|") for row in rows],
        "figures": [sorted(re.findall(r"\d+(?:[.,]\d+)*", row.replace("，", " "))) for row in rows],
        # Headings of this page have other names in another language.
        "links": sorted(target for target in targets if not target.startswith("#")),
    }


def test_the_chinese_readme_has_the_commands_tables_and_figures_of_the_english_one():
    english, chinese = (
        re.split(r"^(?=#+ )", (ROOT / name).read_text(), flags=re.MULTILINE)[1:]
        for name in ("README.md", "README.zh-CN.md")
    )
    # Each names the other on its first page.
    assert "](README.zh-CN.md)" in english[0] and "](README.md)" in chinese[0]
    english[0] = english[0].replace("](README.zh-CN.md)", "](README.md)")
    for ours, theirs in zip(english, chinese, strict=True):
        assert facts_of(theirs) == facts_of(ours), ours.partition("\n")[0]
        assert re.search("[一-鿿]", theirs), ours.partition("\n")[0]
