"""A local store is whole or not there."""

import contextlib
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from alembic import command
from mlflow.store.db import utils

from shared.pipeline.promotion import best
from shared.pipeline.ui import free_port, serving
from shared.tracking import store
from tests.asking import refusal
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


def write_half(file) -> None:
    """What a kill leaves of a store that MLflow makes in its place: some of its migrations, and of
    the next one the table that this would begin with, so that MLflow cannot go on."""
    address = store.uri_of_database(file)
    engine = utils.create_sqlalchemy_engine(address)
    utils.InitialBase.metadata.create_all(engine)
    config = utils._get_alembic_config(address)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "90e64c465722")
    engine.dispose()
    write_database(file, "CREATE TABLE _alembic_tmp_metrics (key VARCHAR)")


def write_database(file, script) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.executescript(script)


def test_a_store_that_mlflow_left_half_made_is_made_anew(tmp_path):
    file = tmp_path / "mlflow.db"
    uri = store.uri_of_database(file)
    write_half(file)
    client = store.open_client(uri)
    assert [one.name for one in client.search_experiments()] == ["Default"]
    store.make_missing(uri)
    run = client.create_run("0").info.run_id
    store.make_missing(uri)  # and a whole one is left alone
    assert client.get_run(run).info.run_id == run


FACADES = "INSERT INTO experiments VALUES (1, 'facades', '', 'active')"


def test_a_half_of_a_store_that_holds_something_is_kept(tmp_path):
    file = tmp_path / "mlflow.db"
    write_half(file)
    write_database(file, FACADES)
    with pytest.raises(store.Unreachable, match="already exists"):
        store.open_client(store.uri_of_database(file))
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT name FROM experiments").fetchall() == [("facades",)]


def test_a_database_of_another_program_is_kept(tmp_path):
    file = tmp_path / "mlflow.db"
    write_database(file, "CREATE TABLE trips (kilometres REAL)")
    with contextlib.suppress(store.Unreachable, store.Refused):
        store.open_client(store.uri_of_database(file))
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT kilometres FROM trips").fetchall() == []


def test_a_store_that_cannot_be_opened_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # so that what the verb sets is taken back
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    write_half(tmp_path / "mlflow.db")
    write_database(tmp_path / "mlflow.db", FACADES)
    said = refusal(best, "demo", tmp_path)
    assert "mlflow.db: MLflow's registry does not answer (" in said and "\n" not in said
    (tmp_path / "mlflow.db").write_text("no database")
    assert "file is not a database" in refusal(best, "demo", tmp_path)


def test_the_server_of_the_pages_finds_a_store_that_is_made_already(tmp_path):
    uri = store.uri_of_database(tmp_path / "mlflow.db")
    write_half(tmp_path / "mlflow.db")
    with serving(uri, tmp_path, free_port(0)):
        assert store.open_client(uri).search_experiments()
