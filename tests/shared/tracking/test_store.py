"""A local store is whole or not there."""

import subprocess
import sys
import time

from shared.tracking import store
from tests.places import ROOT

MAKES = "import sys; from shared.tracking import store; store.open_client(sys.argv[1])"


def test_a_store_whose_making_was_killed_is_made_anew(tmp_path):
    uri = store.uri_of_database(tmp_path / "mlflow.db")
    making = subprocess.Popen([sys.executable, "-c", MAKES, uri], cwd=ROOT)
    until = time.monotonic() + 60
    while not (tmp_path / "mlflow.db.partial").exists():
        assert making.poll() is None and time.monotonic() < until
        time.sleep(0.001)
    time.sleep(0.2)  # into the migrations, which take a second
    making.kill()
    making.wait()
    assert not (tmp_path / "mlflow.db").exists()

    client = store.open_client(uri)
    run = client.create_run(client.create_experiment("x"))
    client.log_metric(run.info.run_id, "a", 1.0)
    assert {one.name for one in tmp_path.iterdir()} == {"mlflow.db", store.LOCK}
