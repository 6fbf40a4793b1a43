"""--cluster FILE: what it means, and the sentence for each way in which it is wrong."""

import pytest

from shared.pipeline.cluster.config import ANY, StepNeeds
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.cluster.words import bytes_of, cores_of
from tests.asking import refusal


def read(folder, text):
    file = folder / "c.yaml"
    file.write_text(text)
    return read_cluster(file)


def test_a_step_has_what_is_said_of_it_over_what_is_said_of_all(tmp_path):
    site = read(
        tmp_path,
        """
        accelerator: {resource: huawei.com/Ascend310P}
        defaults: {cpu_request: 2, memory_request: 4Gi, retries: 1}
        steps: {train_local: {cpu_request: 0.5, retries: 0, shm: 8Gi}}
        """,
    )
    assert site.needs("prepare") == StepNeeds(cpu_request="2", memory_request="4Gi", retries=1)
    wanted = StepNeeds(cpu_request="0.5", memory_request="4Gi", retries=0, shm="8Gi")
    assert site.needs("train_local") == wanted
    assert site.device == "npu"
    assert (ANY.device, ANY.needs("train_local")) == ("", StepNeeds())
    assert read_cluster(None) is ANY


def test_amounts_are_those_of_kubernetes():
    assert (bytes_of("16Gi"), bytes_of("16G")) == (16 * 2**30, 16 * 10**9)
    assert (cores_of("500m"), cores_of("0.5"), cores_of("4")) == (0.5, 0.5, 4.0)


A_NAME = "should be a name of an environment variable, such as MLFLOW_TRACKING_PASSWORD"
A_SECRET = "holds a secret, which all users of the server would see: put it into a Kubernetes"


@pytest.mark.parametrize(
    "text, sentence",
    [
        # The file.
        ("", " is empty: see the examples in docker/kubernetes, and write"),
        ("- a", " is a list: write fields, such as mlflow_uri"),
        ("defaults: {shm: 1Gi, shm: 2Gi}", " (line 1: is no YAML (shm stands twice))"),
        ("mlflow_uri: !!str x", " (line 1: is no YAML (the tag tag:yaml.org,2002:str is not tak"),
        ("labels: &a {}", " (line 1: is no YAML (the anchor a is not taken: write the value"),
        ("a: 1\n---\nb: 1", " (line 2: is no YAML (but found another document))"),
        ("defaults:\n\tshm: 1", " (line 2: is no YAML (found character '\\t' that cannot start"),
        # Fields.
        ("defualts: {}", ": there is no field defualts: did you mean defaults?"),
        ("1: {}", ": there is no field 1: write one of images, pull_policy"),
        ("defaults: {gpu: 1}", ": defaults: there is no field gpu: write one of accelerators,"),
        ("steps: {trian: {}}", ": steps.trian 'trian': should be 'fingerprint', 'prepare', "),
        ("images: []", ": images is a list, but should be a table of fields"),
        ("steps: {prepare: }", ": steps.prepare is empty, but should be a table of fields"),
        ("tolerations: {key: a}", ": tolerations is a table, but should be a list"),
        ("node_selector: {a: 1}", ": node_selector.a is a number, but should be a text: write it"),
        ("labels: {a: true}", ": labels.a is yes or no, but should be a text: write it in quotes"),
        ("raw_data: {path: /data}", ": raw_data.claim is missing"),
        ("raw_data: {claim: a, read_only: true}", ": raw_data: there is no field read_only: KFP"),
        # Numbers and amounts.
        ("defaults: {memory_limit: 16GB}", ": defaults.memory_limit '16GB': should be a whole n"),
        ("defaults: {shm: 16}", ": defaults.shm 16: should be a whole number and its unit, Mi, "),
        ("defaults: {shm: 0Gi}", ": defaults.shm '0Gi': should be a whole number and its unit"),
        ("defaults: {cpu_limit: 4 cores}", ": defaults.cpu_limit '4 cores': should be a number "),
        ("defaults: {cpu_limit: 0}", ": defaults.cpu_limit 0: should be a number of cores to 10"),
        ("defaults: {cpu_limit: true}", ": defaults.cpu_limit is yes or no, but should be a tex"),
        ("defaults: {retries: 1.5}", ": defaults.retries 1.5: should be a whole number"),
        ("defaults: {retries: true}", ": defaults.retries True: should be a whole number"),
        ("defaults: {retries: -1}", ": defaults.retries -1: should be greater than or equal to 0"),
        ("defaults: {timeout_min: .nan}", ": defaults.timeout_min nan: should be a whole numbe"),
        # Contradictions.
        ("defaults: {cpu_request: 4, cpu_limit: 500m}", ": defaults: cpu_request 4 is more than c"),
        (
            "defaults: {memory_limit: 1Gi}\nsteps: {export: {memory_request: 1100M}}",
            ": steps.export over defaults: memory_request 1100M is more than memory_limit 1Gi",
        ),
        ("defaults: {memory_limit: 4Gi, shm: 8Gi}", ": defaults: shm 8Gi is more than memory_li"),
        ("steps: {export: {accelerators: 2}}", ": steps.export.accelerators is 2, but accelerato"),
        (
            "accelerator: {resource: nvidia.com/gpu}\nsteps: {prepare: {accelerators: 1}}",
            ": steps.prepare.accelerators is 1, but it computes on none",
        ),
        ("defaults: {accelerators: 1}", ": defaults.accelerators is of some steps only: write it"),
        ("accelerator: {resource: amd.com/gpu}", ": accelerator: device is missing: amd.com/gpu "),
        (
            "accelerator: {resource: huawei.com/Ascend910, device: cuda}",
            ": accelerator: device is cuda, but huawei.com/Ascend910 is npu",
        ),
        ("workspace: {}", ": workspace: give claim, or size for a workspace of KFP's own"),
        ("workspace: {size: 1Gi, path: /w}", ": workspace: path has no meaning with size"),
        (
            "raw_data: {claim: a, path: /w/raw}\nworkspace: {claim: b, path: /w}",
            ": raw_data.path /w/raw and workspace.path /w overlap",
        ),
        ("launcher: {kind: trainjob}", ": launcher: runtime is missing: name the ClusterTraining"),
        (
            "launcher: {kind: trainjob, runtime: torch}",
            ": launcher.kind trainjob needs a workspace for its pods",
        ),
        (
            "launcher: {kind: trainjob, runtime: torch}\n"
            "workspace: {size: 1Gi, access_mode: ReadWriteOnce}",
            ": launcher: several nodes need workspace.access_mode ReadWriteMany",
        ),
        ("tolerations: [{key: a, value: b}]", ": tolerations.0: operator Exists compares no val"),
        ("security: {run_as_user: 0, run_as_non_root: true}", ": security: run_as_user is 0, wh"),
        (
            "mlflow_uri: http://m:1\nenvironment: {MLFLOW_TRACKING_URI: http://n:1}",
            ": the environment variable MLFLOW_TRACKING_URI is given twice",
        ),
        # Names and places.
        ("pull_secrets: [My_Secret]", ": pull_secrets.0 'My_Secret': should be a name of small l"),
        ("images: {train: ':x'}", ": images.train ':x': should be an image, such as registry.ex"),
        ("raw_data: {claim: a, path: data}", ": raw_data.path 'data': should be a folder from /"),
        ("raw_data: {claim: a, path: /usr}", ": raw_data.path '/usr' is a folder that the contai"),
        ("raw_data: {claim: a, path: /dev/shm}", ": raw_data.path '/dev/shm' is a folder that t"),
        ("raw_data: {claim: a, subpath: ../b}", ": raw_data.subpath '../b': should be a folder i"),
        ("mlflow_uri: sqlite:///a.db", ": mlflow_uri 'sqlite:///a.db': should be the address of"),
        ("mlflow_uri: 'http://[::1'", ": mlflow_uri 'http://[::1': Invalid IPv6 URL"),
        # Secrets.
        ("MLFLOW_TRACKING_PASSWORD: hunter2", f": MLFLOW_TRACKING_PASSWORD {A_SECRET}"),
        ("environment: {HF_TOKEN: hunter2}", f": environment.HF_TOKEN {A_SECRET}"),
        ("secrets: {HF_TOKEN: hunter2}", ": secrets.HF_TOKEN: should be a name of small letters"),
        ("secrets: {hf: hunter2}", ": secrets.hf is a text, but should be a table of fields"),
        ("secrets: {hf: {HF_TOKEN: hunter2}}", f": secrets.hf.HF_TOKEN: {A_NAME}"),
        ("secrets: {hf: {token: [hunter2]}}", ": secrets.hf.token is a list, but should be a tex"),
        ("secrets: {aws: {AWS_ACCESS_KEY_ID: AKIAIOSFODNN7EXAMPLE}}", ": secrets.aws.AWS_ACCESS_"),
        ("mlflow: {password: hunter2}", ": there is no field mlflow: did you mean mlflow_uri?"),
        ("mlflow_uri: http://me:hunter2@mlflow:5000", f": mlflow_uri {A_SECRET}"),
        ("images: {train: 'https://me:hunter2@reg/train'}", f": images.train {A_SECRET}"),
        ("annotations: {a: 'https://h/x?sig=hunter2'}", f": annotations.a {A_SECRET}"),
    ],
)
def test_what_is_wrong_is_one_sentence_without_a_secret(tmp_path, monkeypatch, text, sentence):
    monkeypatch.chdir(tmp_path)
    said = refusal(read, tmp_path, text).replace(str(tmp_path) + "/", "")
    assert said.startswith(f"--cluster c.yaml{sentence}")
    assert "hunter2" not in said and "AKIA" not in said


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    assert "is no file" in refusal(read_cluster, tmp_path / "c.yaml")
    assert "does not end in .yaml" in refusal(read_cluster, tmp_path / "c.json")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe")
    assert "is no text in UTF-8" in refusal(read_cluster, tmp_path / "c.yaml")
