"""What images hold, and for which device they are, is known before anything runs: by the registry,
by the file of `make images`, by their tags."""

import json
import subprocess

import pytest

import pipeline
from shared.code_version import code_version
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.images import build
from shared.pipeline.images.named import CODE, image_name, refuse_other_device, with_images
from shared.pipeline.images.registry import CODE_LABEL, check_images, look_at
from shared.pipeline.recipes import read_recipe
from tests.asking import refusal_of_command
from tests.calling import call
from tests.shared.pipeline.images.fake_registry import registry

HOW = [{}, {"is_index": True}, {"wants_token": True}, {"is_elsewhere": True, "wants_token": True}]
DIGEST = f"sha256:{'1f' * 32}"


def images_of(tag: str = "1", **other: str | None) -> dict[str, dict[str, str] | None]:
    """All images with the label of their code, or with another; None: without one."""
    codes = {component: code_version(folder) for component, folder in CODE.items()} | other
    return {
        image_name(component, "team/p", tag): {CODE_LABEL: code, "other": "x"} if code else None
        for component, code in codes.items()
    }


@pytest.mark.parametrize("how", HOW)
def test_a_registry_is_asked_what_images_hold(how):
    with registry(images_of(train="0" * 16, export=None), **how) as host:
        steps = ["fingerprint", "prepare", "train_global", "train_local", "export"]
        steps += ["train_on_nodes", "train_global (nodes)"]
        components = ["prepare", "prepare", "train", "train", "export", "train_on_nodes", "train"]
        names = [image_name(component, f"{host}/team/p", "1") for component in components]
        found = look_at(dict(zip(steps, names, strict=True)))
    there, other = ("there",) * 2, ("other code",) * 2
    assert tuple(one.state for one in found) == (*there, *other, "unknown", "there", "other code")
    assert str(found[2]) == (
        f"train_global: image {host}/team/p-train:1 holds other code of train ({'0' * 16}) than "
        f"this checkout ({code_version('train')}): build the images again, or check out what they "
        "hold."
    )
    assert found[4].said == f"does not say which code it holds ({CODE_LABEL})"


def test_images_are_looked_for_in_their_registries():
    there = {CODE_LABEL: code_version("prepare")}
    images = {"team/there:1.0": there, "team/private:1": "private"}
    with registry(images, wants_token=True) as host:
        names = {
            "prepare": f"{host}/team/there:1.0",
            "train_global": f"{host}/team/there:2.0",
            "train_local": f"{host}/team/private:1",
            "export": "pix2pixhd-export:cpu",
            "benchmark": "127.0.0.1:1/team/there:1.0",
        }
        lacking, unknown = check_images(names)
    (gone,), (private, local, nowhere) = lacking, unknown
    assert gone.startswith(f"train_global: image {host}/team/there:2.0 is not in {host}: build")
    assert "train_local" in private and "without a login (HTTP 403)" in private
    assert local.startswith("export: image pix2pixhd-export:cpu names no registry")
    assert nowhere.startswith("benchmark") and "is not reached from here" in nowhere


def test_what_cannot_be_asked_is_no_reason_to_refuse():
    lacking, unknown = check_images({"train_local": "127.0.0.1:9/p-train:1"})
    assert lacking == [] and "is not reached from here" in unknown[0]


def test_compile_refuses_images_of_other_code(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with registry(images_of(cluster="0" * 16)) as host:
        given = f"{host}/team/p:1"
        said = refusal_of_command(capsys, pipeline.main, "compile", "--images", given)
    assert said.startswith(f"--images {given}: cluster: image {host}/team/p-cluster:1 holds other ")
    assert not (tmp_path / "pipeline.yaml").exists()

    # The same code, some of it unknown, and nobody who can be asked.
    with registry(images_of(export=None)) as host:
        pipeline.main(["compile", "--images", f"{host}/team/p:1"])
        said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("not looked at: ")]
    assert len(lines) == 1 and lines[0].startswith(f"not looked at: export: image {host}/team/p-ex")
    pipeline.main(["compile", "--images", f"{host}/team/p:1"])
    assert capsys.readouterr().err.count("is not reached from here") == len(CODE)
    assert (tmp_path / "pipeline.yaml").exists()


def test_submit_refuses_images_of_other_code_before_the_server_hears_of_it(kfp_server, tmp_path):
    with registry(images_of(train="0" * 16), wants_token=True) as host:
        words = ["submit", "--raw-data", "s3://bucket/raw", "--host", kfp_server.host]
        done = call(*words, "--images", f"{host}/team/p:1", cwd=tmp_path)
    assert done.returncode == 2 and not kfp_server.runs
    lines = [line for line in done.stderr.splitlines() if "holds other code of train" in line]
    assert [line.partition(":")[0] for line in lines] == ["train_global", "train_local"]


# Devices.

CUDA = """
accelerator: {resource: nvidia.com/gpu}
images: {prepare: r.example/p-prepare:1-cpu, train: r.example/p-train:1-cpu}
"""


@pytest.fixture
def cluster(tmp_path):
    (file := tmp_path / "c.yaml").write_text(CUDA)
    return file


def built(folder, device: str) -> str:
    image = {"id": DIGEST, "digest": DIGEST, "size_bytes": 1}
    images = {
        component: image | dict(name=f"r.example/p-{component}:v1", code_version=code_version(one))
        for component, one in CODE.items()
    }
    about = {"format": 1, "device": device, "revision": "0123", "images": images}
    (file := folder / f"images.{device}.json").write_text(json.dumps(about))
    return str(file)


@pytest.mark.parametrize("verb", ["compile", "submit", "schedule"])
@pytest.mark.parametrize("given", ["file", "r.example/p:0123-cpu", "r.example/p:npu", ""])
def test_images_for_another_device_than_the_clusters_are_refused(
    verb, given, cluster, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    given = built(tmp_path, "cpu") if given == "file" else given
    words = [verb, "--cluster", cluster, *(["--images", given] if given else [])]
    if verb != "compile":
        words += ["--host", "http://127.0.0.1:9", "--raw-data", "s3://bucket/raw"]
    words += ["--cron", "@daily"] if verb == "schedule" else []
    said = refusal_of_command(capsys, pipeline.main, *words)
    assert said.startswith(
        f"--images {given}: " if given else "--cluster: images.train: r.example/"
    )
    device = "npu" if "npu" in given else "cpu"
    assert f" is for {device}, but train_global computes on cuda (nvidia.com/gpu of --" in said
    assert "`make images DEVICE=cuda`" in said


@pytest.mark.parametrize(
    ("images", "file", "changes"),
    [
        ("r.example/p:0123-cuda", CUDA, {}),
        ("r.example/p:cuda-cpu-1", CUDA, {}),  # says both
        ("r.example/cpu/p:v1", CUDA, {}),  # no tag
        ("r.example/p:1-cpu", "", {}),  # nobody asks for a card
        ("r.example/p:1-cpu", CUDA, {"device": "cpu"}),
    ],
)
def test_images_that_may_be_for_the_device_are_taken(images, file, changes, tmp_path):
    (tmp_path / "c.yaml").write_text(file or "mlflow_uri: http://mlflow:5000")
    words = [f"{step}.{name}={value}" for name, value in changes.items() for step in
             ("train_global", "train_local", "cluster", "benchmark")]  # fmt: skip
    recipe = read_recipe("demo", pipeline.CONFIGS, tuple(words))
    refuse_other_device(recipe, with_images(read_cluster(tmp_path / "c.yaml"), images), images)


def test_a_file_for_another_card_is_refused_whatever_the_tags_say(tmp_path, cluster, capsys):
    words = ("compile", "--cluster", cluster, "--images", built(tmp_path, "npu"))
    said = refusal_of_command(capsys, pipeline.main, *words)
    assert " is for npu, but train_global computes on cuda" in said


# Tags.


def test_the_tag_of_a_checkout_with_changes_is_that_of_its_content(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        who = ["-c", "user.name=me", "-c", "user.email=me@here", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(build, "ROOT", tmp_path)
    git("init", "-q")
    (tmp_path / ".gitignore").write_text("*.json\n")
    (tmp_path / "code.py").write_text("1\n")
    git("add", "-A")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert build._revision() == commit

    # Changes, new files and what becomes of them: another tag each; what git ignores is none.
    tags = set()
    for name, text in (("code.py", "2\n"), ("new.py", "1\n"), ("new.py", "2\n"), ("a b.bin", "\0")):
        (tmp_path / name).write_text(text)
        tags.add(build._changes())
        assert build._revision() == f"{commit}-dirty" and build._changes() in tags
    assert len(tags) == 4 and all(build.TAG.fullmatch(f"1-dirty-{tag}-cpu") for tag in tags)
    (tmp_path / "images.json").write_text("{}")
    assert build._changes() in tags
    (tmp_path / "new.py").write_text("1\n")
    (tmp_path / "a b.bin").unlink()
    assert build._changes() in tags, "the same content has the same tag"
