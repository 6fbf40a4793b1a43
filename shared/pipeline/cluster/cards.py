"""Which steps have cards on a cluster, how many, and that they compute on them."""

from shared.errors import InputError
from shared.pipeline.cluster.config import WITHOUT_CARDS, Cluster
from shared.pipeline.recipes import Recipe


def with_cards(recipe: Recipe, site: Cluster) -> tuple[Recipe, Cluster]:
    """The recipe and the cluster with what they decide together: `device: auto` of a step that has
    cards is their device, so that a missing card is an error in its pod; of one that has none it
    is the CPU. And of every step the number of its cards.

    Raises InputError where they contradict each other. Without an accelerator all stays as it is.
    """
    if not site.accelerator:
        return recipe, site
    steps = {step: site.needs(step) for step in recipe}
    recipe = {**recipe}
    for step, values in recipe.items():
        cards = _cards(step, values, site)
        steps[step] = steps[step].model_copy(update={"accelerators": cards})
        if values.get("device") == "auto":
            recipe[step] = values | {"device": site.device if cards else "cpu"}
    return recipe, site.model_copy(update={"steps": site.steps | steps})


def _cards(step: str, values: dict, site: Cluster) -> int:
    """The cards of a step's pod. Raises InputError for another number than it computes on."""
    said, device = site.needs(step).accelerators, values.get("device")
    place, resource = f"--cluster: steps.{step}.accelerators", site.accelerator.resource

    # Steps that choose no device.
    if device is None:
        compiles = values.get("format") == "om" and site.device == "npu"  # on the chip it is for
        usual = 1 if compiles and step not in WITHOUT_CARDS else 0
        return usual if said is None else said

    # Those that compute on something else.
    if device == "cpu":
        if said:
            raise InputError(f"{place} is {said}, but {step}.device is cpu: leave one of them out.")
        return 0
    if device not in ("auto", site.device):
        raise InputError(
            f"--cluster: the accelerator {resource} is {site.device}, but {step}.device is "
            f"{device}: say --set {step}.device=auto."
        )
    if said == 0 and device != "auto":
        raise InputError(f"{place} is 0, but {step}.device is {device}: leave one of them out.")

    # As many as it takes.
    takes = values.get("devices", 1)
    if said not in (None, 0, takes):
        remedy = f"say {takes} there, or leave it out"
        remedy += f", or say --set {step}.devices={said}" if "devices" in values else ""
        raise InputError(f"{place} is {said}, but the step computes on {takes} of them: {remedy}.")
    return takes if said is None else said


def cards_of(site: Cluster) -> str:
    """What the steps of a graph compute on: without cards a pod trains on its CPU, and succeeds."""
    if site.accelerator:
        return f"Its cards are {site.accelerator.resource} ({site.device})."
    return (
        "It asks for no accelerator, so that steps with device auto compute on the CPU: cards are "
        "named in --cluster FILE."
    )
