"""cluster -> train, export, benchmark: styles of instances."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, get_args

import numpy as np
from pydantic import Field, model_validator

from shared.bounds import Count, Feature
from shared.contracts.folder import FolderOfFiles, Record
from shared.contracts.labels import NumLabels
from shared.contracts.model import MOST_FEATURES, FeatureRegions, ModelCard
from shared.errors import InputError
from shared.files.arrays import Wanted, read_npz
from shared.files.digests import refused_if_unreadable

# Of features.npz: what trainings read, and what else is known of each region.
COLUMNS = {
    "names": Wanted("U", 1),  # (images,)
    "start": Wanted("iu", 1),  # (images + 1,): the rows of image i are start[i]:start[i + 1]
    "ids": Wanted("iu", 1),  # (K,), ascending within an image
    "features": Wanted("f", 2),  # (K, feat_num)
}
MORE_COLUMNS = {
    "labels": Wanted("iu", 1),  # (K,)
    "areas": Wanted("f", 1),  # (K,)
    "regions": Wanted("U", 0),
}


class LabelClusters(Record):
    """Style centres of one label, most frequent first; (k, feat_num) in [-1, 1]."""

    centres: list[list[Feature]] = Field(min_length=1)
    counts: list[Count]  # instances per centre
    # Root mean square distance of the instances to their centre.
    spread: list[Annotated[float, Field(ge=0, le=1e9)]]
    explained: float | None  # share of their variance that the centres do; None = all are equal
    fallback: bool  # no instance was large enough: one centre, the mean of all of them


class ClusterTable(FolderOfFiles):
    """Instance features of the training set (`features.npz`) and their k-means centres per
    label."""

    FILE: ClassVar[str] = "clusters.json"
    FLAG: ClassVar[str] = "--clusters"
    MADE_BY: ClassVar[str] = "python -m components.cluster"
    FEATURES: ClassVar[str] = "features.npz"
    format: Literal[2] = 2

    feat_num: Annotated[int, Field(ge=1, le=MOST_FEATURES)]
    n_clusters: Annotated[int, Field(ge=1, le=10**9)]
    # Share of the image above which an instance takes part.
    min_area: Annotated[float, Field(ge=0, lt=1)]
    seed: Count
    labels: dict[NumLabels, LabelClusters]  # {0: ...} where the input is a picture
    overall: list[Feature]  # mean over all instances: for labels never seen in training
    model_digest: str
    dataset_digest: str

    @model_validator(mode="after")
    def _has_rows_of_one_length(self) -> Self:
        tables = [("overall", [self.overall])]
        for label, one in self.labels.items():
            tables.append((f"labels.{label}.centres", one.centres))
            if not len(one.centres) == len(one.counts) == len(one.spread):
                raise ValueError(f"labels.{label} should have a count and a spread of each centre")
        for name, rows in tables:
            if others := [len(row) for row in rows if len(row) != self.feat_num]:
                raise ValueError(f"{name} has {others[0]} numbers, but feat_num is {self.feat_num}")
        return self

    @classmethod
    def read_for(cls, clusters: Path, model: Path, card: ModelCard) -> Self:
        """Read the styles of a model. Raises InputError for a model that takes no features, or
        whose encoder did not make these.

        They are clustered after stage one; stage two is trained from that model on the same
        features."""
        feat_num, parent = card.architecture.feat_num, card.parent_digest or "scratch"
        if not feat_num:
            raise InputError(
                f"--clusters {clusters} was given but --model {model} takes no instance features: "
                "leave it out."
            )
        table = cls.read(clusters)
        made_by_it = table.model_digest in (card.digest, card.parent_digest)
        if not made_by_it and (name := card.name_of(table.model_digest)):
            raise InputError(
                f"--clusters {clusters} was made from the weights {card.called(name)} of --model "
                f"{model}, but {card.called()} is asked for: say --weights {name}."
            )
        if not made_by_it or table.feat_num != feat_num:
            raise InputError(
                f"--clusters {clusters} belongs to model {table.model_digest} ({table.feat_num} "
                f"features), not to --model {model}, which is {card.digest} ({feat_num} features) "
                f"from {parent}: cluster the features of this model or of its parent."
            )
        return table

    def default_style(self, num_labels: int) -> np.ndarray:
        """The most frequent centre of every label: (num_labels + 1, feat_num) float32.

        The last row is for pixels without a label: IGNORED ones, or all where the input is a
        picture."""
        style = np.tile(np.asarray(self.overall, np.float32), (num_labels + 1, 1))
        for label, clusters in self.labels.items():
            style[min(label, num_labels)] = clusters.centres[0]
        return style


def read_features(
    clusters: Path, table: ClusterTable, images: list[str], more: bool = False
) -> dict[str, np.ndarray]:
    """The columns of features.npz, with MORE_COLUMNS where `more` is said. Raises InputError where
    it is missing or damaged, of another table, or not of exactly these images in this order."""
    # What is in the file.
    path = clusters / ClusterTable.FEATURES
    called = f"--clusters {clusters}: {path.name}"
    remedy = "make it again with `python -m components.cluster`"
    if not path.is_file():
        raise InputError(
            f"--clusters {clusters} has no {path.name}: make it with `python -m "
            "components.cluster`, or with its exchange read-maps."
        )
    with refused_if_unreadable(), table.promise(clusters).kept([path.name]):
        found = read_npz(path, COLUMNS | (MORE_COLUMNS if more else {}), called, remedy)

    # Rows of these images.
    start, ids, features = found["start"].astype(np.int64), found["ids"], found["features"]
    is_first = np.zeros(len(ids), bool)
    is_first[start[(start >= 0) & (start < len(ids))]] = True
    if found["names"].tolist() != images:
        what = "is not of the images of this data set"
    elif len(start) != len(images) + 1 or start[0] or start[-1] != len(ids):
        what = f"has other starts of images than {len(ids)} rows have"
    elif (np.diff(start) < 0).any() or not ((ids[1:] > ids[:-1]) | is_first[1:]).all():
        what = "has rows that are not in the order of images and ids"
    elif features.shape != (len(ids), table.feat_num):
        what = f"has features of shape {features.shape}, not {(len(ids), table.feat_num)}"
    elif not np.isfinite(features).all():
        what = "has features that are not finite"
    elif more and any(len(found[column]) != len(ids) for column in ("labels", "areas")):
        what = f"has not {len(ids)} labels and areas"
    elif more and found["regions"] not in get_args(FeatureRegions):
        what = f"is of {ascii(str(found['regions'])[:40])}, neither instances nor labels"
    else:
        return found
    raise InputError(f"{called} {what}: {remedy}.")
