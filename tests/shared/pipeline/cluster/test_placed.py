"""What the compiled YAML asks for on each example cluster."""

import json
import shutil

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig

import pipeline
from pipeline import CONFIGS
from shared.pipeline.cluster.cards import with_cards
from shared.pipeline.cluster.config import (
    ANY,
    Accelerator,
    Cluster,
    Launcher,
    RawData,
    Security,
    StepNeeds,
    Workspace,
)
from shared.pipeline.cluster.place import refuse_unseen
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.engines.checks import start_again
from shared.pipeline.recipes import read_recipe
from shared.pipeline.runs import EngineOptions, Run, RunRecord, begin, runs_in
from shared.recipes.files import built_in
from tests.asking import refusal, refusal_of_command
from tests.calling import SMALL, call
from tests.places import ROOT
from tests.shared.pipeline.cluster.golden import CLUSTERS, asked, compiled, golden_file, table

EXAMPLES = ROOT / "docker" / "kubernetes"
NVIDIA = {"accelerator": {"resource": "nvidia.com/gpu"}}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_recipe_asks_for_what_the_golden_file_has(cluster):
    remedy = "`python -m tests.shared.pipeline.cluster.golden` writes it anew: look at the change"
    assert table(cluster) == golden_file(cluster).read_text(), remedy


@pytest.mark.parametrize("recipe", built_in())
def test_kfp_loads_it_and_every_field_of_its_pods_is_known(recipe):
    for cluster in CLUSTERS if recipe == "demo" else CLUSTERS[:1]:
        text = compiled(recipe, cluster)
        loaded = components.load_component_from_text(text)
        given = set(loaded.pipeline_spec.root.input_definitions.parameters)
        assert given >= {"raw_data", *read_recipe(recipe, CONFIGS)}
        _, platform = yaml.load_all(text, yaml.CSafeLoader)
        pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for pod in pods.values():
            json_format.ParseDict(pod, KubernetesExecutorConfig())


def test_without_a_cluster_nothing_is_asked_for_and_the_yaml_says_so(tmp_path, capsys):
    pipeline.compile_("demo", tmp_path / "p.yaml")
    text = (tmp_path / "p.yaml").read_text()
    assert len(list(yaml.safe_load_all(text))) == 1 and "resources:" not in text
    for said in (text.splitlines()[0], capsys.readouterr().err):
        assert "asks for no accelerator, so that steps with device auto compute on the CPU" in said


def test_secrets_volumes_and_all_else_of_a_file_reach_the_pods(tmp_path):
    (tmp_path / "c.yaml").write_text(
        """
        images:
          prepare: registry.example/prepare:1
          train: registry.example/train:1
          cluster: registry.example/cluster:1
          export: registry.example/export:1
          benchmark: registry.example/benchmark:1
        pull_policy: Always
        pull_secrets: [registry, other]
        node_selector: {zone: a}
        tolerations: [{key: zone, operator: Equal, value: a, effect: NoExecute}]
        labels: {team: vision}
        accelerator: {resource: nvidia.com/gpu, node_selector: {zone: b}}
        config_maps: {mlflow: {uri: MLFLOW_TRACKING_URI}}
        workspace: {size: 10Gi, storage_class: nfs, access_mode: ReadWriteOnce}
        """
    )
    pipeline.compile_("demo", tmp_path / "p.yaml", cluster=tmp_path / "c.yaml")
    spec, platform = yaml.safe_load_all((tmp_path / "p.yaml").read_text())
    kubernetes = platform["platforms"]["kubernetes"]
    assert kubernetes["pipelineConfig"]["workspace"] == {
        "size": "10Gi",
        "kubernetes": {
            "pvcSpecPatch": {"accessModes": ["ReadWriteOnce"], "storageClassName": "nfs"}
        },
    }
    images = {
        name: one["container"]["image"] for name, one in spec["deploymentSpec"]["executors"].items()
    }
    assert images["exec-train-local"] == "registry.example/train:1"
    assert images["exec-fingerprint"] == images["exec-prepare"] == "registry.example/prepare:1"
    pods = kubernetes["deploymentSpec"]["executors"]
    train = pods["exec-train-global"]
    assert train["imagePullPolicy"] == "Always"
    names = [one["secretName"] for one in train["imagePullSecret"]]
    assert names == ["registry", "other"]
    assert train["podMetadata"]["labels"] == {"team": "vision"}
    assert train["nodeSelector"]["labels"] == {"zone": "b"}, "cards are where they are"
    assert pods["exec-prepare"]["nodeSelector"]["labels"] == {"zone": "a"}
    taint = {"key": "zone", "operator": "Equal", "value": "a", "effect": "NoExecute"}
    assert pods["exec-prepare"]["tolerations"] == [taint]
    assert train["configMapAsEnv"][0]["keyToEnv"] == [
        {"configMapKey": "uri", "envVar": "MLFLOW_TRACKING_URI"}
    ]


def cards(site: dict, *overrides: str):
    """Of every step the device and the number of cards."""
    numbers = read_recipe("demo", CONFIGS, overrides)
    meant, placed = with_cards(numbers, Cluster.model_validate(site))
    return {step: (meant[step].get("device"), placed.needs(step).accelerators) for step in meant}


def test_a_step_with_cards_means_its_device_and_has_as_many_as_it_computes_on():
    steps = {"cluster": {"accelerators": 0}, "train_local": {"accelerators": 2}}
    found = cards(
        NVIDIA | {"steps": steps},
        "train_global.devices=4",
        "train_local.devices=2",
        "benchmark.device=cpu",
    )
    assert found == {
        "prepare": (None, 0),
        "train_global": ("cuda", 4),
        "cluster": ("cpu", 0),
        "train_local": ("cuda", 2),
        "export": (None, 0),
        "benchmark": ("cpu", 0),
    }
    ascend = {"accelerator": {"resource": "huawei.com/Ascend310P"}}
    assert cards(ascend, "export.format=om")["export"] == (None, 1), "atc asks it for its chip"
    assert cards(NVIDIA)["export"] == (None, 0)


@pytest.mark.parametrize(
    "steps, override, sentence",
    [
        ({"accelerators": 2}, "devices=4", "accelerators is 2, but the step computes on 4 of them"),
        ({"accelerators": 2}, "devices=1", "say 1 there, or leave it out, or say --set train_glob"),
        ({"accelerators": 1}, "device=cpu", "accelerators is 1, but train_global.device is cpu: "),
        ({"accelerators": 0}, "device=cuda", "accelerators is 0, but train_global.device is cuda"),
        ({}, "device=npu", "nvidia.com/gpu is cuda, but train_global.device is npu: say --set tra"),
    ],
)
def test_a_recipe_that_contradicts_the_cluster_is_refused(steps, override, sentence):
    site = NVIDIA | {"steps": {"train_global": steps}}
    assert sentence in refusal(cards, site, f"train_global.{override}")


def test_a_step_that_computes_on_one_card_gets_no_second():
    site = NVIDIA | {"steps": {"benchmark": {"accelerators": 2}}}
    assert "steps.benchmark.accelerators is 2, but the step computes on 1" in refusal(cards, site)


def test_what_a_graph_has_of_a_cluster_is_the_same_when_it_is_asked_twice():
    site = read_cluster(EXAMPLES / "nvidia.yaml")
    once = with_cards(read_recipe("demo", CONFIGS), site)
    assert with_cards(*once) == once
    numbers = read_recipe("demo", CONFIGS)
    assert with_cards(numbers, ANY) == (numbers, ANY)


def test_here_a_cluster_is_its_images_shared_memory_and_retries():
    site = read_cluster(EXAMPLES / "nvidia.yaml").here()
    assert (site.accelerator, site.raw_data, site.workspace, site.secrets) == (None, None, None, {})
    needs = site.needs("train_global")
    assert (needs.shm, needs.retries, needs.timeout_min, needs.memory_limit) == ("8Gi", 3, 0, "")
    text = compiled("demo", "nvidia")
    assert asked(text)["train_global"]["device"] == "cuda", "on the cluster itself"


def test_a_run_that_goes_on_has_the_retries_of_its_begin(tmp_path):
    """--continue takes no --cluster."""
    steps = "{train_global: {retries: 3, backoff_s: 5}, export: {retries: 0}}"
    (tmp_path / "c.yaml").write_text(f"{{defaults: {{retries: 1}}, steps: {steps}}}")
    site = read_cluster(tmp_path / "c.yaml")
    run = begin("demo", {"prepare": {}, "export": {}}, "/raw", {}, {}, tmp_path / "runs")
    run.start_by(EngineOptions(), {}, site.needs_here())
    run.note(state="stopped")
    again = Run(run.folder, RunRecord.read(run.folder))
    here = start_again(again, EngineOptions())
    for step in ("fingerprint", "prepare", "train_global", "export", "benchmark"):
        kept, given = here.needs(step), site.needs(step)
        assert (kept.retries, kept.backoff_s) == (given.retries, given.backoff_s)
    assert site.here() == here

    # One of an earlier version, which has not noted them.
    file = run.folder / RunRecord.FILE
    noted = json.loads(file.read_text())
    del noted["needs"], noted["sha256_of_all_above"]
    file.write_text(json.dumps(noted))
    old = start_again(Run(run.folder, RunRecord.read(run.folder)), EngineOptions())
    assert old.needs("train_global").retries == 0


def test_the_command_refuses_a_wrong_file_before_it_asks_the_server(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("defaults: {memory_limit: 16GB}")
    wrong = ("--cluster", tmp_path / "c.yaml")
    server = ("--raw-data", "/data", "--host", "http://127.0.0.1:9")
    for words in (
        ("compile", "--output", tmp_path / "p.yaml", *wrong),
        ("submit", *server, *wrong),
        ("submit", *wrong),
        ("schedule", "--cron", "@daily", *server, *wrong),
        ("preflight", *wrong),
    ):
        said = refusal_of_command(capsys, pipeline.main, *words)
        assert "c.yaml: defaults.memory_limit '16GB': should be a whole number and its unit" in said
    assert not (tmp_path / "p.yaml").exists()
    said = refusal_of_command(capsys, pipeline.main, "schedule", "--cron", "@daily", *wrong)
    assert said.startswith("--cluster is for a server: give its URL by --host")


def test_raw_data_that_no_pod_sees_are_refused(capsys):
    example = ("--cluster", EXAMPLES / "nvidia.yaml", "--host", "http://127.0.0.1:9")
    for words in (("submit", *example), ("schedule", "--cron", "@daily", *example)):
        said = refusal_of_command(capsys, pipeline.main, *words, "--raw-data", "/home/me/city")
        assert (
            "/home/me/city is in no volume of the cluster's pods, which see /data (claim " in said
        )
    site = read_cluster(EXAMPLES / "nvidia.yaml")
    for unseen in ("/database", "/data/../etc", "city", "/"):
        assert f"--raw-data {unseen} is in no volume" in refusal(refuse_unseen, unseen, site)
    for seen in ("/data", "/data/city/", "/workspace/city", "https://host/city.zip", "env://CITY"):
        refuse_unseen(seen, site)
    refuse_unseen("/home/me/city", ANY)


@pytest.mark.slow
def test_a_graph_with_a_cluster_runs_here_and_takes_over_what_is_done(
    whole_night, scenes, tmp_path
):
    """A cluster changes where a step runs, not what it computes."""
    folder = shutil.copytree(whole_night[0], tmp_path / "there")
    asked_for = ("--raw-data", scenes, "--set", *SMALL, "benchmark.rounds=2")
    done = call("submit", *asked_for, "--cluster", EXAMPLES / "nvidia.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (new,) = [one for one in runs_in(folder / "runs") if one.record.steps["export"].reused_from]
    steps = {name: state.state for name, state in new.record.steps.items()}
    assert steps.pop("benchmark") == "finished" and set(steps.values()) == {"reused"}
    assert new.record.needs["train_global"]["retries"] == 3, "it goes on as it began"


def test_the_readme_has_every_field():
    text = (EXAMPLES / "README.md").read_text()
    tables = (Cluster, StepNeeds, Accelerator, RawData, Workspace, Launcher, Security)
    fields = {name for one in tables for name in one.model_fields}
    assert {name for name in fields if f"`{name}`" not in text} == set()


@pytest.mark.parametrize(
    "file, kinds",
    [
        ("rbac.yaml", ["ServiceAccount", "Role", "RoleBinding"]),
        ("runtimes.yaml", ["ClusterTrainingRuntime"] * 2),
    ],
)
def test_what_an_administrator_applies_is_what_kubernetes_knows(file, kinds):
    trainer = pytest.importorskip("kubeflow_trainer_api.models", reason="kubeflow's SDK is absent")
    documents = list(yaml.safe_load_all((EXAMPLES / file).read_text()))
    assert [one["kind"] for one in documents] == kinds
    for one in documents:
        if one["kind"] == "ClusterTrainingRuntime":
            read = trainer.TrainerV1alpha1ClusterTrainingRuntime.from_dict(one)
            assert read.to_dict() == one, "no field is lost"
    names = {one["metadata"]["name"] for one in documents}
    for cluster in CLUSTERS:
        site = read_cluster(EXAMPLES / f"{cluster}.yaml")
        named = site.service_account if file == "rbac.yaml" else site.launcher.runtime
        assert named in names | {""}
