"""--images: which image every step gets, and what is refused before anything is asked."""

import json

import pytest
import yaml

import pipeline
from pipeline import CONFIGS, build
from shared.code_version import code_version
from shared.pipeline.cluster.config import Cluster
from shared.pipeline.graph import images_of
from shared.pipeline.images.named import read_images, refuse_unqualified, with_images
from shared.pipeline.recipes import read_recipe
from tests.asking import refusal
from tests.calling import call

DIGEST = f"sha256:{'1f' * 32}"
STEPS = {"prepare", "train", "cluster", "export", "benchmark"}


@pytest.fixture
def built(tmp_path):
    """Writes a file of `make images` whose images hold the code of this checkout."""

    def write(digest: str = DIGEST, **changes) -> str:
        images = {
            step: {
                "name": f"registry.example:5000/team/pix2pixhd-{step}:0123abc-cuda",
                "id": DIGEST,
                "digest": digest,
                "code_version": code_version(step),
                "size_bytes": 1,
            }
            for step in sorted(STEPS)
        }
        for step, change in changes.items():
            images[step] |= change
        about = {"format": 1, "device": "cuda", "revision": "0123abc", "images": images}
        (file := tmp_path / "images.cuda.json").write_text(json.dumps(about))
        return str(file)

    return write


def test_a_compiled_pipeline_names_what_was_built(built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["compile", "--recipe", "demo", "--images", built()]
    pipeline.main(words)
    spec = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())
    executors = spec["deploymentSpec"]["executors"]
    images = {name: executors[f"exec-{name}"]["container"]["image"] for name in STEPS - {"train"}}
    assert images == {
        name: f"registry.example:5000/team/pix2pixhd-{name}@{DIGEST}" for name in images
    }
    both = {executors[f"exec-train-{stage}"]["container"]["image"] for stage in ("global", "local")}
    assert both == {f"registry.example:5000/team/pix2pixhd-train@{DIGEST}"}
    assert executors["exec-fingerprint"]["container"]["image"] == images["prepare"]


def test_images_that_were_not_pushed_have_the_name_on_this_machine(built):
    names = {step: {"name": f"pix2pixhd-{step}:0123abc-dirty-cpu"} for step in STEPS}
    images = read_images(built(digest="", **names))
    assert images == {step: names[step]["name"] for step in STEPS}


@pytest.mark.parametrize(
    "given, train",
    [
        ("registry.example/pix2pixhd:1a-cuda", "registry.example/pix2pixhd-train:1a-cuda"),
        ("localhost:5000/a/b/p:v1.0", "localhost:5000/a/b/p-train:v1.0"),
        ("pix2pixhd:cpu", "pix2pixhd-train:cpu"),
    ],
)
def test_one_name_stands_for_the_image_of_every_step(given, train):
    images = read_images(given)
    assert images["train"] == train and STEPS <= images.keys()
    assert images["train_on_nodes"] == train.replace("-train:", "-train-on-nodes:")


@pytest.mark.parametrize(
    "given, found",
    [
        ("registry.example/pix2pixhd", "has no tag"),
        ("registry.example:5000/pix2pixhd", "has no tag"),
        ("registry.example/pix2pixhd:", "is neither a file nor a name of images"),
        ("registry.example/Pix2pixHD:1", "is neither a file nor a name of images"),
        ("registry.example/pix2pixhd:1 2", "is neither a file nor a name of images"),
        ("registry.example/pix2pixhd-train:1", "is the image of one step: leave out -train"),
        ("registry.example/p-train-on-nodes:1", "is the image of one step"),
        ("me:pa55word@registry.example/p:1", "holds a URL, credentials or a digest"),
        ("https://registry.example/p:1", "holds a URL, credentials or a digest"),
        (f"registry.example/p@{DIGEST}", "holds a URL, credentials or a digest"),
        ("docker/images.none.json", "is no file: `make images` writes one"),
    ],
)
def test_what_names_no_images_is_refused(given, found):
    said = refusal(read_images, given)
    assert said.startswith("--images") and found in said
    assert "pa55" not in said


@pytest.mark.parametrize(
    "content, found",
    [
        ("{", "is no JSON"),
        ("[]", "is no file of `make images`"),
        ('{"format": 2, "device": "cpu", "revision": "", "images": {}}', "(format: should be 1)"),
        ('{"device": "cpu", "revision": "", "images": {"trian": {}}}', "(images.trian.name: "),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, found):
    (file := tmp_path / "images.cpu.json").write_text(content)
    said = refusal(read_images, str(file))
    assert said.startswith(f"--images {file} ") and found in said


def test_images_of_other_code_are_refused_before_anything_runs(built, kfp_server, tmp_path):
    file = built(cluster={"code_version": "0" * 16})
    words = ["submit", "--raw-data", "s3://b/raw", "--images", file, "--host", kfp_server.host]
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 2 and not kfp_server.runs
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"pipeline.py refused: --images {file}: the image of cluster, of commit 0123"
    )
    assert f"({'0' * 16}) than this checkout ({code_version('cluster')})" in line


@pytest.mark.parametrize("name", ["me:pa55word@registry/train:1", "a b:1", "registry.example/t"])
def test_a_name_in_a_file_is_no_other_than_one_given(built, name):
    said = refusal(read_images, built(train={"name": name}))
    assert said.startswith("--images ") and "pa55" not in said


# What a server gets.


@pytest.mark.parametrize("images", ["", "pix2pixhd:cpu"])
@pytest.mark.parametrize("verb", ["submit", "schedule"])
def test_a_server_gets_no_image_that_no_registry_has(kfp_server, verb, images, capsys):
    words = [verb, "--raw-data", "s3://b/raw", "--host", kfp_server.host]
    words += ["--images", images] if images else []
    words += ["--cron", "@daily"] if verb == "schedule" else []
    with pytest.raises(SystemExit) as stop:
        pipeline.main(words)
    assert stop.value.code == 2 and not kfp_server.runs and not kfp_server.recurring_runs
    (line,) = capsys.readouterr().err.splitlines()
    assert "--host needs --images: no node of a cluster finds pix2pixhd-benchmark:cpu" in line
    assert "make images DEVICE=cuda REGISTRY=" in line


def test_images_lie_over_those_of_the_cluster(built):
    mine = {"train": "other.example/train:1", "prepare": "other.example/prepare:1"}
    site = with_images(Cluster(images=mine), "")
    assert site.images == mine
    graph = build("demo", read_recipe("demo", CONFIGS), site)
    assert refusal(refuse_unqualified, graph, "--cluster").startswith("--cluster needs --images")
    assert images_of(graph)["train_global"] == images_of(graph)["train_local"] == mine["train"]
    graph = build("demo", read_recipe("demo", CONFIGS), with_images(Cluster(images=mine), built()))
    refuse_unqualified(graph, "--cluster")
    assert (
        images_of(graph)["train_global"] == f"registry.example:5000/team/pix2pixhd-train@{DIGEST}"
    )


def test_images_are_of_no_run_on_this_machine(tmp_path, capsys):
    for words in (["submit"], ["schedule", "--cron", "@daily"]):
        with pytest.raises(SystemExit) as stop:
            pipeline.main([*words, "--images", "registry.example/pix2pixhd:1"])
        assert stop.value.code == 2
        assert (
            "--images is of containers: give --engine docker or --host too"
            in capsys.readouterr().err
        )
