"""Networks with published weights: their tensors are those of the published files, and what they
compute is what a second, slow formulation does. The weights here are random."""

import hashlib
import io

import numpy as np
import pytest
import torch

from shared.published import files
from shared.published.files import WeightFile
from shared.quality import frechet_distance
from shared.scorers.inception import FidInception
from shared.scorers.lpips import AlexLpips, VggLpips
from shared.scorers.meter import PictureMeter
from shared.scorers.networks import LpipsNetwork, MeasuringNetworks
from shared.scorers.options import MeasuringOptions
from shared.scorers.published import PublishedNetwork
from tests.asking import refusal
from tests.loopback import serving
from tests.measuring import random_pictures
from tests.shared.scorers import twins


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, torch.Tensor]]:
    """What the published files hold, by the name of the file."""
    return {
        "alexnet": twins.features_state(twins.ALEXNET),
        "lpips_alex": twins.heads_state(twins.HEADS["alex"]),
        "inception": twins.inception_state(),
    }


@pytest.fixture(scope="module")
def server(states, tmp_path_factory):
    """Serves them as files, which then are the published ones; and a folder for them."""
    content = {}
    for name, state in states.items():
        torch.save(state, buffer := io.BytesIO())
        content[f"{name}.pth"] = buffer.getvalue()
    with serving(**content) as server, pytest.MonkeyPatch.context() as patch:
        patch.delenv("WEIGHTS_MIRROR")
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        served = {
            name: WeightFile(
                f"{name}.pth",
                f"{server.url}/{name}.pth",
                hashlib.sha256(content[f"{name}.pth"]).hexdigest(),
                len(content[f"{name}.pth"]),
            )
            for name in states
        }
        patch.setitem(files.LPIPS_NETWORKS, "alex", (served["alexnet"], served["lpips_alex"]))
        patch.setitem(files.FID_NETWORKS, "inception", (served["inception"],))
        yield server


def shapes(module) -> dict[str, tuple[int, ...]]:
    """Of its tensors by name, but for counters of batches."""
    state = module().state_dict()
    return {
        key: tuple(value.shape)
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }


def shapes_of(*parts: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """As `shapes`, without the classifier."""
    joined = {key: tensor for part in parts for key, tensor in part.items()}
    return {
        key: tuple(tensor.shape)
        for key, tensor in joined.items()
        if not key.startswith(("classifier.", "fc."))
    }


# The tensors.


def test_names_and_shapes_are_those_of_the_published_files(states):
    assert len(twins.CONVOLUTIONS) == 94
    with torch.device("meta"):
        assert shapes(FidInception) == shapes_of(states["inception"])
        assert shapes(AlexLpips) == shapes_of(states["alexnet"], states["lpips_alex"])
        vgg = {
            f"features.{index}.{part}": (channels, *rest)
            for index, (channels, before, side) in twins.VGG16.items()
            for part, rest in (("weight", (before, side, side)), ("bias", ()))
        }
        heads = shapes_of(twins.heads_state(twins.HEADS["vgg"]))
        assert shapes(VggLpips) == vgg | heads


# What they compute.


@pytest.mark.parametrize("name, size", [("alex", (31, 47)), ("vgg", (17, 24))])
def test_lpips_is_that_of_its_description(name, size):
    module = {"alex": AlexLpips, "vgg": VggLpips}[name]().eval()
    features = {"alex": twins.ALEXNET, "vgg": twins.VGG16}[name]
    state = twins.features_state(features) | twins.heads_state(twins.HEADS[name])
    module.load_state_dict({key: state[key] for key in module.state_dict()})
    pictures = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.inference_mode():
        found = module(*pictures)
        assert module(pictures[0], pictures[0]).tolist() == [0, 0]
    expected = [twins.lpips(name, state, *pair) for pair in pictures.transpose(0, 1).numpy()]
    assert found.numpy() == pytest.approx(np.array(expected), rel=1e-4)
    assert abs(expected[0] - expected[1]) > 1e-3 * expected[0]


@pytest.mark.parametrize("module", [AlexLpips, VggLpips])
def test_the_smallest_picture_is_the_smallest_that_reaches_all_layers(module):
    network, side = module(), module.smallest_side
    assert network(*torch.zeros(2, 1, 3, side, 48)).shape == (1,)
    with pytest.raises(RuntimeError, match="too small"):
        network(*torch.zeros(2, 1, 3, side - 1, 48))


@pytest.mark.parametrize("size", [(40, 70), (310, 20)])
def test_the_features_of_fid_are_those_of_its_description(size, states):
    module = FidInception().eval()
    wanted = module.state_dict().keys() & states["inception"].keys()
    module.load_state_dict({key: states["inception"][key] for key in wanted}, strict=False)
    picture = np.random.default_rng(0).random((3, *size), np.float32)
    with torch.inference_mode():
        found = module(torch.from_numpy(picture)[None])
        expected = twins.inception(picture, states["inception"])
    assert found.shape == (1, 2048) and expected.std() > 0.1
    assert found[0].numpy() == pytest.approx(expected, rel=1e-3, abs=1e-4 * float(expected.max()))


# By their names.


def test_networks_come_by_their_names_and_measure(server, states, capsys):
    options = MeasuringOptions(lpips_network="alex", fid_network="inception")
    networks = MeasuringNetworks.load((32, 48), "cpu", options)
    said = capsys.readouterr().out
    assert [said.count(f"downloads {name}.pth") for name in states] == [1, 1, 1]
    meter, pictures = PictureMeter(networks), random_pictures(4, (32, 48))
    for picture, photo in zip(pictures[:2], pictures[2:], strict=True):
        meter.add(picture, photo)

    # LPIPS sees pictures in [-1, 1], FID in [0, 1].
    state = states["alexnet"] | states["lpips_alex"]
    signed = [picture / 127.5 - 1 for picture in pictures]
    pairs = zip(signed[:2], signed[2:], strict=True)
    distances = [twins.lpips("alex", state, *pair) for pair in pairs]
    assert [pair["lpips"] for pair in meter.pairs] == pytest.approx(distances, rel=1e-4)
    features = np.stack([twins.inception(each / 255, states["inception"]) for each in pictures])
    distance = frechet_distance(features[:2], features[2:])
    assert meter.figures()["fid"] == pytest.approx(distance, rel=1e-2)
    assert networks.features.channels == 2048 and not any("resized" in x for x in meter.caveats())

    # They are not asked for again.
    asked = len(server.asked)
    LpipsNetwork("alex", (64, 31))
    assert len(server.asked) == asked


def test_they_compute_in_fp32_whatever_the_step_does(server):
    network, pair = LpipsNetwork("alex", (32, 48)), random_pictures(2, (32, 48))
    alone = network(*pair)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(*pair) == alone > 0
        assert torch.is_autocast_enabled("cpu")


def test_what_cannot_measure_is_refused_in_a_sentence(server, states):
    assert refusal(LpipsNetwork, "alex", (30, 64)) == (
        "--lpips-network alex needs pictures of 31 pixels a side or more but these are 30x64: give "
        "another one, or leave it out."
    )
    assert refusal(LpipsNetwork, "alexnet", (64, 64)) == (
        "--lpips-network alexnet is no file: give alex, vgg or an ONNX file, or leave it out."
    )
    (file, _) = files.LPIPS_NETWORKS["alex"]
    sentence = refusal(PublishedNetwork, AlexLpips(), [file], "--lpips-network alex", "cpu")
    assert sentence == (
        "--lpips-network alex needs lin0.model.1.weight, which none of its files has."
    )
