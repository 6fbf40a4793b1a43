"""Impossible numbers in cards and options: taken or refused by their field, at once."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from components.benchmark.config import BenchmarkConfig
from components.cluster.config import ClusterConfig
from components.export.config import ExportConfig
from components.prepare.config import PrepareConfig
from components.train.config import TrainConfig
from components.train.networks.build import build_empty
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.folder import SEAL
from shared.contracts.measured import BenchmarkReport
from shared.contracts.model import MOST_WEIGHTS, Architecture, ModelCard
from shared.errors import InputError
from shared.pipeline.nights import NightlyOptions
from shared.pipeline.runs import RunRecord, StepState
from tests import tiny

NUMBERS = [-1, 0, 2**31, 2**63, 10**30, 1e308, math.inf, math.nan, "x", None, [[1]], {}, True]
CARDS = [DatasetManifest, ModelCard, ClusterTable, ExportCard, BenchmarkReport, RunRecord]
CONFIGS = [PrepareConfig, TrainConfig, ClusterConfig, ExportConfig, BenchmarkConfig, NightlyOptions]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a card of every kind."""
    folder, a = tmp_path_factory.mktemp("cards"), tiny.architecture(feat_num=3)
    tiny.dataset(folder, train=1, test=1)
    tiny.model(folder, a)
    tiny.write_clusters(folder, "m", tiny.TWO_STYLES)
    style = [[0.0] * 3] * 36
    tiny.export_card(folder, a, Graph(style="fixed"), size=(32, 64), style=style)
    tiny.report().write(folder)
    texts = ("name", "recipe", "raw_data", "working_directory", "host", "started")
    record = RunRecord(
        **dict.fromkeys(texts, "x"),
        config={"prepare": {}},
        tags={},
        code={},
        steps={"prepare": StepState()},
    )
    record.write(folder)
    return folder


def numbers_in(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """The places of all numbers, of long lists the first."""
    match value:
        case dict():
            for key, one in value.items():
                yield from numbers_in(one, (*place, key))
        case list() if value:
            yield from numbers_in(value[0], (*place, 0))
        case bool():
            return
        case int() | float():
            yield place


@pytest.mark.parametrize("contract", CARDS)
def test_every_number_of_a_card(folder, tmp_path, contract):
    text = (folder / contract.FILE).read_text()
    places = [place for place in numbers_in(json.loads(text)) if place[0] != "config"]
    assert places or contract is RunRecord
    for place in places:
        for number in NUMBERS:
            card = json.loads(text)
            card.pop(SEAL, None)
            inner = card
            for key in place[:-1]:
                inner = inner[key]
            old, inner[place[-1]] = inner[place[-1]], number
            (tmp_path / contract.FILE).write_text(json.dumps(card))
            try:
                read = contract.read(tmp_path)
            except InputError as refusal:
                assert "\n" not in str(refusal) and contract.FILE in str(refusal)
                continue
            assert number != 10**30 or isinstance(old, float), place
            assert not (isinstance(number, float) and not math.isfinite(number)), place
            if isinstance(read, ModelCard):
                build_empty(read.architecture, with_encoder=True)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_number_of_an_option(config):
    fields = {
        name: field
        for name, field in config.model_fields.items()
        if type(field.default) in (int, float) or isinstance(field.default, tuple)
    }
    assert fields
    for name, field in fields.items():
        for number in NUMBERS:
            value = (number,) if isinstance(field.default, tuple) else number
            try:
                config.check({name: value})
            except InputError as refusal:
                assert "\n" not in str(refusal) and "--" in str(refusal)
                continue
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if is_number and not isinstance(field.default, tuple):
                assert math.isfinite(number), name
                assert number < 10**30 or type(field.default) is float, name


@pytest.mark.parametrize("changes", [dict(ngf=8192), dict(nef=8192), dict(n_blocks_global=200)])
def test_networks_that_no_machine_holds_are_not_built(changes):
    with pytest.raises(ValueError, match="weights, more than"):
        Architecture(**tiny.architecture().model_dump() | dict(ngf=512) | changes)


@pytest.mark.parametrize(
    "changes",
    [
        dict(netG="global", ngf=64, n_downsample_global=4, n_blocks_global=9),
        dict(netG="local", ngf=32, n_downsample_global=4, n_blocks_global=9, n_blocks_local=3),
        dict(netG="unet_256", ngf=64, netD="n_layers", ndf=64, n_layers_D=3),
        dict(netG="resnet_9blocks", ngf=64, netD="pixel", ndf=64),
    ],
)
def test_those_of_the_papers_are_far_from_that(changes):
    a = Architecture(**tiny.architecture(feat_num=3).model_dump() | changes)
    networks = build_empty(a, with_encoder=True).values()
    weights = sum(one.numel() for network in networks for one in network.parameters())
    assert 10 * weights < MOST_WEIGHTS
