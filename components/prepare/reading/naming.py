"""What the labels of a data set are called, and their colours."""

import json

from shared.contracts.labels import IGNORED, Label
from shared.data.labels import read_labels, ready_made
from shared.data.raw_maps import read_table


def labels_of(labels: str, remap: str, layout: str, num_labels: int) -> list[Label]:
    """The names and colours of --labels, else what the layout or --remap tells; [] where nothing is
    known. Raises InputError for a --labels that cannot be read."""
    if labels:
        return read_labels(labels)
    match layout, remap:
        case _, "cityscapes_train_ids":
            known = read_labels("cityscapes_train_ids")
        case "cityscapes", "":
            known = read_labels("cityscapes")
        case _:
            return []
    return [label for label in known if label.id < num_labels or label.id == IGNORED]


def spell_out_labels(labels: str) -> str:
    """--labels with the labels themselves in place of a file's name: the file may change."""
    if labels in ("", *ready_made()):
        return labels
    return json.dumps([label.model_dump() for label in read_labels(labels)])


def spell_out(remap: str) -> str:
    """--remap with the table itself in place of a file's name: the file may change."""
    if remap in ("", "cityscapes_train_ids"):
        return remap
    table, others = read_table(remap)
    return json.dumps(table | ({} if others is None else {"others": others}))
