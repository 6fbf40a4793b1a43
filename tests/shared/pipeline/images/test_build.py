"""`make images`, by an engine that a script plays; tests/test_docker.py has a real one."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from shared.code_version import code_version
from shared.command import command_line
from shared.pipeline.images import build
from shared.pipeline.images.named import read_images
from tests.places import ROOT, STEPS

FEW = ("--only", "prepare", "export")
DIGEST = f"sha256:{'2e' * 32}"
SCRIPT = """#!/bin/sh
printf '%s|' "$@" >> {folder}/calls; echo >> {folder}/calls
words="$*"
case "$1" in
  info) {info} ;;
  --version) echo "{version}" ;;
  buildx) [ "$2" = version ] && {{ {buildx}; exit; }}; {build} ;;
  build) {build} ;;
  push) {push} ;;
  image) echo "{identity} 987654321" ;;
esac
"""
DOCKER = dict(info="exit 0", version="Docker version 29.1.3", buildx="exit 1", build="exit 0")
DOCKER |= dict(identity=f"sha256:{'3d' * 32}", push=f"echo '1a: digest: {DIGEST} size: 2162'")
PODMAN = DOCKER | dict(version="podman version 4.3.1", identity="3d" * 32)
PODMAN |= dict(push=f'while [ "$1" != --digestfile ]; do shift; done; printf {DIGEST} > "$2"')


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Puts an engine on PATH, with nothing else but git; `calls` are the words it was given."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(build.shutil, "which", lambda name: there.get(name))
    monkeypatch.delenv("MAKELEVEL", raising=False)
    there: dict[str, str] = {}

    class Engine:
        @staticmethod
        def put(name: str = "docker", **behaviour) -> None:
            script = SCRIPT.format(folder=tmp_path, **(DOCKER | behaviour))
            (tmp_path / "bin" / name).write_text(script)
            (tmp_path / "bin" / name).chmod(0o755)
            there[name] = str(tmp_path / "bin" / name)

        @staticmethod
        def calls(*first: str) -> list[list[str]]:
            lines = (tmp_path / "calls").read_text().splitlines()
            found = [line.rstrip("|").split("|") for line in lines]
            return [words for words in found if words[: len(first)] == [*first]]

    return Engine


@pytest.fixture
def images(tmp_path, capfd):
    """Builds; returns what the file says, or the exit code and the last line."""

    def images(*words: str) -> dict | tuple[int, str]:
        (file := tmp_path / "images.json").unlink(missing_ok=True)
        try:
            command_line("images", build.images, {}, ["--out", str(file), *words])
        except SystemExit as end:
            assert not file.exists(), "nothing is noted of what was not built"
            return end.code, capfd.readouterr().err.splitlines()[-1]
        assert f"wrote {file}" in capfd.readouterr().out
        return json.loads(file.read_text())

    return images


@pytest.mark.parametrize("name, behaviour", [("docker", DOCKER), ("podman", PODMAN)])
def test_what_was_pushed_is_noted_by_the_digest_that_the_registry_took(
    name, behaviour, engine, images, tmp_path
):
    engine.put(name, **behaviour)
    noted = images(*"--device cuda --registry registry.example/team/ --tag v1".split(), *FEW)
    assert noted["device"] == "cuda" and len(noted["revision"].removesuffix("-dirty")) == 40
    assert noted["images"]["export"] == {
        "name": "registry.example/team/pix2pixhd-export:v1",
        "id": f"sha256:{'3d' * 32}",
        "digest": DIGEST,
        "code_version": code_version("export"),
        "size_bytes": 987654321,
    }
    assert [words[-1] for words in engine.calls("push")] == [
        f"registry.example/team/pix2pixhd-{step}:v1" for step in ("prepare", "export")
    ]
    assert read_images(str(tmp_path / "images.json")) == {
        step: f"registry.example/team/pix2pixhd-{step}@{DIGEST}" for step in ("prepare", "export")
    }


def test_an_image_says_what_it_is_and_has_the_code_of_its_step(engine, images):
    engine.put()
    noted = images("--device", "npu", "--build-args=--build-arg TORCH=2.12.0 --pull", *FEW)
    commit, _, dirty = noted["revision"].partition("-")
    tag = f"{commit[:12]}{f'-dirty-{build._changes()}' if dirty else ''}-npu"
    assert noted["images"]["export"]["name"] == f"pix2pixhd-export:{tag}"
    assert not noted["images"]["export"]["digest"] and not engine.calls("push")

    # The words of a person come before ours; a step without torch needs no CANN.
    export = next(words for words in engine.calls("build") if "COMPONENT=export" in words)
    prepare = next(words for words in engine.calls("build") if "COMPONENT=prepare" in words)
    assert export[1:4] == ["--build-arg", "TORCH=2.12.0", "--pull"]
    assert export[-2:] == ["docker/npu.Dockerfile", "."]
    assert prepare[-2:] == ["docker/cpu.Dockerfile", "."]
    assert "pix2pixhd-export:npu" in export and "pix2pixhd-prepare:npu" in prepare

    labels = [words for words in export if words.startswith(("org.opencontainers", "pix2pixhd."))]
    labels = dict(word.split("=", 1) for word in labels)
    when = ["git", "-C", str(ROOT), "show", "-s", "--format=%cI"]
    when = subprocess.run(when, capture_output=True, text=True).stdout.strip()
    assert labels == {
        "org.opencontainers.image.title": "pix2pixhd-export",
        "org.opencontainers.image.version": "0.1.0",
        "org.opencontainers.image.revision": noted["revision"],
        "org.opencontainers.image.created": when,
        "pix2pixhd.code-version": code_version("export"),
    }


def test_every_step_and_the_launcher_get_an_image(engine, images):
    engine.put()
    assert images("--tag", "1")["images"].keys() == {*STEPS, "train_on_nodes"}
    launcher = next(words for words in engine.calls("build") if words[-4].endswith("nodes:cpu"))
    assert "COMPONENT=train" in launcher
    assert "REQUIREMENTS=components/train/nodes/requirements.txt" in launcher


def test_buildkit_leaves_the_image_in_the_engine(engine, images):
    engine.put(buildx="exit 0")
    images("--only", "prepare")
    (words,) = engine.calls("buildx", "build")
    assert words[2] == "--load" and not engine.calls("build")


def test_the_engine_that_answers_is_taken(engine, images):
    engine.put("docker", info="echo 'Cannot connect to the daemon' >&2; exit 1")
    assert images() == (
        2,
        "images refused: no container engine answers (`docker info` says 'Cannot connect to the "
        "daemon'; podman is not on PATH): install Docker or Podman, or start its service, such as "
        "by `sudo systemctl start docker`.",
    )
    engine.put("podman", **PODMAN)
    assert images("--only", "prepare")["images"].keys() == {"prepare"}
    code, said = images("--engine", "docker")
    assert code == 2 and "no container engine answers (`docker info` says" in said


def test_an_engine_that_hangs_is_not_waited_for(engine, images, monkeypatch):
    monkeypatch.setenv("PIPELINE_PATIENCE_S", "0.2")
    engine.put(info="exec sleep 60")
    assert images() == (
        2,
        "images refused: `docker info` gives no answer in 0.2 s: look why it hangs.",
    )


@pytest.mark.parametrize(
    "behaviour, said",
    [
        (
            dict(build="echo 'write /x: no space left on device'; echo failed; exit 1"),
            "there is no room to build the image of prepare: make some where the engine keeps its "
            "images (`docker system df`, `docker image prune`).",
        ),
        (
            dict(build="echo 'ERROR: no torch==9' >&2; exit 1"),
            "the image of prepare was not built: ERROR: no torch==9",
        ),
        (
            dict(push="echo 'denied: access to the resource is denied'; exit 1"),
            "registry.example did not let you push registry.example/pix2pixhd-prepare:1 (denied: "
            "access to the resource is denied): log in with `docker login registry.example`, as "
            "somebody who may, and say the same again.",
        ),
        (
            dict(push="echo 'dial tcp: lookup registry.example: no such host'; exit 1"),
            "registry.example/pix2pixhd-prepare:1 was not pushed: dial tcp: lookup "
            "registry.example: no such host",
        ),
        (
            dict(push="echo done"),
            "registry.example/pix2pixhd-prepare:1 was pushed, but docker does not say its digest.",
        ),
    ],
)
def test_what_an_engine_cannot_do_is_one_sentence(behaviour, said, engine, images):
    engine.put(**behaviour)
    assert images("--registry", "registry.example", "--tag", "1") == (1, f"images failed: {said}")


def test_code_that_changes_under_a_build_is_not_noted_for_what_it_was(engine, images, monkeypatch):
    engine.put()
    versions = iter(["before", "after"])
    monkeypatch.setattr(build, "code_version", lambda _: next(versions))
    code, said = images("--only", "train")
    assert code == 1 and "the code of train was changed while its image was built" in said


@pytest.mark.parametrize(
    "words, said",
    [
        (["--device", "gpu"], "--device gpu: choose cpu, cuda, npu."),
        (["--engine", "nerdctl"], "--engine nerdctl: choose docker or podman."),
        (["--only", "fingerprint"], "--only fingerprint: choose of prepare, train, "),
        (["--registry", "team"], "--registry team names no registry: write host and folder"),
        (["--registry", "https://me:pa55word@r.example"], "--registry holds a URL or credentials"),
        (["--tag", "a/b"], "--tag a/b: a tag has up to 128 letters, digits,"),
        (["--build-args", "'--pull"], "--build-args '--pull: no closing quotation."),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_built(words, said, engine, images):
    engine.put()
    code, line = images(*words)
    assert code == 2 and line.startswith(f"images refused: {said}") and "pa55" not in line


def test_make_is_answered_in_its_own_words():
    make = ["make", "--no-print-directory", "-o", ".venv/ready", "images", "DEVICE=gpu"]
    make.append(f"BIN={shlex.quote(str(Path(sys.executable).parent))}")
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2
    assert done.stderr.startswith("images refused: DEVICE=gpu: choose cpu, cuda, npu.\n")
