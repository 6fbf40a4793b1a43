"""Which styles a picture is painted with: the commonest, random ones, chosen ones, or those of a
photograph."""

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from torch import nn

from components.export.checks import read_clusters
from components.export.synthesise.config import StyleOptions
from shared.contracts.clusters import ClusterTable
from shared.contracts.exported import ExportCard
from shared.contracts.labels import IGNORED, Label
from shared.contracts.model import ModelCard
from shared.data.images import to_grey
from shared.data.labels import find_label
from shared.data.maps import Sample
from shared.deployed.form import Form
from shared.deployed.styles import Style, rows_of_instances
from shared.device import Runtime
from shared.errors import InputError
from shared.networks.checkpoint import load_encoder
from shared.networks.chosen import weights_path
from shared.networks.regions import encode_photos, pool

GraphStyle = Literal["label", "instance", "map"]  # styles as input: see `Graph.style`


class Styles(Protocol):
    instances_for: str | None
    """The flag that gives single instances styles of their own; None where none does."""
    graph_style: GraphStyle
    """The form of input in which they are exact and cheap."""

    def of(self, scene: Sample, variant: int) -> Style:
        """The styles of one picture."""


def styles_for_model(
    options: StyleOptions, model: Path, card: ModelCard, runtime: Runtime
) -> Styles | None:
    """None for a model without instance features."""
    if not card.architecture.feat_num:
        options.refuse(f"--model {model} takes no instance features: leave it out")
        return None
    if options.photo:
        if not weights_path(model, "E", card.chosen).is_file():
            raise InputError(
                f"--photo {options.photo} needs an encoder but --model {model} has no "
                f"{weights_path(model, 'E', card.chosen).name}: give the model that it was trained "
                "with."
            )
        encoder = load_encoder(model, card).to(runtime.torch_device)
        return PhotoStyles(encoder, card, runtime)
    table = read_clusters(options.clusters, model, card)
    return CentreStyles.chosen(options, table, card.architecture.num_labels, card.labels)


def styles_for_file(
    options: StyleOptions, exported: Path, card: ExportCard, form: Form
) -> Styles | None:
    """None for a file that takes no styles as input."""
    named, graph, num_labels = f"--exported {exported}", form.graph, form.reads.num_labels
    if options.photo:
        raise InputError(
            f"--photo {options.photo} needs an encoder, which {named} does not have: give the "
            "--model it was made from."
        )
    if not form.reads.feat_num:
        options.refuse(f"{named} takes no instance features: leave it out")
        return None
    if graph.style == "fixed":
        options.refuse(
            f"{named} has its styles inside: export it with --style label or --style instance"
        )
        return None
    if options.clusters is None:
        options.refuse(
            "--clusters was not: give the folder that `python -m components.cluster` wrote"
        )
        return CentreStyles([row[None] for row in form.style.by_label])
    table = ClusterTable.read(options.clusters)
    # A stage-two model's table has the digest of stage one, which the card does not know; but it
    # knows the centres.
    if (
        table.model_digest != card.model_digest
        and table.default_style(num_labels).tolist() != card.style
    ):
        raise InputError(
            f"--clusters {options.clusters} belongs to model {table.model_digest}, not to "
            f"{named}, which is {card.model_digest}: give the folder that it was exported with."
        )
    styles = CentreStyles.chosen(options, table, num_labels, card.labels)
    if graph.style == "label" and styles.instances_for:
        raise InputError(
            f"{styles.instances_for} was given but {named} takes styles by label: export it with "
            "--style instance."
        )
    return styles


Numbers = dict[int, int]  # the number of a style by label, row, or instance id


@dataclass(frozen=True)
class CentreStyles:
    """Styles out of the centres of a cluster table."""

    # (k, feat_num) float32 for each row of Style.by_label, the most frequent first
    centres: list[np.ndarray]
    seed: int | None = None  # of random styles; None: the commonest
    per_instance: bool = False  # random for each instance, not for each label
    of_row: Numbers = field(default_factory=dict)
    of_instance: Numbers = field(default_factory=dict)

    @classmethod
    def chosen(
        cls, options: StyleOptions, table: ClusterTable, num_labels: int, labels: list[Label]
    ) -> "CentreStyles":
        """labels: with names, as far as they are known. Raises InputError for labels and styles
        that the table does not have."""
        # Of each row of Style.by_label; labels never seen have the mean of all.
        centres = [row[None] for row in table.default_style(num_labels)]
        for label, clusters in table.labels.items():
            centres[min(label, num_labels)] = np.asarray(clusters.centres, np.float32)

        # Chosen ones.
        of_label = parse_numbers("--label-style", by_ids(options.label_style, labels))
        for label, number in of_label.items():
            if label not in table.labels:
                raise InputError(
                    f"--label-style {label}={number}: --clusters {options.clusters} has no styles "
                    f"of label {label}: choose among the labels "
                    f"{', '.join(map(str, sorted(table.labels)))}."
                )
            if number >= len(table.labels[label].centres):
                raise InputError(
                    f"--label-style {label}={number}: --clusters {options.clusters} has the styles "
                    f"0 to {len(table.labels[label].centres) - 1} of label {label}: choose one of "
                    "these."
                )
        is_random = options.style_seed is not None or options.per_instance or options.variants > 1
        return cls(
            centres,
            seed=(options.style_seed or 0) if is_random else None,
            per_instance=options.per_instance,
            of_row={min(label, num_labels): number for label, number in of_label.items()},
            of_instance=parse_numbers("--instance-style", options.instance_style),
        )

    @property
    def instances_for(self) -> str | None:
        if self.per_instance:
            return "--per-instance"
        return "--instance-style" if self.of_instance else None

    @property
    def graph_style(self) -> GraphStyle:
        if self.per_instance:
            return "instance"
        # A table by instance would paint each of the others in one style, whatever labels it is of.
        return "map" if self.of_instance else "label"

    def of(self, scene: Sample, variant: int) -> Style:
        """Random ones depend on the seed, the scene's name, and the variant: not on which files
        come before."""
        # A style for every label.
        rng = None
        if self.seed is not None:
            rng = np.random.default_rng((self.seed, variant, *scene.name.encode()))
        by_label = np.stack([self._pick(row, rng) for row in range(len(self.centres))])
        if not self.instances_for:
            return Style(by_label)

        # For single instances random ones, then those chosen.
        rows, by_region = self._rows(scene), {}
        if self.per_instance:
            by_region = {region: self._pick(row, rng) for region, row in rows.items()}
        for region in self.of_instance.keys() & rows.keys():
            by_region[region] = self.centres[rows[region]][self.of_instance[region]]
        return Style(by_label, by_region)

    def _pick(self, row: int, rng: np.random.Generator | None) -> np.ndarray:
        # A number is drawn for chosen ones too: choosing the style of one label leaves the others
        # as they were.
        number = 0 if rng is None else int(rng.integers(len(self.centres[row])))
        return self.centres[row][self.of_row.get(row, number)]

    def _rows(self, scene: Sample) -> Numbers:
        """Row of Style.by_label, that of its commonest label, for each instance id."""
        rows = rows_of_instances(scene, len(self.centres))
        return dict(zip(scene.ids.tolist(), rows.tolist(), strict=True))

    def chosen_instances(self, scene: Sample) -> set[int]:
        """Those that are in this scene. Raises InputError where one's label has no such style."""
        rows = self._rows(scene)
        present = self.of_instance.keys() & rows.keys()
        for region in sorted(present):
            count = len(self.centres[rows[region]])
            if self.of_instance[region] >= count:
                raise InputError(
                    f"--instance-style {region}={self.of_instance[region]}: instance {region} of "
                    f"{scene.name} is of label {rows[region]}, which has the styles 0 to "
                    f"{count - 1}: choose one of these."
                )
        return present


def by_ids(texts: tuple[str, ...], labels: list[Label]) -> tuple[str, ...]:
    """('car=3', '7=0') -> ('26=3', '7=0'). Raises InputError for a name that no label has."""
    numbered = []
    for text in texts:
        name, equals, number = text.rpartition("=")
        if equals and labels and not re.fullmatch(r"-?\d+", name):
            label = find_label(labels, name)
            if label is None:
                names = [one.name for one in labels if one.id != IGNORED]
                close = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {close[0]}?" if close else f"choose of {', '.join(names)}."
                raise InputError(f"--label-style {text}: no label is called {name!r}: {hint}")
            text = f"{label}={number}"
        numbered.append(text)
    return tuple(numbered)


def parse_numbers(flag: str, texts: tuple[str, ...]) -> Numbers:
    """('26=3', '7=0') -> {26: 3, 7: 0}"""
    for text in texts:
        if not re.fullmatch(r"-?\d+=\d+", text):
            raise InputError(f"{flag} {text!r} is not ID=STYLE: write for example 26=3.")
    return dict(tuple(map(int, text.split("="))) for text in texts)


@dataclass(frozen=True)
class PhotoStyles:
    """The styles that the model's encoder finds in a photograph of the scene, pooled as in its
    training."""

    encoder: nn.Module
    card: ModelCard
    runtime: Runtime

    @property
    def instances_for(self) -> str | None:
        return "--photo" if self.card.architecture.feature_regions == "instances" else None

    @property
    def graph_style(self) -> GraphStyle:
        return "instance" if self.instances_for else "label"

    def of(self, scene: Sample, variant: int) -> Style:
        """The styles of one picture, as the cluster step finds them: encoded at the size of the
        training, pooled at that of the maps."""
        photo = scene.photo if self.card.architecture.output_nc == 3 else to_grey(scene.photo)
        encoded = encode_photos(self.encoder, [photo], self.card.frame_size, self.runtime)
        ids, dense_ids = scene.regions(self.card.architecture.feature_regions)
        means = pool(encoded, dense_ids[None], len(ids))[0]  # (K, feat_num)

        # By instance, or by label.
        num_labels = self.card.architecture.num_labels
        by_label = np.zeros((num_labels + 1, means.shape[1]), np.float32)
        if self.instances_for:
            return Style(by_label, dict(zip(ids.tolist(), means, strict=True)))
        by_label[np.minimum(ids, num_labels)] = means
        return Style(by_label)
