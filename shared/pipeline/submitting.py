"""What `submit` is asked for: the run, and where it runs."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Self

import tyro
from pydantic import AfterValidator, Field, field_validator, model_validator

from shared.bounds import MANY
from shared.command import Options, StepConfig
from shared.errors import InputError
from shared.flags import as_flag
from shared.pipeline.reuse import Reuse
from shared.pipeline.runs import EngineOptions


def _named(raw_data: str | None) -> str | None:
    """Empty, as a variable that nobody set, is neither the folder that we stand in nor none."""
    if raw_data is not None and not raw_data.strip():
        raise ValueError(
            "should be a folder, archive or URL of paired images; without it demo scenes are "
            "generated"
        )
    return raw_data


RawData = Annotated[str | None, tyro.conf.arg(metavar="PATH"), AfterValidator(_named)]


class RecipeOptions(Options):
    """What runs."""

    recipe: str = "demo"
    """Name of a built-in recipe, or path of a YAML file."""
    raw_data: RawData = None
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

    @field_validator("images")
    @classmethod
    def _is_found_from_any_folder(cls, images: str) -> str:
        return os.path.realpath(images) if os.path.isfile(images) else images


class ServerOptions(Options):
    """On a Kubeflow Pipelines server. A token, else a cookie, may also stand in the environment:
    KF_PIPELINES_TOKEN, KF_PIPELINES_COOKIE, and the path of a token in
    KF_PIPELINES_SA_TOKEN_PATH."""

    host: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """URL of a Kubeflow Pipelines API server, with user and password where it wants them;
    env://VARIABLE: that of a variable."""
    namespace: str = ""
    """Namespace of the cluster, where the server has users."""
    experiment: str = ""
    """Experiment on the server; empty: called as the recipe, and in a search all of them."""
    token_file: Path | None = None
    """File that holds a bearer token; it is read anew for each call, since tokens are renewed."""
    cookie_file: Path | None = None
    """File that holds the cookie of who has logged in, such as authservice_session=..., likewise
    read anew."""
    ca_file: Path | None = None
    """Certificates (PEM) of who vouches for the server, beside those of this machine and of
    SSL_CERT_FILE."""
    cluster: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """YAML file of what the cluster has: cards, memory, volumes, secrets, namespace. Without --host
    its images, shared memory and retries alone have a meaning."""


class WaitOptions(ServerOptions):
    """Waiting for the end of a run on a server."""

    wait: bool = False
    """Follow the run to its end. Exit codes: 0 succeeded, 1 failed, 2 the server is lost, 4
    canceled, 5 skipped, 124 the deadline has passed."""
    deadline_min: float = Field(default=0, ge=0, le=MANY)
    """Minutes after which --wait ends; the run goes on. 0 = never."""
    poll_s: float = Field(default=10, ge=0.05, le=3600)
    """Seconds between two looks of --wait."""


class SubmitOptions(
    WaitOptions, ImageOptions, EngineOptions, HereOptions, RecipeOptions, StepConfig
):
    """A run that is asked for; the flags of `submit`."""

    STEP: ClassVar[str] = "submit"

    tags: Annotated[tuple[str, ...], tyro.conf.arg(name="tag", metavar="KEY=VALUE ...")] = ()
    """Tags of the MLflow run."""
    run_name: str = ""
    """Name of the run on the server; empty: recipe and time."""

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        refuse_without_host(self, {"run_name", *WaitOptions.model_fields} - {"cluster"})
        return self


def refuse_without_host(options: ServerOptions, fields: Iterable[str]) -> None:
    """Raises InputError for options that mean nothing on this machine."""
    for field in fields:
        given = getattr(options, field) != type(options).model_fields[field].default
        if given and not options.host:
            raise InputError(f"{as_flag(field)} is for a server: give its URL by --host, too.")
