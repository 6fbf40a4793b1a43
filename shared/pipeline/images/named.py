"""--images: the image of every step, by the file that `make images` writes or by one name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.bounds import reason_of
from shared.code_version import code_version
from shared.errors import InputError
from shared.files.documents import read_document
from shared.pipeline.cluster.cards import with_cards
from shared.pipeline.cluster.config import Cluster
from shared.pipeline.graph import images_of
from shared.pipeline.images.registry import look_at, parse
from shared.pipeline.recipes import Recipe

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

# Components that have an image, and the folder of components/ whose code it holds.
CODE = {"prepare": "prepare", "train": "train", "cluster": "cluster", "export": "export"}
CODE |= {"benchmark": "benchmark", "train_on_nodes": "train"}
BUILD = "build and push them with `make images DEVICE=cuda REGISTRY=registry.example/team`"
EXAMPLE = "write for example registry.example/team/pix2pixhd:1a2b3c-cuda"

# By the distribution specification; a name has no capital letters.
PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
HOST = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|\[[0-9a-fA-F:]+\]|[A-Za-z0-9-]+(?=:))"
REPOSITORY = re.compile(rf"(?:{HOST}(?::\d+)?/)?{PART}(?:/{PART})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class BuiltImage(BaseModel):
    """An image as it was built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Such as registry.example/team/pix2pixhd-train:1a2b3c-cuda."""
    id: str
    """The engine's own, sha256:..."""
    digest: str = Field(pattern=r"^(sha256:[0-9a-f]{64})?$")
    """Of the manifest that the registry took, sha256:...; empty: it was not pushed."""
    code_version: str
    """Of the code in it: `shared/code_version.py`."""
    size_bytes: int

    @property
    def reference(self) -> str:
        """What names this very image, where it was pushed; else the name on the machine that built
        it."""
        return f"{self.name.rpartition(':')[0]}@{self.digest}" if self.digest else self.name


class BuiltImages(BaseModel):
    """What one `make images` has built: docker/images.<device>.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    device: str
    revision: str
    """The commit, with -dirty where the checkout had changes."""
    images: Mapping[str, BuiltImage]
    """By component."""


def image_name(component: str, prefix: str, tag: str) -> str:
    """The image of a component, which shares prefix and tag with those of the others."""
    return f"{prefix}-{component.replace('_', '-')}:{tag}"


def read_images(given: str) -> dict[str, str]:
    """Image of every component by the value of --images; none for an empty one.

    Raises InputError for what is neither a file of `make images` nor a name, and for images of
    other code than that of this checkout, which would refuse to run.
    """
    if not given:
        return {}
    if not _is_file(given):
        return _names(given)
    built = _read_file(Path(given))
    for component, image in built.images.items():
        if (ours := code_version(CODE[component])) != image.code_version:
            raise InputError(
                f"--images {given}: the image of {component}, of commit {built.revision}, holds "
                f"other code ({image.code_version}) than this checkout ({ours}): build the images "
                "again, or check out what they hold."
            )
    return {component: image.reference for component, image in built.images.items()}


def built_images(given: str) -> Mapping[str, BuiltImage]:
    """By component, what --images says of them where it is a file; of a name nothing is known.
    Raises InputError."""
    return _read_file(Path(given)).images if given and _is_file(given) else {}


def with_images(site: Cluster, given: str) -> Cluster:
    """A cluster with the images of --images over its own. Raises InputError as `read_images`."""
    return site.model_copy(update={"images": {**site.images, **read_images(given)}})


def _is_file(given: str) -> bool:
    return given.endswith(".json") or Path(given).is_file()


def _read_file(file: Path) -> BuiltImages:
    try:
        built = BuiltImages.model_validate(read_document(file))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        reason = f"{where}: {reason_of(error)}".removeprefix(": ")
        raise InputError(f"--images {file} is no file of `make images` ({reason}).") from None
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"--images {file} {reason}: `make images` writes one, such as docker/images.cpu.json, "
            f"and {EXAMPLE} for those of a registry."
        ) from None
    if unknown := sorted(built.images.keys() - CODE):
        raise InputError(f"--images {file}: there is no component {unknown[0]!r} here.")
    for image in built.images.values():
        _check_name(image.name, f"--images {file}")
    return built


def _names(given: str) -> dict[str, str]:
    """The image of every component by what is common to their names."""
    _check_name(given, "--images")
    prefix, _, tag = given.rpartition(":")
    for component in CODE:
        if prefix.endswith(ending := f"-{component.replace('_', '-')}"):
            raise InputError(
                f"--images {given} is the image of one step: leave out {ending}, which is added "
                "for each."
            )
    return {component: image_name(component, prefix, tag) for component in CODE}


def _check_name(name: str, where: str) -> None:
    """Raises InputError for what is no name with a tag, and does not show a password in it.

    where: the flag, or what it stands in."""
    if "://" in name or "@" in name:
        raise InputError(
            f"{where} holds a URL, credentials or a digest: {EXAMPLE}, and let engine and cluster "
            "log in by themselves."
        )
    repository, _, tag = name.rpartition(":")
    if not repository or "/" in tag:
        raise InputError(
            f"{where} {name} is no file, and as a name of images has no tag: {EXAMPLE}."
        )
    if not REPOSITORY.fullmatch(repository) or not TAG.fullmatch(tag):
        raise InputError(f"{where} {name} is neither a file nor a name of images: {EXAMPLE}.")


def refuse_unqualified(graph: "GraphComponent", flag: str) -> None:
    """Raises InputError for a graph with an image that no registry has.

    flag: what a server is named by: --host or --cluster."""
    for image in sorted(images_of(graph).values()):  # protobuf has no order
        if not parse(image).registry:
            raise InputError(
                f"{flag} needs --images: no node of a cluster finds {image}, which names no "
                f"registry: {BUILD} and give --images docker/images.cuda.json, or the common name "
                "of images that are there, --images registry.example/team/pix2pixhd:1a2b3c-cuda."
            )


def refuse_wrong(
    graph: "GraphComponent", recipe: Recipe, site: Cluster, given: str, flag: str
) -> None:
    """Raises InputError for images that the steps of a built graph cannot use.

    Args:
        given: The value of --images.
        flag: What a server is named by, --host or --cluster; "" = none is."""
    refuse_other_device(recipe, site, given)
    if flag:
        refuse_unqualified(graph, flag)


def refuse_other_device(recipe: Recipe, site: Cluster, given: str) -> None:
    """Raises InputError for a step that has a card of the cluster, and an image for another
    device: it would find no card, or no torch for it.

    given: the value of --images."""
    _, placed = with_cards(recipe, site)
    of_file = _read_file(Path(given)) if given and _is_file(given) else None
    for step in recipe:
        component = step.partition("_")[0]
        image = site.images.get(component, "")
        device = of_file.device if of_file and component in of_file.images else _device_in(image)
        if placed.needs(step).accelerators and device not in ("", site.device):
            flag = f"--images {given}" if given else f"--cluster: images.{component}"
            raise InputError(
                f"{flag}: {image} is for {device}, but {step} computes on {site.device} "
                f"({site.accelerator.resource} of --cluster): give those that `make images "
                f"DEVICE={site.device}` builds, or say accelerators: 0 under steps.{step} there."
            )


def _device_in(image: str) -> str:
    """What the tag of an image says, as those of `make images` do; "" where it says none."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    named = {*re.split(r"[-_.]", tag)} & {"cpu", "cuda", "npu"}
    return named.pop() if len(named) == 1 else ""


def refuse_other_code(given: str) -> list[str]:
    """What is not known of the images of --images, where that is a name: their registry is asked.

    Raises InputError for images of other code than that of this checkout; a file of `make images`
    says itself what they hold."""
    if not given or _is_file(given):
        return []
    unknown = []
    for one in look_at(_names(given)):
        if one.state == "other code":
            raise InputError(f"--images {given}: {one}")
        unknown += [str(one)] if one.state != "there" else []
    return unknown
