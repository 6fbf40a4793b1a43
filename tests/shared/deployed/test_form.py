"""How a deployed file wants its maps: styles by label, by instance, painted; ids of 16 bits;
batches of several maps; the form of an export, also of one written before."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from shared.contracts.exported import ExportCard, Graph
from shared.contracts.folder import SEAL
from shared.contracts.model import GeneratorInput
from shared.data.maps import Sample
from shared.deployed.form import Form, narrow, stack
from shared.deployed.styles import Style
from shared.deployed.synthesiser import input_names, to_pixels
from shared.errors import InputError
from tests import tiny

LABELS = np.array([[7, 7, 26], [7, 255, 26]], np.uint8)
IDS = np.array([[7, 7, 26001], [7, 26001, 26001]], np.int32)
SAMPLE = Sample.of_maps("", LABELS, IDS)
TABLE = np.arange(36 * 3, dtype=np.float32).reshape(36, 3)


def sample_of_ids(ids: np.ndarray) -> Sample:
    return Sample.of_maps("", np.zeros(ids.shape, np.uint8), ids)


def test_an_instance_takes_the_style_of_its_commonest_label_or_its_own():
    assert np.array_equal(Style(TABLE).of_instances(SAMPLE), TABLE[[7, 26]])
    own = Style(TABLE, {26001: np.array([1, 2, 3], np.float32)})
    assert np.array_equal(own.of_instances(SAMPLE), [TABLE[7], [1, 2, 3]])
    picture = Sample.of_maps("", np.zeros((3, 2, 3), np.uint8), IDS)
    assert np.array_equal(Style(TABLE[:1]).of_instances(picture), TABLE[[0, 0]])


def test_pixels_take_the_style_of_their_label_the_last_row_or_their_instances():
    painted = Style(TABLE).painted(SAMPLE)
    assert painted.shape == (3, 2, 3)
    assert np.array_equal(painted[:, 0, 2], TABLE[26])
    assert np.array_equal(painted[:, 1, 1], TABLE[35]), "pixels without a label"
    own = Style(TABLE, {26001: np.array([1, 2, 3], np.float32)}).painted(SAMPLE)
    assert np.array_equal(own[:, 1, 1], [1, 2, 3]) and np.array_equal(own[:, 0, 0], TABLE[7])


def test_inputs_come_in_the_order_of_the_file():
    a = tiny.architecture(feat_num=3)
    assert input_names(a, Graph(style="label")) == ["labels", "instances", "style"]
    assert input_names(a, Graph(style="map")) == ["labels", "instances", "features"]
    assert input_names(a, Graph(form="onehot")) == ["input_concat"]
    without_edges = tiny.architecture(feat_num=3, use_instances=False)
    assert input_names(without_edges, Graph(style="instance")) == ["labels", "instances", "style"]
    assert input_names(without_edges, Graph(style="label")) == ["labels", "style"]
    feed = Form(a, Graph(style="instance")).feed(SAMPLE, Style(TABLE))
    assert np.array_equal(feed["instances"], [[[0, 0, 1], [0, 1, 1]]]), "rows of the table"


def test_a_picture_takes_the_style_of_the_form_unless_it_has_its_own():
    form = Form(tiny.architecture(feat_num=3), Graph(style="label"), Style(TABLE))
    assert np.array_equal(form.feed(SAMPLE)["style"], TABLE[None])
    assert np.array_equal(form.feed(SAMPLE, Style(TABLE + 1))["style"], TABLE[None] + 1)


def test_a_network_of_which_only_the_input_is_known_is_fed_too():
    reads = GeneratorInput(num_labels=35, input_nc=0, use_instances=True, feat_num=0)
    fed = Form(reads, Graph(form="onehot")).feed(SAMPLE)["input_concat"]
    of_a_whole_one = Form(tiny.architecture(), Graph(form="onehot")).feed(SAMPLE)
    assert fed.shape == (1, 36, 2, 3)
    np.testing.assert_array_equal(fed, of_a_whole_one["input_concat"])


def test_a_form_is_what_the_card_of_the_export_says(tmp_path):
    a, graph = tiny.architecture(feat_num=3), Graph(style="label")
    values = dict(style=TABLE.tolist(), batch_norm="picture")
    card = tiny.export_card(tmp_path, a, graph, (32, 64), **values)
    form = Form.of_export(card)
    assert (form.reads, form.graph, form.size) == (card.architecture, card.graph, (32, 64))
    assert form.batch_norm == "picture" and form.least_side == 2
    assert form.style.by_label.dtype == np.float32 and np.array_equal(form.style.by_label, TABLE)

    any_size = Form.of_export(tiny.export_card(tmp_path, tiny.architecture(), Graph()))
    assert (any_size.size, any_size.style) == (None, None)
    assert any_size.least_side == 2 * tiny.architecture().stride, "files of before"
    card = tiny.export_card(tmp_path, tiny.architecture(), Graph(), least_side=2)
    assert Form.of_export(card).least_side == 2


def test_an_export_written_before_the_form_had_its_name_is_read(tmp_path):
    card = tiny.export_card(tmp_path, tiny.architecture(), Graph(form="onehot"))
    written = json.loads((tmp_path / ExportCard.FILE).read_text())
    written["graph"]["inputs"] = written["graph"].pop("form")
    del written[SEAL]
    (tmp_path / ExportCard.FILE).write_text(json.dumps(written))
    assert ExportCard.read(tmp_path) == card


@pytest.mark.parametrize("batch_norm", ["running", "picture"])
def test_the_deployed_function_has_the_statistics_and_the_style_of_the_form(batch_norm):
    """With a BatchNorm as generator: 36 channels of the maps, 3 of the style."""
    a, graph = tiny.architecture(feat_num=3), Graph(style="fixed")
    form = Form(a, graph, Style(TABLE), batch_norm=batch_norm)
    norm = nn.Sequential(nn.BatchNorm2d(39))
    feed = form.feed(SAMPLE)
    with torch.inference_mode():
        channels = form.synthesiser(norm)(*map(torch.from_numpy, feed.values()))[0].numpy()
    if batch_norm == "running":  # mean 0, variance 1
        np.testing.assert_allclose(channels[36:], Style(TABLE).painted(SAMPLE), rtol=1e-4)
    else:
        np.testing.assert_allclose(channels[36:].mean(axis=(1, 2)), 0, atol=1e-6)
        np.testing.assert_allclose(channels[36:].std(axis=(1, 2)), 1, rtol=1e-4)


def test_ids_that_do_not_fit_are_numbered_anew():
    assert np.array_equal(narrow(SAMPLE, "int16"), IDS), "they fit"
    large = sample_of_ids(np.array([[40000, 7], [33001, 7]]))
    numbered = narrow(large, "int16")
    assert np.array_equal(numbered, [[2, 0], [1, 0]]) and numbered.dtype == np.int16
    sentence = "a map has 40000 instances but the file takes int16 ids: export with --ids"
    with pytest.raises(InputError, match=sentence):
        narrow(sample_of_ids(np.arange(40000).reshape(200, 200)), "int16")


def test_tables_of_instances_are_filled_up_to_the_longest_of_a_batch():
    one, two = ({"style": np.ones((1, k, 3)), "labels": np.zeros((1, 2, 2))} for k in (2, 4))
    batch = stack([one, two])
    assert batch["labels"].shape == (2, 2, 2) and batch["style"].shape == (2, 4, 3)
    assert batch["style"].sum(axis=(1, 2)).tolist() == [6, 12]


def test_pictures_of_both_types_become_pixels():
    signed = np.array([-1, 0.5, 1], np.float32).reshape(3, 1, 1)
    assert to_pixels(signed).tolist() == [[[0]], [[191]], [[255]]]  # 191.25 rounded
    levels = np.array([1, 2, 3], np.uint8).reshape(3, 1, 1)
    assert to_pixels(levels).tolist() == [[[1]], [[2]], [[3]]]
