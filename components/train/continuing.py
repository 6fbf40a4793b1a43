"""How a training goes on that was stopped under another command line, on other data or elsewhere:
one decision for each option, input and fact of the environment."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from components.train.config import TrainConfig
from components.train.schedule import ScheduleOptions, learning_rate
from shared.contracts.model import Architecture
from shared.flags import as_flag
from shared.published.files import published_in

# What a state remembers of its training, by name: options, networks, and what else it was given. A
# fact that an earlier version did not remember says nothing.
Facts = Mapping[str, Any]

# Options of which a fact says what they come to, such as of `auto` or of a file's name.
RESOLVED = {
    "device",
    "precision",
    "compile",
    "devices",
    "vgg_weights",
    "lpips_network",
    "fid_network",
}
# Facts that are digests of what an input holds; "" = there is none, or nobody knows.
CONTENTS = {"dataset", "init_from", "clusters", "vgg_weights", "lpips_network", "fid_network"}
NO_CLUSTERS = "none"
# Facts that no option gives, as people call them.
CALLED = {"torch": "torch", "code": "code of train", "deployed": "deployed size"}
CALLED |= {"num_labels": "labels of the data set", "input_nc": "channels of the data set"}


class Decision(Enum):
    """What becomes of a training where something is different; for people."""

    EXACT = "continues exactly"
    LINE = "continues, a line says so"
    REFUSED = "is refused"


@dataclass(frozen=True)
class Row:
    """What is decided together."""

    names: tuple[str, ...]
    decision: Decision
    effect: str  # for people: of a refusal the reason; {words} are those of `Place`
    within: Decision | None = None  # the decision within an epoch, where it is another
    anew: tuple[str, ...] = ()  # memories that mean nothing any more, and begin again
    where: str = ""  # where alone it does anything, for people
    applies: Callable[[Facts], bool] = lambda now: True  # the same


EXACT, LINE, REFUSED = Decision
NETWORKS = [name for name in Architecture.model_fields if name != "D_features"]  # the loss says it
ROUNDING = "the same up to rounding"

TABLE = (
    # Networks.
    Row(
        (*NETWORKS, "instance_features"),
        REFUSED,
        "the weights are those of other networks",
    ),
    Row(
        ("init_type", "init_gain", "start_from", "init_from"),
        LINE,
        "no effect, it goes on from its own weights",
    ),
    Row(("clusters",), REFUSED, "G has learned what the features of the former mean"),
    # What is learned, and from what.
    Row(("dataset",), REFUSED, "the model would be credited to one and have learned from two"),
    Row(
        ("gan_mode",),
        LINE,
        "D has to learn what its scores mean now",
        anew=("sums", "plateau"),
    ),
    Row(
        ("lambda_L1", "lambda_feature_matching", "lambda_vgg", "vgg_weights"),
        LINE,
        "mean losses of epoch {epoch} are of its pairs from here on",
        anew=("sums", "plateau"),
    ),
    Row(("pool_size",), LINE, "a smaller pool leaves fakes out, a larger one fills up further"),
    Row(("size", "crop"), LINE, "the pool begins again", anew=("pool",)),
    Row(("flip",), LINE, "for the pairs from here on"),
    Row(("batch_size",), LINE, "for the steps from here on"),
    Row(
        ("seed",),
        LINE,
        "order, crops and flips of the epochs from {epoch} on",
        within=REFUSED,
    ),
    # How large the steps are.
    Row(
        ("epochs", "epochs_decay", "learning_rate", "lr_policy", "lr_decay_epochs", "lr_scaling"),
        LINE,
        "{rates}",
    ),
    Row(
        ("epochs_fix_global",),
        LINE,
        "the global network learns after that epoch",
        where="in stage local",
        applies=lambda now: now["netG"] == "local",
    ),
    Row(
        ("beta1", "clip_gradient_norm"), LINE, "for the steps from here on, Adam keeps its moments"
    ),
    Row(
        ("ema_decay",),
        LINE,
        "a new average begins at G as it is; without one, G itself is saved",
    ),
    # Where and in which arithmetic.
    Row(("devices",), LINE, "a step has a batch of each; {rates}"),
    Row(
        ("compress_gradients",),
        LINE,
        ROUNDING,
        where="with several devices",
        applies=lambda now: now["devices"] > 1,
    ),
    Row(
        (*("device", "precision", "memory_format", "compile", "cuda_graph", "torch", "adam"),),
        LINE,
        ROUNDING,
    ),
    Row(("code",), LINE, "as the code has it now"),
    Row(
        (
            *("loss_scale", "loss_scale_initial", "loss_scale_growth_factor"),
            *("loss_scale_growth_interval", "loss_scale_backoff_factor", "loss_scale_hysteresis"),
        ),
        LINE,
        "the scale begins again at --loss-scale-initial",
        where="in fp16",
        applies=lambda now: now["precision"] == "fp16",
    ),
    Row(
        ("combine_grad",),
        LINE,
        ROUNDING,
        where="with apex",
        applies=lambda now: now["amp_backend"] == "apex",
    ),
    Row(("amp_backend",), REFUSED, "each keeps weights and scales in its own form"),
    Row(
        ("opt_level",),
        REFUSED,
        "each keeps weights and scales in its own form",
        where="with apex",
        applies=lambda now: now["amp_backend"] == "apex",
    ),
    # Which epoch is the best, and what is kept.
    Row(
        ("best_by", "validate_pairs", "deployed"),
        LINE,
        "the search for the best epoch begins again",
        anew=("best",),
    ),
    Row(
        ("lpips_network", "fid_network"),
        LINE,
        "the search for the best epoch begins again",
        anew=("best",),
        where="where --best-by goes by it",
        applies=lambda now: now["best_by"] in ("lpips", "fid"),
    ),
    Row(
        ("keep_checkpoints",),
        LINE,
        "earlier copies than these are deleted at the next checkpoint, 0 deletes none",
    ),
    # What no weight depends on.
    Row(
        (
            *(
                "workers",
                "cache",
                "check_dataset",
                "activation_checkpointing",
                "max_skipped_updates",
            ),
            *("validate_every_epochs", "log_every_steps", "performance_run", "profile"),
            *("sample_every_epochs", "sample_every_minutes"),
            *("save_every_epochs", "save_every_minutes", "save_every_steps"),
            *("nodes", "cards"),  # as `devices` are those of all nodes
        ),
        EXACT,
        "no weight depends on it",
    ),
    Row(("model",), EXACT, "a folder that was moved or copied is the same"),
)
DECIDED = {name: row for row in TABLE for name in row.names}


@dataclass(frozen=True)
class Place:
    """Where a stopped training stands."""

    model: Path
    epoch: int  # that goes on, or comes next
    is_within: bool  # whether some of it is done
    reduction: float = 1.0  # factor that policy plateau has put on the learning rate so far


@dataclass
class Changes:
    """What is different, and what becomes of the training."""

    refusals: list[str] = field(default_factory=list)  # sentences
    lines: list[str] = field(default_factory=list)
    anew: set[str] = field(default_factory=set)  # memories that begin again


def facts_of(config: TrainConfig, architecture: Architecture, **found: Any) -> dict[str, Any]:
    """What a state is to remember: options, networks, and what else was found."""
    given = config.model_dump(exclude=RESOLVED | {"instance_features"})  # `feat_num` says it
    named = architecture.model_dump(exclude={"D_features"})  # the loss says it
    return given | named | _digests_of_weights(config) | found


def began_at(before: Facts) -> dict[str, Any]:
    """What a training began at, whatever it is given later."""
    return {name: before[name] for name in DECIDED["start_from"].names if name in before}


def _digests_of_weights(config: TrainConfig) -> dict[str, str]:
    """Of each option that names published weights or a file of them; "" where it does nothing."""
    published, digests = published_in(config.model_dump()), {}
    for name in ("vgg_weights", "lpips_network", "fid_network"):
        digests[name] = " ".join(file.sha256 for file in published.get(name, ()))
        is_used = name != "vgg_weights" or config.lambda_vgg
        if is_used and (path := Path(getattr(config, name))).is_file():
            with open(path, "rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def compare(before: Facts, now: Facts, place: Place) -> Changes:
    """How a training goes on whose facts were `before`."""
    how = Changes()
    for row in TABLE:
        changed = [name for name in row.names if _differs(name, before, now)]
        decision = row.within if row.within and place.is_within else row.decision
        if not changed or not row.applies(now) or decision is EXACT:
            continue
        if decision is REFUSED:
            how.refusals.append(_refusal(row, changed, before, now, place))
            continue
        words = dict(epoch=place.epoch)
        if "{rates}" in row.effect:
            words["rates"] = _rates(before, now, place)
        changes = ", ".join(_change(name, before, now) for name in changed)
        how.lines.append(f"continues with {changes}: {row.effect.format(**words)}")
        how.anew |= set(row.anew)
    return how


def _differs(name: str, before: Facts, now: Facts) -> bool:
    if name not in before or name not in now:
        return False
    if name in CONTENTS and not (before[name] and now[name]):
        return False
    return before[name] != now[name]


def _refusal(row: Row, changed: list[str], before: Facts, now: Facts, place: Place) -> str:
    if row is TABLE[0]:
        name = changed[0]
        return (
            f"--model {place.model} holds a training with {name} {before[name]}, but {now[name]} "
            "is asked for: give an empty folder, or the same options to continue."
        )
    former = " ".join("the former" if n in CONTENTS else _said(n, before[n]) for n in changed)
    reason = row.effect
    remedy = f"give {former}, or an empty folder with --start-from {place.model}."
    if row.decision is not REFUSED:
        reason = (
            f"it stands within epoch {place.epoch}, of which pairs would be left out or repeated"
        )
        remedy = f"give {former} to the end of that epoch."
    changes = ", ".join(_change(name, before, now) for name in changed)
    return f"--model {place.model} cannot go on with {changes}: {reason}; {remedy}"


def _change(name: str, before: Facts, now: Facts) -> str:
    if name in CONTENTS:
        return f"{as_flag(name)} of other content"
    was = _said(name, before[name])
    if not isinstance(before[name], bool):
        was = was.rpartition(" ")[2]
    return f"{_said(name, now[name])} (was {was})"


def _said(name: str, value: Any) -> str:
    """A value as the command line has it."""
    if isinstance(value, bool):
        return as_flag(name if value else f"no_{name}")
    shown = f"{value:g}" if isinstance(value, float) else str(value) or "''"
    return f"{CALLED.get(name, as_flag(name))} {shown}"


def _rates(before: Facts, now: Facts, place: Place) -> str:
    """The learning rate of the epoch that comes, and what it would have been."""
    asked, planned = (facts["epochs"] + facts["epochs_decay"] for facts in (now, before))
    if place.epoch > asked:
        return f"{place.epoch - 1} epochs are done"
    new = _rate(now, place)
    rate = f"learning rate {new:.3g} in epoch {place.epoch}"
    if place.epoch > planned:
        return f"{rate}, after the {planned} that were planned"
    was = _rate(before, place)
    return f"{rate}, as before" if was == new else f"{rate}, before {was:.3g}"


def _rate(facts: Facts, place: Place) -> float:
    fields = ScheduleOptions.model_fields.keys() & facts.keys()
    options = ScheduleOptions(**{name: facts[name] for name in fields})
    plateau = options.learning_rate * place.reduction
    return learning_rate(options, place.epoch, facts.get("devices", 1), plateau)
