"""Verbs of the registry: which model is the champion, and who becomes it; and which model a run
starts from."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tabulate import tabulate

from shared import registry, tracking
from shared.errors import InputError
from shared.files.digests import digest_files
from shared.networks.chosen import weights_in
from shared.pipeline.recipes import Recipe
from shared.recipes.files import recipe_name
from shared.registry.trained import trained_card, training_run
from shared.secrets import without_secrets
from shared.tracking import store

GENERATOR = "latest_net_G.pth"


def promote(recipe: str = "demo", version: int = 0, runs: Path = Path("runs")) -> None:
    """Make a version the champion: what the next night is compared with.

    Args:
        recipe: Name of the recipe, and of its registered model, or path of its file.
        version: Number of the version; 0: the challenger.
        runs: Folder of the MLflow store where no MLFLOW_TRACKING_URI is set.

    Example:
        python pipeline.py promote --recipe demo --version 3
    """
    recipe = recipe_name(recipe)
    found = _versions(recipe, runs)
    champion = registry.with_alias(found, registry.CHAMPION)
    if version:
        chosen = _numbered(recipe, found, version)
    elif not (chosen := registry.with_alias(found, registry.CHALLENGER)):
        raise InputError(
            f"{recipe} has no challenger: name one of its versions with --version, `best` lists "
            "them."
        )
    if champion and champion.number == chosen.number:
        raise InputError(f"--version {chosen.number} is the champion of {recipe} already.")
    if remover := chosen.tags.get(registry.FILES_REMOVED):
        raise InputError(f"{chosen} has no files any more, removed by {remover}: choose another.")
    with connected() as client:
        registry.crown(client, chosen)
    print(f"{chosen} is the champion now, before: {champion}")


def rollback(recipe: str = "demo", runs: Path = Path("runs")) -> None:
    """Make the champion before this one the champion again; repeated, it walks further back.

    Args:
        recipe: Name of the recipe, and of its registered model, or path of its file.
        runs: Folder of the MLflow store where no MLFLOW_TRACKING_URI is set.

    Example:
        python pipeline.py rollback --recipe demo
    """
    recipe = recipe_name(recipe)
    _versions(recipe, runs)
    with connected() as client:
        deposed, restored = registry.uncrown(client, recipe)
    print(f"{restored} is the champion again, no longer {deposed}")


def best(recipe: str = "demo", runs: Path = Path("runs")) -> None:
    """Show the champion, how to load it, and all versions with their verdicts.

    Args:
        recipe: Name of the recipe, and of its registered model, or path of its file.
        runs: Folder of the MLflow store where no MLFLOW_TRACKING_URI is set.

    Example:
        python pipeline.py best --recipe demo
    """
    recipe = recipe_name(recipe)
    found = _versions(recipe, runs)
    champion = registry.with_alias(found, registry.CHAMPION)

    # The champion, and the way to it.
    if champion:
        uri = f"models:/{recipe}@{registry.CHAMPION}"
        uri_of_store = without_secrets(os.environ["MLFLOW_TRACKING_URI"])
        with connected() as client:
            place = client.get_model_version_download_uri(recipe, str(champion.number))
            figures = sorted(champion.figures.items())
        print(f"champion: {champion}\nfiles:    {without_secrets(place)}")
        print(f'load:     mlflow.onnx.load_model("{uri}") with MLFLOW_TRACKING_URI={uri_of_store}')
        print(f"download: mlflow artifacts download --artifact-uri {uri} --dst-path champion")
        print(f"\n{tabulate(figures, tablefmt='plain')}")
    else:
        print(f"{recipe} has no champion: promote one of its versions")

    # All of them, the newest first.
    rows = [
        (
            version.number,
            ", ".join(version.aliases),
            version.tags.get("outcome", ""),
            version.tags.get("run", ""),
            version.tags.get("weights", ""),
            f"{version.created:%Y-%m-%d %H:%M}",
            version.tags.get("refused", ""),
        )
        for version in reversed(found)
    ]
    headers = ("version", "alias", "verdict", "run", "weights", "made (UTC)", "refused because")
    print(f"\n{tabulate(rows, headers, tablefmt='plain', disable_numparse=True)}")


def start_from(start: str, recipe: str, config: Recipe, runs: Path, host: str = "") -> Recipe:
    """The config whose train steps begin from a version, which is named by its number from here on.

    Args:
        start: `champion`, another alias, or a number of a version; '' = from scratch.
        host: Of the KFP server that the pipeline runs on, '' = it runs here.

    Without a champion they begin from scratch, and that is said. Raises InputError where there is
    no such version, or its networks are others.
    """
    if not start:
        return config
    if host and not os.environ.get(store.URI):
        raise InputError(
            f"--from {start} needs {store.URI} with --host: set it to the MLflow server that the "
            "cluster's steps log to."
        )
    found = _versions(recipe, runs, may_be_none=True)

    # Which version.
    if start.isdigit():
        version = _numbered(recipe, found, int(start), "--from")
    elif version := registry.with_alias(found, start):
        pass
    elif start == registry.CHAMPION:
        print(f"--from champion: {recipe} has none yet, so it trains from scratch", flush=True)
        return config
    else:
        raise InputError(f"--from {start} is no version of {recipe}: say champion, or a number.")

    # Its training of each stage.
    changed = dict(config)
    for step in config:
        if "start_from" in config[step]:
            if config[step]["start_from"]:
                raise InputError(
                    f"--from {start} and {step}.start_from={config[step]['start_from']} were both "
                    "given: leave one out."
                )
            with connected() as client:
                card = trained_card(client, training_run(client, version, step)[0])
            _refuse_other_networks(start, step, card.config, config[step])
            changed[step] = config[step] | {"start_from": version.uri}
    print(f"--from {start}: {version}", flush=True)
    return changed


# A model that is in no registry.


def find_model(init_from: str, host: str = "") -> str:
    """The absolute path of the model to start from, "" where none is asked for; with a server the
    path is that of its pods. Raises InputError where no model is there."""
    if not init_from or host:
        return init_from
    folder = Path(init_from)
    if not folder.is_dir():
        found = "is a file" if folder.is_file() else "is no folder"
        raise InputError(
            f"--init-from {init_from} {found}: give the folder of a trained model, which holds "
            f"{GENERATOR}."
        )
    if not (folder / GENERATOR).is_file():
        below = [path.parent for path in sorted(folder.glob(f"*/**/{GENERATOR}"))[:1]]
        remedy = f"did you mean {below[0]}?" if below else "give one that does."
        if held := weights_in(folder):
            remedy = f"copy {held[-1]}_net_*.pth under this name to a folder of their own."
        raise InputError(f"--init-from {init_from} holds no {GENERATOR}: {remedy}")
    return str(folder.resolve())


def tags_of_start(model: str) -> dict[str, str]:
    """What run.json and MLflow keep of the model that a run starts from."""
    files = sorted(Path(model).glob("latest_net_?.pth")) if model else []
    return {"init_from": model, "init_from.digest": digest_files(files)} if files else {}


# What the registry has.


def _versions(recipe: str, runs: Path, may_be_none: bool = False) -> list[registry.Version]:
    """The versions of a recipe's registered model. Raises InputError where there are none, or no
    registry."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        if not (runs / "mlflow.db").is_file():
            if may_be_none:
                return []
            raise InputError(
                f"--runs {runs} holds no mlflow.db, and MLFLOW_TRACKING_URI is not set: name the "
                "folder of the runs, or the server."
            )
        os.environ["MLFLOW_TRACKING_URI"] = tracking.store_uri(runs)
    with connected() as client:
        found = registry.versions(client, recipe)
    if not found and not may_be_none:
        raise InputError(
            f"{recipe} has no version in MLflow's registry yet: a run that ends with the benchmark "
            "makes one."
        )
    return found


@contextlib.contextmanager
def connected() -> Iterator:
    """Give an MlflowClient; a registry that does not answer is refused."""
    try:
        with registry.connected() as client:
            yield client
    except registry.RegistryError as error:
        uri = without_secrets(os.environ["MLFLOW_TRACKING_URI"])
        raise InputError(f"MLFLOW_TRACKING_URI={uri}: {error}") from None


def _numbered(
    recipe: str, found: list[registry.Version], number: int, flag: str = "--version"
) -> registry.Version:
    """The version of this number. Raises InputError where there is none."""
    if version := registry.with_number(found, number):
        return version
    numbers = ", ".join(str(version.number) for version in found) or "none"
    raise InputError(f"{flag} {number} is no version of {recipe}: it has {numbers}.")


def _refuse_other_networks(start: str, step: str, earlier: dict, wanted: dict) -> None:
    """Raises InputError where a training had other networks than are asked for now; whether their
    shapes fit, which the data decide too, is seen by the step."""
    names = ["netG", "norm", "ngf", "n_downsample_global", "n_blocks_global"]
    names += ["n_local_enhancers", "n_blocks_local", "instance_features", "feat_num"]
    for name in names:
        if name in earlier and earlier[name] != wanted[name]:
            raise InputError(
                f"--from {start} has {step}.{name} {earlier[name]}, but {wanted[name]} is asked "
                "for: give the same networks, or train from scratch."
            )
