"""Six secrets of different kinds are planted, and looked for in everything that a pipeline leaves
or shows: files, arguments of processes, the terminal, and what it tells MLflow."""

import base64
import os
import subprocess
import threading
import time
import zipfile
from urllib.parse import quote

import psutil
import pytest

from shared.pipeline import nights, preflight
from shared.pipeline.nights import NightlyOptions
from shared.secrets import carried, restored, without_secrets
from tests.calling import SMALL, command, environment
from tests.loopback import serving

SECRETS = {
    "password of the raw data": "Raw/pa55 wörd",
    "signature of the raw data": "5ignature+of/raw==",
    "password of MLflow": "track1ng-pa55",
    "token of MLflow": "t0ken-of-mlflow",
    "key of a store": "aws/k3y+of+the+store",
    "password of a mirror": "m1rror-pa55",
}


def forms(secret: str) -> list[bytes]:
    """As programs write it: itself, in URLs, and in base64 alone or behind a user's name."""
    codes = [base64.b64encode(f"{user}{secret}".encode()) for user in ("", "zaphod:")]
    texts = [secret, quote(secret), quote(secret, safe="")]
    return [text.encode() for text in texts] + [
        # Before the = stands a letter that depends on what follows.
        code.rstrip(b"=")[: -1 if code.endswith(b"=") else None]
        for code in codes
    ]


def found_in(content: bytes) -> list[str]:
    return [
        name for name, secret in SECRETS.items() if any(one in content for one in forms(secret))
    ]


def planted(mlflow: str, mirror: str) -> dict[str, str]:
    """The variables that hold the secrets which are not in the address of the raw data."""
    quoted = {name: quote(secret, safe="") for name, secret in SECRETS.items()}
    return {
        "MLFLOW_TRACKING_URI": f"http://zaphod:{quoted['password of MLflow']}@{mlflow}",
        "MLFLOW_TRACKING_TOKEN": SECRETS["token of MLflow"],
        "AWS_SECRET_ACCESS_KEY": SECRETS["key of a store"],
        "WEIGHTS_MIRROR": f"http://zaphod:{quoted['password of a mirror']}@{mirror}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }


def address_of(files, name: str) -> str:
    password = quote(SECRETS["password of the raw data"], safe="")
    signature = quote(SECRETS["signature of the raw data"], safe="")
    place = files.url.replace("://", f"://zaphod:{password}@")
    return f"{place}/{name}?X-Amz-Signature={signature}"


class Arguments(threading.Thread):
    """The arguments of every process below one, as long as that lives."""

    def __init__(self, top: psutil.Process):
        super().__init__()
        self.top, self.seen = top, set[str]()

    def run(self) -> None:
        while self.top.is_running() and self.top.status() != psutil.STATUS_ZOMBIE:
            try:
                for process in self.top.children(recursive=True):
                    self.seen.add("\0".join(process.cmdline()))
            except psutil.Error:
                continue
            time.sleep(0.05)


@pytest.mark.slow
def test_six_secrets_are_nowhere_after_a_night(tmp_path, scenes):
    # Raw data behind a password, and an MLflow that answers nobody.
    with zipfile.ZipFile(tmp_path / "scenes.zip", "w") as archive:
        for file in sorted(path for path in scenes.rglob("*") if path.is_file()):
            archive.write(file, file.relative_to(scenes))
    content = (tmp_path / "scenes.zip").read_bytes()
    folder = tmp_path / "work"
    folder.mkdir()
    home = {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache")}
    with serving(**{"scenes.zip": content}) as files:
        variables = environment() | planted("127.0.0.1:9", "127.0.0.1:9") | home
        asked = command("nightly", "--raw-data", address_of(files, "scenes.zip"))
        with subprocess.Popen(
            [*asked, "--notify", "cat > told.json", "--set", *SMALL],
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as night:
            watcher = Arguments(psutil.Process(night.pid))
            watcher.start()
            said, _ = night.communicate(timeout=900)
            watcher.join()
    # No MLflow, no champion: all is done, but the verdict refuses the model.
    assert night.returncode == 3, said.decode()[-3000:]

    # It did the work that could have shown them.
    seen = "\n".join(watcher.seen)
    assert "submit" in seen and "preflight" in seen and seen.count("executor_main") > 5
    (run,) = (folder / "runs").glob("demo-*")
    assert "***" in (run / "run.json").read_text() and (folder / "told.json").is_file()

    # Nowhere.
    assert found_in(said) == []
    assert found_in(seen.encode()) == []
    places = [path for path in folder.rglob("*") if path.is_file()]
    assert len(places) > 100
    leaks = {str(path): found_in(path.read_bytes()) for path in places}
    assert {path: names for path, names in leaks.items() if names} == {}

    # What is written for the owner is the owner's.
    logs = [run / "log.txt", *(run / "journal").glob("*.jsonl")]
    assert len(logs) > 5 and {path.stat().st_mode & 0o777 for path in logs} == {0o600}
    assert (run / "journal").stat().st_mode & 0o777 == 0o700
    assert b"zaphod" not in said and "zaphod" not in seen


# The light ones.


@pytest.fixture
def secrets_here(monkeypatch):
    monkeypatch.delenv("PIPELINE_CARRIED", raising=False)
    for name, value in planted("127.0.0.1:9", "127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    os.environ.pop("PIPELINE_CARRIED", None)


@pytest.mark.parametrize("name", list(SECRETS)[2:])
def test_a_secret_of_the_environment_is_hidden_in_every_form(name, secrets_here):
    for form in forms(SECRETS[name]):
        assert found_in(without_secrets(f"401: {form.decode()} was refused").encode()) == []


def test_a_carried_address_is_shown_without_its_secrets_and_restored(secrets_here):
    url = "https://zaphod:Raw%2Fpa55@host/x.zip?versionid=3&X-Amz-Signature=5ignature%2Bof"
    shown = carried(url)
    assert shown == "https://***@host/x.zip?versionid=3&X-Amz-Signature=***"
    assert restored(shown) == url and carried(shown) == shown and restored("data") == "data"
    assert without_secrets("wrong password: Raw/pa55, 5ignature+of") == "wrong password: ***, ***"


def test_processes_are_started_without_secrets_in_their_arguments(secrets_here):
    asked = []
    url = "https://zaphod:Raw%2Fpa55@host/x.zip?sig=5ignature"

    class Started:
        returncode = 0

        def __init__(self, command, *_, **__):
            asked.append(command)
            self.process = self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def wait(self, *_):
            return 0

    secrets_here.setattr(preflight.subprocess, "Popen", Started)
    secrets_here.setattr(nights, "Guarded", Started)
    preflight.run_preflight(recipe="demo", raw_data=url)
    nights._run(nights._command(NightlyOptions(raw_data=url), None), 0)
    for arguments in asked:
        at = arguments.index("--raw-data") + 1
        assert arguments[at] == "https://***@host/x.zip?sig=***"
        assert restored(arguments[at]) == url
    assert len(asked) == 2
