"""Old nights: what goes, and what never does. One MLflow store of many nights."""

import re
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shared import registry
from shared.contracts.model import ModelCard
from shared.pipeline.after_night import retention
from shared.pipeline.after_night.retention import retire_nights
from shared.pipeline.promotion import promote
from shared.pipeline.runs import Run, begin, runs_in
from shared.registry.trained import CHECKPOINTS, MODEL_DIGEST
from tests.asking import refusal

STEPS = ("prepare", "train_global", "export", "benchmark")
FILES = {  # of the folders of a night, bytes
    "prepare/dataset/manifest.json": 100,
    "train-global/model/latest_net_G.pth": 40_000,
    "export/exported/model.onnx": 20_000,
    "benchmark/report/report.html": 700,
    "benchmark/report/benchmark.json": 300,
    "log.txt": 50,
}
STAY = {"run.json", "log.txt", "benchmark/report/report.html", "benchmark/report/benchmark.json"}


class Store:
    """Runs as nights leave them, and their MLflow."""

    def __init__(self, runs: Path):
        self.runs = runs
        self.uri = f"sqlite:///{runs / 'mlflow.db'}"
        self.client = MlflowClient(self.uri)
        self.count = 0

    def night(self, recipe: str, state: str = "finished", nightly: bool = True, **config) -> Run:
        """A new run, with a version of its model in the registry."""
        self.count += 1
        tags = {"nightly": "true"} if nightly else {}
        numbers = {step: config.get(step, {}) for step in STEPS}
        run = begin(recipe, numbers, "/raw", tags, {}, self.runs)
        run.note(state=state, started=f"2026-11-{self.count:02} 02:00:00")
        for name, size in FILES.items():
            file = run.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes(size))
        for step in STEPS:
            run.note_step(step, state="finished")
        self._track(run)
        return run

    def _track(self, run: Run) -> None:
        client, recipe = self.client, run.record.recipe
        known = client.get_experiment_by_name(recipe)
        where = (self.runs / "mlartifacts").as_uri()
        place = known.experiment_id if known else client.create_experiment(recipe, where)
        parent = client.create_run(place, run_name=run.name).info.run_id
        client.log_metric(parent, "test/psnr_db", 20 + self.count)
        digest = f"digest-{self.count}"
        for step in STEPS:
            tags = {"mlflow.parentRunId": parent, "step": step}
            child = client.create_run(place, run_name=step, tags=tags).info.run_id
            folder = self.runs / "tmp"
            (folder / CHECKPOINTS).mkdir(parents=True)
            if step == "train_global":
                client.set_tag(child, MODEL_DIGEST, digest)
                (folder / CHECKPOINTS / "latest_net_G.pth").write_bytes(bytes(40_000))
                (folder / CHECKPOINTS / ModelCard.FILE).write_text("{}")
                client.log_artifacts(child, str(folder))
            elif step == "benchmark":
                (folder / "report.html").write_text("report")
                client.log_artifact(child, str(folder / "report.html"))
            shutil.rmtree(folder)
        self._register(run, place, parent, digest)

    def _register(self, run: Run, place: str, parent: str, digest: str) -> None:
        client, recipe = self.client, run.record.recipe
        model = client.create_logged_model(place, recipe, source_run_id=parent)
        files = self.runs / "files"
        files.mkdir()
        (files / "model.onnx").write_bytes(bytes(20_000))
        client.log_model_artifacts(model.model_id, str(files))
        shutil.rmtree(files)
        if self.count_of(recipe) == 0:
            client.create_registered_model(recipe)
        tags = {"run": run.name, "model_digest": digest}
        source = f"models:/{model.model_id}"
        client.create_model_version(recipe, source, parent, tags=tags, model_id=model.model_id)

    def count_of(self, recipe: str) -> int:
        return len(registry.versions(self.client, recipe))

    def crown(self, recipe: str, *numbers: int) -> None:
        for number in numbers:
            registry.crown(self.client, self.numbered(recipe, number))

    def numbered(self, recipe: str, number: int) -> registry.Version:
        return registry.with_number(registry.versions(self.client, recipe), number)

    def artifacts(self, run: Run) -> set[str]:
        """The files of a night in MLflow, those of its version among them."""
        place = self.client.get_experiment_by_name(run.record.recipe).experiment_id
        (parent,) = self.client.search_runs([place], f"attributes.run_name = '{run.name}'")
        parent = parent.info.run_id
        children = self.client.search_runs([place], f"tags.`mlflow.parentRunId` = '{parent}'")
        found = set()
        for child in children:
            folder = Path(child.info.artifact_uri.removeprefix("file://"))
            found |= {path.name for path in folder.rglob("*") if path.is_file()}
        version = self.version(run)
        model = self.client.get_logged_model(version.files.removeprefix("models:/"))
        folder = Path(model.artifact_location.removeprefix("file://"))
        return found | {path.name for path in folder.rglob("*") if path.is_file()}

    def version(self, run: Run) -> registry.Version:
        found = registry.versions(self.client, run.record.recipe)
        return next(one for one in found if one.tags["run"] == run.name)

    def psnr(self, run: Run) -> float:
        place = self.client.get_experiment_by_name(run.record.recipe).experiment_id
        (parent,) = self.client.search_runs([place], f"attributes.run_name = '{run.name}'")
        return parent.data.metrics["test/psnr_db"]


def files_of(run: Run) -> set[str]:
    paths = (path for path in run.folder.rglob("*") if path.is_file())
    return {path.relative_to(run.folder).as_posix() for path in paths}


WHOLE = STAY | set(FILES)
ALL_ARTIFACTS = {"latest_net_G.pth", "model.json", "report.html", "model.onnx"}


@pytest.fixture(scope="module")
def made_store(tmp_path_factory):
    """An MLflow database, which takes seconds to make."""
    runs = tmp_path_factory.mktemp("store") / "runs"
    runs.mkdir()
    MlflowClient(f"sqlite:///{runs / 'mlflow.db'}").search_experiments()
    return runs


@pytest.fixture
def store(made_store, monkeypatch, request):
    """The store, and nights of a recipe that no other test has."""
    store = Store(made_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    store.recipe = re.sub(r"\W|_", "", request.node.name)
    return store


def test_old_nights_lose_what_is_large_and_keep_what_says_how_they_went(store, capsys):
    nights = [store.night(store.recipe) for _ in range(5)]
    store.crown(store.recipe, 5)
    by_hand = store.night(store.recipe, nightly=False)
    other = store.night("another recipe")
    capsys.readouterr()
    retire_nights(store.runs, store.recipe, 2)
    out = capsys.readouterr().out

    for night in nights[:3]:
        assert files_of(night) == STAY and store.artifacts(night) == {"report.html"}
        assert (
            f"removed of {night.name}: " in out
            and registry.FILES_REMOVED in store.version(night).tags
        )
        assert store.psnr(night) > 20, "figures stay"
    for night in (*nights[3:], by_hand, other):
        assert files_of(night) == WHOLE and store.artifacts(night) == ALL_ARTIFACTS
    megabytes = 3 * (100 + 40_000 + 20_000 + 40_002 + 20_000) / 1e6
    assert f"{megabytes:.1f} MB in all" in out
    assert len(runs_in(store.runs)) >= 7, "run.json can still be read"

    said = refusal(promote, store.recipe, 1, store.runs)
    assert "version 1" in said and "--keep-nights" in said
    retire_nights(store.runs, store.recipe, 2)
    assert capsys.readouterr().out == "", "nothing is left to remove"


def test_champion_challenger_and_the_champion_before_stay(store):
    nights = [store.night(store.recipe) for _ in range(6)]
    store.crown(store.recipe, 1, 2, 3)
    registry.set_alias(store.client, store.numbered(store.recipe, 4), registry.CHALLENGER)
    retire_nights(store.runs, store.recipe, 1)
    whole = [files_of(night) == WHOLE for night in nights]
    assert whole == [False, True, True, True, False, True]
    kept = [store.artifacts(night) == ALL_ARTIFACTS for night in nights]
    assert kept == whole
    _, restored = registry.uncrown(store.client, store.recipe)
    assert restored.number == 2
    assert "no champion to go back to" in refusal(registry.uncrown, store.client, store.recipe)


def test_the_training_that_the_champion_took_over_stays(store):
    old, new = store.night(store.recipe), store.night(store.recipe)
    digest = store.version(old).tags["model_digest"]
    registry.set_tag(store.client, store.version(new), "model_digest", digest)
    store.crown(store.recipe, store.version(new).number)
    retire_nights(store.runs, store.recipe, 1)
    assert files_of(old) == STAY
    assert store.artifacts(old) == {"latest_net_G.pth", "model.json", "report.html"}


def test_a_night_that_may_be_continued_and_one_that_is_referred_to_stay(store):
    broken = store.night(store.recipe, state="stopped")
    failed = store.night(store.recipe, state="failed")
    source = store.night(store.recipe)
    taken = store.night(store.recipe)
    plain = store.night(store.recipe)
    start = {"train_global": {"start_from": str(source.folder / "train-global" / "model")}}
    user = store.night(store.recipe, nightly=False, **start)
    user.note_step("train_global", reused_from=taken.name)
    newest = store.night(store.recipe)
    retire_nights(store.runs, store.recipe, 1)
    for run in (broken, failed, source, user, newest):
        assert files_of(run) == WHOLE
    assert files_of(plain) == files_of(taken) == STAY
    assert store.artifacts(plain) == {"report.html"}
    left = {"latest_net_G.pth", "model.json", "report.html"}
    assert store.artifacts(taken) == left, "its training is that of another run too"


def test_a_hard_link_lives_on_and_links_are_not_followed(store, tmp_path, capsys):
    old, new = store.night(store.recipe), store.night(store.recipe)
    shared_file = old.folder / "train-global" / "model" / "latest_net_G.pth"
    twin = new.folder / "train-global" / "model" / "twin.pth"
    twin.hardlink_to(shared_file)
    outside = tmp_path / "outside"
    (outside / "model").mkdir(parents=True)
    (outside / "model" / "precious").write_text("mine")
    (old.folder / "prepare" / "link").symlink_to(outside)
    shutil.rmtree(old.folder / "export")
    (old.folder / "export").symlink_to(outside)
    retire_nights(store.runs, store.recipe, 1)
    assert twin.stat().st_size == 40_000 and twin.stat().st_nlink == 1
    assert (outside / "model" / "precious").read_text() == "mine"
    assert not (old.folder / "prepare").exists() and (old.folder / "export").is_symlink()

    moved = store.night(store.recipe)
    elsewhere = tmp_path / moved.name
    moved.folder.rename(elsewhere)
    moved.folder.symlink_to(elsewhere)
    newest = store.night(store.recipe)
    retire_nights(store.runs, store.recipe, 1)
    assert (elsewhere / "train-global").is_dir() and newest.folder.is_dir()


def test_where_the_registry_does_not_answer_nothing_goes(store, monkeypatch, capsys):
    nights = [store.night(store.recipe) for _ in range(2)]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    retire_nights(store.runs, store.recipe, 1)
    assert "nothing was removed" in capsys.readouterr().out
    assert all(files_of(night) == WHOLE for night in nights)


@pytest.mark.parametrize("waiting", ["benchmark.jsonl", "registration"])
def test_what_mlflow_has_not_taken_stays(store, waiting):
    night = store.night(store.recipe)
    store.night(store.recipe)
    journal = night.folder / "journal"
    journal.mkdir()
    (journal / waiting).write_text("{}\n")
    retire_nights(store.runs, store.recipe, 1)
    assert files_of(night) == WHOLE | {f"journal/{waiting}"}
    (journal / waiting).unlink()
    retire_nights(store.runs, store.recipe, 1)
    assert files_of(night) == STAY and not journal.exists()


def test_zero_keeps_all(store, monkeypatch):
    night = store.night(store.recipe)
    store.night(store.recipe)
    monkeypatch.setattr(retention, "find_room", None)
    retire_nights(store.runs, store.recipe, 0)
    assert files_of(night) == WHOLE
