"""What `submit` is asked for: the run, and where it runs."""

from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from shared.command import Options, StepConfig
from shared.pipeline.reuse import Reuse


class RunOptions(Options):
    """What runs."""

    recipe: str = "demo"
    """Name of a built-in recipe, or path of a YAML file."""
    raw_data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Folder, archive or URL of paired images; without it demo scenes are generated."""
    overrides: Annotated[
        tuple[str, ...], tyro.conf.arg(name="set", metavar="STEP.FIELD=VALUE ...")
    ] = ()
    """Numbers of the recipe to change."""
    start: Annotated[str, tyro.conf.arg(name="from", metavar="champion|VERSION")] = ""
    """Train on from the weights of a version of the recipe's registered model; empty: from
    scratch."""
    init_from: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
    """Folder of a model to train on from, ours or pix2pixHD's or pix2pix's own; sizes that --set
    does not say are its own."""
    tags: Annotated[tuple[str, ...], tyro.conf.arg(name="tag", metavar="KEY=VALUE ...")] = ()
    """Tags of the MLflow run."""


class HereOptions(Options):
    """On this machine."""

    runs: Path = Path("runs")
    """Folder of the runs and of the MLflow store."""
    continue_: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(name="continue", metavar="[RUN|latest]")
    ] = None
    """Go on with a run that was interrupted, by its name; without one, with the newest."""
    reuse: Reuse = "on"
    """Which steps take over the output of an earlier run: on = all, data = prepare alone, off =
    none."""


class ImageOptions(Options):
    """What the steps run in, where that is not this machine itself."""

    images: Annotated[str, tyro.conf.arg(metavar="FILE|REGISTRY/PREFIX:TAG")] = ""
    """File that `make images` has written, or what is common to the names of the images of a
    registry, such as registry.example/team/pix2pixhd:1a2b3c-cuda."""


class ServerOptions(Options):
    """On a Kubeflow Pipelines server."""

    host: str = ""
    """URL of a Kubeflow Pipelines API server."""
    cluster: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """YAML file of what the cluster has: cards, memory, volumes, secrets. Here its images, shared
    memory and retries alone have a meaning."""


class SubmitOptions(ServerOptions, ImageOptions, HereOptions, RunOptions, StepConfig):
    """A run that is asked for; the flags of `submit`."""

    STEP: ClassVar[str] = "submit"
