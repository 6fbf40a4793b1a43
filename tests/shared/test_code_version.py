"""The digest of a step's code: it sees every edit of what runs, and nothing else."""

import os
import shutil

import pytest

from shared.code_version import code_version
from tests.places import ROOT, STEPS


@pytest.fixture
def copy(tmp_path):
    """A copy of the code whose files lie on the disk in another order."""
    for path in sorted(ROOT.glob("shared/**/*"), reverse=True):
        if path.suffix in (".py", ".yaml", ".md", ".j2"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    shutil.copytree(ROOT / "components", tmp_path / "components", dirs_exist_ok=True)
    return tmp_path


def versions(root) -> dict[str, str]:
    return {step: code_version(step, root) for step in STEPS}


def test_a_copy_without_git_has_the_version_of_the_checkout(copy):
    assert versions(copy) == versions(ROOT)
    assert len(set(versions(copy).values())) == len(STEPS)


def append(path, text: str = "\n# edited\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(text)


@pytest.mark.parametrize(
    "file, changed",
    [
        ("components/train/loop.py", ["train"]),
        ("components/train/new/subject.py", ["train"]),
        ("components/train/requirements.txt", ["train"]),
        ("components/benchmark/page/report.html.j2", ["benchmark"]),
        ("shared/networks/layers.py", STEPS),
        ("components/__init__.py", STEPS),
        ("components/train/README.md", []),
        ("components/train/__pycache__/loop.cpython-311.pyc", []),
        ("components/train/.loop.py.swp", []),
        ("components/train/.ipynb_checkpoints/loop.py", []),
        ("shared/pipeline/engines/running.py", []),
        ("shared/recipes/demo.yaml", []),
        ("shared/recipes/values.py", STEPS),
    ],
)
def test_only_steps_that_run_an_edited_file_have_another_version(file, changed, copy):
    before = versions(copy)
    append(copy / file)
    after = versions(copy)
    assert [step for step in STEPS if after[step] != before[step]] == list(changed)


def test_times_do_not_count_but_names_and_places_do(copy):
    before = code_version("train", copy)
    file = copy / "components" / "train" / "loop.py"
    os.utime(file, (1, 1))
    assert code_version("train", copy) == before
    file.rename(file.with_name("loops.py"))
    assert code_version("train", copy) != before
