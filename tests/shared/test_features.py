"""features.npz of a clusters folder: believed where its columns fit each other, the table and the
data set."""

import numpy as np
import pytest

from shared.contracts.clusters import ClusterTable, read_features
from shared.errors import InputError
from shared.files.digests import digests_of
from tests.tiny import COLUMNS, IMAGES

BROKEN = {
    "other images": (dict(names=np.array(["a", "b", "d"])), "not of the images of this data set"),
    "fewer images": (dict(names=np.array(["a", "b"])), "not of the images of this data set"),
    "an image twice": (dict(names=np.array(["a", "b", "b"])), "not of the images of this data set"),
    "a start too few": (dict(start=np.array([0, 2, 5])), "other starts of images than 5 rows"),
    "beyond the rows": (dict(start=np.array([0, 2, 2, 6])), "other starts of images than 5 rows"),
    "backwards": (dict(start=np.array([0, 4, 2, 5])), "not in the order of images and ids"),
    "negative": (dict(start=np.array([0, -2, 2, 5])), "not in the order of images and ids"),
    "enormous": (dict(start=np.array([0, 2**62, 2, 5])), "not in the order of images and ids"),
    "exchanged ids": (dict(ids=np.array([7, 3, 1, 2, 9])), "not in the order of images and ids"),
    "an id twice": (dict(ids=np.array([3, 7, 1, 1, 9])), "not in the order of images and ids"),
    "ids cut": (dict(ids=np.array([3, 7, 1, 2])), "other starts of images than 4 rows"),
    "features cut": (dict(features=COLUMNS["features"][:4]), "of shape .4, 2., not .5, 2."),
    "of three": (dict(features=np.zeros((5, 3))), "has features of shape .5, 3., not .5, 2."),
    "nan": (dict(features=np.full((5, 2), np.nan)), "has features that are not finite"),
    "whole numbers": (dict(features=np.zeros((5, 2), int)), "an array 'features' that is int64"),
    "labels cut": (dict(labels=np.zeros(4, int)), "has not 5 labels and areas"),
    "other regions": (dict(regions=np.array("pixels")), "is of 'pixels', neither instances nor"),
    "a program": (dict(names=np.array([print], object)), "'names' that is object, neither numbers"),
}


def read(folder, more: bool = True, files: dict[str, str] | None = None):
    table = ClusterTable(
        feat_num=2, n_clusters=1, min_area=0, seed=0, labels={}, overall=[0, 0],
        model_digest="0", dataset_digest="0", files=files or {},
    )  # fmt: skip
    return read_features(folder, table, IMAGES, more)


def test_what_fits_is_read(tmp_path):
    np.savez(tmp_path / "features.npz", **COLUMNS)
    assert read(tmp_path).keys() == COLUMNS.keys()
    found = read(tmp_path, more=False)
    assert found.keys() == {"names", "start", "ids", "features"}
    for name, array in found.items():
        assert np.array_equal(array, COLUMNS[name])


@pytest.mark.parametrize("columns, found", BROKEN.values(), ids=BROKEN)
def test_what_does_not_is_refused_in_one_sentence(columns, found, tmp_path):
    np.savez(tmp_path / "features.npz", **COLUMNS | columns)
    with pytest.raises(InputError, match=found) as refusal:
        read(tmp_path)
    sentence = str(refusal.value)
    assert sentence.startswith(f"--clusters {tmp_path}: features.npz ")
    assert sentence.endswith(": make it again with `python -m components.cluster`.")


def test_rows_that_were_exchanged_are_another_file(tmp_path):
    """Which nothing but its digest tells; earlier versions wrote none."""
    np.savez(tmp_path / "features.npz", **COLUMNS)
    files = digests_of([tmp_path / "features.npz"])
    assert read(tmp_path, files=files).keys() == COLUMNS.keys()
    np.savez(tmp_path / "features.npz", **COLUMNS | {"features": COLUMNS["features"][::-1]})
    with pytest.raises(InputError) as refused:
        read(tmp_path, files=files)
    assert str(refused.value) == (
        f"--clusters {tmp_path}: features.npz is not the file that was written with clusters.json: "
        "copy the folder again, or make it again with `python -m components.cluster`."
    )
    read(tmp_path)
