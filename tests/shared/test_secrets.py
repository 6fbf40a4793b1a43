"""What is taken out of texts, and that nothing is sent to the makers of what we use."""

import os
import subprocess
import sys
import time

import pytest

from shared.secrets import without_secrets
from tests.places import ROOT


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://zaphod:pa55@host:5000/x", "http://***@host:5000/x"),
        (
            "at postgresql://u:p@db/mlflow, and s3://k@b/x",
            "at postgresql://***@db/mlflow, and s3://***@b/x",
        ),
        ("http://u:p@ss/w?rd#1@host/x", "http://***@host/x"),
        (
            "http://host:80/a@2x.png http://host/b@2x.png",
            "http://host:80/a@2x.png http://host/b@2x.png",
        ),
        (
            "GET https://h/f?X-Amz-Signature=5ec&part=2",
            "GET https://h/f?X-Amz-Signature=***&part=2",
        ),
        ("url: /f?access_token=5ec (Caused by", "url: /f?access_token=*** (Caused by"),
        ("{'Authorization': 'Bearer abcdefgh123'}", "{'Authorization': 'Bearer ***'}"),
        ("sqlite:////data/runs/mlflow.db", "sqlite:////data/runs/mlflow.db"),
        ("epoch 1/2, a=b&c=d, Basic idea", "epoch 1/2, a=b&c=d, Basic idea"),
    ],
)
def test_secrets_of_addresses_and_headers(text, shown):
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    "part", ["://[", "?a=", "?sig", "a://b:", "&token=a", "://u:p@", "://a:80/"]
)
@pytest.mark.parametrize("end", ["", " @", "=1234567890123456789"])
def test_a_long_text_takes_no_longer_than_its_length(part, end):
    """Quadratic, each would take minutes."""
    began = time.process_time()
    without_secrets(part * (100_000 // len(part)) + end)
    assert time.process_time() - began < 5


def test_secrets_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "battery+staple")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    text = f"401 for correct horse, battery+staple, {tmp_path}"
    assert without_secrets(text) == f"401 for ***, ***, {tmp_path}"


@pytest.mark.parametrize("package", ["shared", "components", "tests"])
def test_telemetry_is_off_before_anything_of_a_package_is_loaded(package):
    names = ("ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY")
    code = f"import os, {package}; print(*map(os.environ.get, {names}))"
    clean = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "true"], done.stderr


def test_onnx_runtime_leaves_no_device_id(tmp_path):
    """With its telemetry on it writes one into the home folder as soon as it is loaded."""
    code = "import components, onnxruntime"
    clean = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean | places, check=True)
    assert list(tmp_path.iterdir()) == []
