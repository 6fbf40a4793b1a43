import pytest

from components.train.nodes import pods, watching
from shared import servers
from tests.fake_kubernetes import FakeKubernetes

QUICK = dict(look=0.02, settle=0.02, stuck=0.2, begin=0.5, lost=1.0, gone=2.0, delete=2.0)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster that this process is at home in, and a launcher that does not wait long."""
    fake = FakeKubernetes()
    file = fake.kubeconfig(tmp_path)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    monkeypatch.setenv(servers.PATIENCE, "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(watching, "PATIENCE", watching.Patience(**QUICK))
    monkeypatch.setattr(pods, "LOG_S", 1.0)
    yield fake
    fake.close()
