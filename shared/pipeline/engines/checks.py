"""What containers will need and do not find, said before the first step."""

import contextlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from docker.errors import APIError, ImageNotFound

import docker
from shared.code_version import code_version
from shared.command import StepConfig
from shared.contracts.forecast import Refusals
from shared.errors import InputError
from shared.pipeline.cluster.config import ANY, Cluster
from shared.pipeline.engines.cards import cards_for, device_of
from shared.pipeline.engines.daemon import SILENT, ask, connect, refusal, sweep_probes
from shared.pipeline.engines.mounts import binds
from shared.pipeline.images.named import CODE, built_images, image_name
from shared.pipeline.images.registry import CODE_LABEL
from shared.pipeline.runs import EngineOptions, Run
from shared.servers import said

Configs = Mapping[str, StepConfig]  # by step
Arithmetic = tuple[str, str]  # --device and --precision of a step

# Asked of an image: which code it holds, and whether it can compute as the steps will.
LOOK = """
import json, sys
from shared.code_version import code_version
print(code_version(sys.argv[1]))
from shared.errors import InputError
for device, precision in json.loads(sys.argv[2]):
    from shared.device import pick
    try:
        runtime = pick(device, precision)
        if device == "auto" and runtime.name != sys.argv[3]:
            print(f"torch in it sees no {sys.argv[3]} device")
    except InputError as error:
        print(error)
"""


def images_here(options: EngineOptions, site: Cluster, given: str) -> dict[str, str]:
    """Image of every component, of --images or --cluster, else those that `make images` leaves on
    this machine for its device; none for the embedded engine.

    given: the value of --images. Raises InputError where it has no meaning."""
    if options.engine == "embedded":
        if given:
            raise InputError(
                "--images is of containers: give --engine docker or --host too, or leave it out."
            )
        return {}
    device = device_of(options.container_device)
    images = {one: image_name(one, "pix2pixhd", device) for one in CODE} | dict(site.images)
    return images | _ids_of_pushed(given)


def _ids_of_pushed(given: str) -> dict[str, str]:
    """Of the images of a file those that this engine has, but not by the digest of their registry:
    Podman names what it has pushed by its own layers, which the registry gets compressed."""
    pushed = {one: image for one, image in built_images(given).items() if image.digest}
    found = {}
    with contextlib.suppress(InputError, *SILENT):  # the preflight says so of a silent engine
        with contextlib.closing(connect()) as client:
            for component, image in pushed.items():
                if not _has(client, image.reference) and _has(client, image.id):
                    found[component] = image.id
    return found


def _has(client: docker.DockerClient, image: str) -> bool:
    """Raises what is in SILENT."""
    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    return True


def start_again(run: Run, options: EngineOptions) -> Cluster:
    """Let a run go on as the options say that were given; returns where its steps are then."""
    run.start_by(options)
    if not run.record.images or "container_device" in options.model_fields_set:
        run.start_by(options, images_here(run.record.engine, ANY, ""))
    return Cluster(images=run.record.images, steps=run.record.needs)


def on_any_device(options: EngineOptions, configs: Configs) -> Configs:
    """The configs as this machine's own Python can be asked about them: the images are asked for
    the devices that it may not know."""
    if device_of(options.container_device) == "cpu":
        return configs
    free = {"device": "cpu", "precision": "auto", "precisions": ("auto",)}
    return {
        step: config.model_copy(update={name: free[name] for name in free if hasattr(config, name)})
        for step, config in configs.items()
    }


def _arithmetic_of(configs: Configs) -> dict[str, list[Arithmetic]]:
    """What the steps compute on and in, by their components."""
    found: dict[str, list[Arithmetic]] = {}
    for step, config in configs.items():
        wanted = found.setdefault(step.partition("_")[0], [])
        if hasattr(config, "device"):
            asked = getattr(config, "precisions", None) or [config.precision]
            # Among others the benchmark leaves out fp32 where a chip has none.
            precisions = [one for one in asked if one != "fp32"] or asked
            wanted += [(config.device, precision) for precision in precisions]
    return found


def check_containers(
    options: EngineOptions, images: Mapping[str, str], configs: Configs, raw_data: str | None
) -> tuple[str, list[str]]:
    """What the containers of a run are, in words, and what is missing, a sentence each.

    Args:
        images: Of every component.
        configs: Of the steps that will run.
    """
    arithmetic = _arithmetic_of(configs)
    read = [raw_data or "", *(config.model_dump(mode="json") for config in configs.values())]
    missing = Refusals()
    device = device_of(options.container_device)
    missing.of(binds, read, [])
    try:
        client = connect()
    except InputError as error:
        return "", [*missing, str(error)]
    with contextlib.closing(client):
        engine = client.info() | client.version()
        with contextlib.suppress(APIError, *SILENT):  # whoever asks later does it
            sweep_probes(client)
        cards = cards_for(device, engine)
        with ThreadPoolExecutor(3) as pool:
            asked = [
                pool.submit(_look, client, one, images[one], device, list(wanted), cards)
                for one, wanted in arithmetic.items()
            ]
            for answer in asked:
                missing.of(answer.result)
    name = "podman" if "Podman" in str(engine.get("Components")) else "docker"
    return f"{name} {engine.get('ServerVersion', '')}, {device}", list(missing)


def _look(
    client: docker.DockerClient,
    component: str,
    image: str,
    device: str,
    arithmetic: list[Arithmetic],
    cards: dict[str, Any],
) -> None:
    """Raises InputError for an image that is not there, or holds other code, or cannot compute as
    the steps will."""
    # Whether it is there.
    build = f"`make images DEVICE={device}` builds it"
    try:
        labels = client.images.get(image).labels
    except ImageNotFound:
        get = f"`docker pull {image}`, or Podman's, brings it" if "@" in image else build
        raise InputError(f"--engine docker: there is no image {image}: {get}.") from None
    except (APIError, *SILENT) as error:
        raise InputError(f"--engine docker: image {image}: {said(error)}.") from None

    # What it holds and sees; its label is enough where nothing is computed on cards.
    wanted = [one for one in arithmetic if device != "cpu" or one[0] not in ("auto", "cpu")]
    found, refused = labels.get(CODE_LABEL, ""), []
    if wanted or not found:
        words = [CODE[component], json.dumps(wanted), device]
        try:
            status, text = ask(client, image, ["python", "-c", LOOK, *words], cards)
        except APIError as error:
            raise InputError(
                f"--engine docker: no container of {image} can be started with its cards "
                f"({refusal(error)}): see docker/README.md, or give --container-device cpu."
            ) from None
        found, *refused = text.splitlines() or [""]
        if status:
            raise InputError(f"--engine docker: {image} is no image of {component}: {build}.")
    if found != (ours := code_version(CODE[component])):
        raise InputError(
            f"--engine docker: {image} holds other code of {component} ({found}) than this "
            f"checkout ({ours}): {build} again."
        )
    if refused:
        raise InputError(f"--engine docker: in {image}: {refused[0].rstrip('.')}.")
