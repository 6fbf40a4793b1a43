"""A training that starts from the weights of an earlier one: what it takes, what it refuses."""

import shutil

import numpy as np
import pytest
import torch

from components.train.config import TrainConfig
from components.train.run import run
from shared.contracts.model import ModelCard
from tests import tiny
from tests.asking import refusal
from tests.foreign import nvidia_generator
from tests.tiny import one_thread  # noqa: F401 - a fixture
from tests.training import config

# So small a step that float32 weights stay what they are.
STANDS_STILL = dict(learning_rate=1e-30, epochs=1, epochs_decay=0, validate_every_epochs=0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A data set, and an earlier and a later training: of both stages, and of stage one."""
    root = tmp_path_factory.mktemp("start")
    tiny.dataset(root / "dataset")
    run(root / "dataset", root / "earlier", config=config(seed=1, instance_features=True))
    local = dict(netG="local", ngf=2, num_D=3, instance_features=True)
    inputs = (root / "dataset", root / "earlier_local", root / "earlier")
    run(*inputs, config=config(seed=2, **local))
    run(root / "dataset", root / "later", config=config(seed=3, instance_features=True))
    return root


def weights(model, name) -> dict[str, torch.Tensor]:
    return torch.load(model / f"latest_net_{name}.pth", weights_only=True)


def assert_equal(found, expected):
    assert found.keys() == expected.keys() and found
    different = [key for key in found if not torch.equal(found[key], expected[key])]
    assert not different


def test_stage_one_starts_as_the_earlier_training_ended(folders, tmp_path, capsys):
    options = dict(start_from=str(folders / "earlier"), instance_features=True, **STANDS_STILL)
    run(folders / "dataset", tmp_path, config=config(**options))
    for name in "GDE":
        assert_equal(weights(tmp_path, name), weights(folders / "earlier", name))
    table = capsys.readouterr().out.partition("from --start-from")[2].splitlines()
    assert [line.split()[0] for line in table[1:4]] == ["G", "D", "E"]


def test_stage_two_takes_its_own_networks_and_the_global_one_of_tonight(folders, tmp_path):
    options = dict(netG="local", ngf=2, num_D=3, instance_features=True, **STANDS_STILL)
    start = str(folders / "earlier_local")
    inputs = (folders / "dataset", tmp_path, folders / "later")
    run(*inputs, config=config(start_from=start, **options))

    G, earlier = weights(tmp_path, "G"), weights(folders / "earlier_local", "G")
    tonight = weights(folders / "later", "G")
    of_stage_one = {key for key in G if key.startswith("model.")}
    assert of_stage_one and of_stage_one < G.keys()
    assert_equal({key: G[key] for key in of_stage_one}, {key: tonight[key] for key in of_stage_one})
    own = G.keys() - of_stage_one
    assert_equal({key: G[key] for key in own}, {key: earlier[key] for key in own})
    for name in "DE":
        assert_equal(weights(tmp_path, name), weights(folders / "earlier_local", name))


def test_of_another_discriminator_what_fits_is_taken(folders, tmp_path, capsys):
    options = dict(start_from=str(folders / "earlier"), instance_features=True, **STANDS_STILL)
    run(folders / "dataset", tmp_path, config=config(num_D=3, **options))
    D, earlier = weights(tmp_path, "D"), weights(folders / "earlier", "D")
    assert earlier.keys() < D.keys()
    assert_equal({key: D[key] for key in earlier}, earlier)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("D "))
    assert f"{len(earlier)} of {len(D)}" in line and "scale2" in line


def test_a_training_that_goes_on_does_not_start_again(folders, tmp_path):
    shutil.copytree(folders / "earlier", tmp_path / "start")
    options = dict(start_from=str(tmp_path / "start"), instance_features=True, epochs_decay=0)
    run(folders / "dataset", tmp_path / "model", config=config(epochs=1, **options))
    shutil.rmtree(tmp_path / "start")
    run(folders / "dataset", tmp_path / "model", config=config(epochs=2, **options))

    shutil.copytree(folders / "earlier", tmp_path / "start")
    run(folders / "dataset", tmp_path / "at_once", config=config(epochs=2, **options))
    for name in "GDE":
        assert_equal(weights(tmp_path / "model", name), weights(tmp_path / "at_once", name))


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(ngf=8), "has networks with ngf 4, but 8 is asked for"),
        (dict(instance_features=False), "has networks with feat_num 3, but 0 is asked for"),
        (dict(netG="unet_128"), "has networks with netG global, but unet_128 is asked for"),
    ],
)
def test_other_networks_are_refused(folders, tmp_path, options, sentence):
    values = dict(start_from=str(folders / "earlier"), instance_features=True) | options
    said = refusal(run, folders / "dataset", tmp_path / "model", config=config(**values))
    assert said.startswith(f"--start-from {folders / 'earlier'} {sentence}")
    assert not (tmp_path / "model").exists()


# Sizes that nobody said.

UNSAID = STANDS_STILL | dict(device="cpu", workers=0)


def unsaid(**changes) -> TrainConfig:
    """A training whose networks are those of the model that it starts from."""
    return TrainConfig.check(UNSAID | changes)


def test_sizes_that_nobody_said_are_those_of_the_model(folders, tmp_path, capsys):
    """Of what --init-from and what --start-from name, and of the global network in stage two."""
    earlier = folders / "earlier"
    run(folders / "dataset", tmp_path / "a", config=unsaid(start_from=str(earlier)))
    run(folders / "dataset", tmp_path / "b", init_from=earlier, config=unsaid())
    wanted = ModelCard.read(earlier).architecture
    for name in "ab":
        assert ModelCard.read(tmp_path / name).architecture == wanted
        for network in "GDE":
            assert_equal(weights(tmp_path / name, network), weights(earlier, network))
    assert f"sizes of {earlier}: netG global, norm instance" in capsys.readouterr().out

    config = unsaid(netG="local", num_D=1, ndf=4, n_layers_D=1, n_blocks_local=1)
    run(folders / "dataset", tmp_path / "local", init_from=earlier, config=config)
    found = ModelCard.read(tmp_path / "local").architecture
    assert (found.ngf, found.n_downsample_global, found.n_blocks_global, found.feat_num) == (
        *(wanted.ngf // 2, wanted.n_downsample_global, wanted.n_blocks_global, wanted.feat_num),
    )


def test_a_local_model_is_trained_on_without_a_global_one(folders, tmp_path):
    start = folders / "earlier_local"
    run(folders / "dataset", tmp_path, config=unsaid(start_from=str(start)))
    for name in "GDE":
        assert_equal(weights(tmp_path, name), weights(start, name))


def test_a_training_that_goes_on_keeps_its_sizes_without_what_it_began_at(folders, tmp_path):
    shutil.copytree(folders / "earlier", tmp_path / "start")
    config = unsaid(start_from=str(tmp_path / "start"))
    run(folders / "dataset", tmp_path / "model", config=config)
    shutil.rmtree(tmp_path / "start")
    run(folders / "dataset", tmp_path / "model", config=config.model_copy(update={"epochs": 2}))
    card = ModelCard.read(tmp_path / "model")
    assert (card.epoch, card.architecture.ngf) == (2, 4)


def test_of_other_labels_the_first_layer_alone_is_new(folders, tmp_path, capsys):
    tiny.write(
        tmp_path / "dataset",
        {
            split: {"one": tiny.sample(np.random.default_rng(0), 32, 64)}
            for split in ("train", "test")
        },
        num_labels=40,
    )
    start = folders / "earlier"
    run(tmp_path / "dataset", tmp_path / "model", config=unsaid(start_from=str(start)))
    G, before = weights(tmp_path / "model", "G"), weights(start, "G")
    assert G.keys() == before.keys() and G["model.1.weight"].shape[1] == 40 + 1 + 3
    rest = G.keys() - {"model.1.weight"}
    assert_equal({key: G[key] for key in rest}, {key: before[key] for key in rest})
    assert "reads other input: num_labels 35 against 40; G's first layer is new" in (
        capsys.readouterr().out
    )


def test_of_grey_photos_the_last_layer_alone_is_new(folders, tmp_path, capsys):
    """And the first of D and E, which see them; said or not, what comes next has their channels."""
    start = folders / "earlier"
    run(folders / "dataset", tmp_path / "grey", config=unsaid(start_from=str(start), output_nc=1))
    assert "makes other pictures: output_nc 3 against 1; G's last layer is new" in (
        capsys.readouterr().out
    )
    layers = dict(G="model.18.", D="layer0.0.weight", E="model.1.weight")
    for name, new in layers.items():
        found, before = weights(tmp_path / "grey", name), weights(start, name)
        kept = {key for key in found if new not in key}
        assert found.keys() == before.keys() and kept < found.keys()
        assert_equal({key: found[key] for key in kept}, {key: before[key] for key in kept})
        assert all(found[key].shape != before[key].shape for key in found.keys() - kept)

    # Stage two, and a training that starts from this one.
    options = dict(netG="local", instance_features=True)
    run(folders / "dataset", tmp_path / "local", tmp_path / "grey", config=unsaid(**options))
    run(folders / "dataset", tmp_path / "on", config=unsaid(start_from=str(tmp_path / "grey")))
    for name in ("local", "on"):
        assert ModelCard.read(tmp_path / name).architecture.output_nc == 1
    assert weights(tmp_path / "local", "G")["model1_2.7.bias"].shape == (1,)
    colour = unsaid(output_nc=3, **options)
    said = refusal(run, folders / "dataset", tmp_path / "no", tmp_path / "grey", config=colour)
    assert said.startswith("--output-nc 3 but --init-from was trained on photos of 1 channels")


def test_a_state_of_before_grey_photos_goes_on(folders, tmp_path):
    """It does not say how many channels they have, which were three."""
    shutil.copytree(folders / "earlier", tmp_path / "model")
    path = tmp_path / "model" / "state" / "training.pt"
    state = torch.load(path, weights_only=True)
    del state["architecture"]["output_nc"]
    torch.save(state, path)
    options = dict(seed=1, instance_features=True, epochs=2)
    run(folders / "dataset", tmp_path / "model", config=config(**options))
    assert ModelCard.read(tmp_path / "model").epoch == 3


def test_a_model_of_which_nothing_fits_is_refused(folders, tmp_path):
    """Training from nothing would look as if it went on."""
    other = dict(netG="unet_128", norm="batch", num_D=1)
    said = refusal(
        run, folders / "dataset", tmp_path / "model", folders / "earlier", config=config(**other)
    )
    start = f"--init-from {folders / 'earlier'}: none of the "
    assert said.startswith(start) and "tensors of the generator fits (" in said
    assert "norm instance against batch" in said and "netG global against unet_128" in said
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("channels, labels", [(36, 35), (13, 12)])
def test_files_of_nvidia_alone_are_trained_on(tmp_path, channels, labels):
    """As its GlobalGenerator names and shapes them; 12 labels follow from the data set."""
    state = nvidia_generator(tmp_path / "bare", channels)
    rng = np.random.default_rng(0)
    maps = {split: {"one": tiny.sample(rng, 32, 64)} for split in ("train", "test")}
    for split in maps.values():
        split["one"]["input"] %= labels
    tiny.write(tmp_path / "dataset", maps, num_labels=labels)
    run(
        tmp_path / "dataset",
        tmp_path / "model",
        config=unsaid(start_from=str(tmp_path / "bare"), ndf=4),
    )
    assert_equal(weights(tmp_path / "model", "G"), state)
    architecture = ModelCard.read(tmp_path / "model").architecture
    found = (architecture.ngf, architecture.n_downsample_global, architecture.n_blocks_global)
    assert found == (8, 2, 2)


def test_a_place_that_is_none_is_refused(folders, tmp_path):
    def start(place):
        return refusal(run, folders / "dataset", tmp_path, config=config(start_from=place))

    assert start("nowhere") == (
        "--start-from nowhere is no folder: give that of a trained model, or models:/NAME/VERSION."
    )
    assert "--start-from models:/demo is not models:/NAME/VERSION" in start("models:/demo")
