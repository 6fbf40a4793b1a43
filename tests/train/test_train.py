"""One step against the reference losses, the schedule, freezing, resuming, any size and input,
refusing."""

import copy
import errno
import json
import os
import re

import numpy as np
import pytest
import torch

from components.cluster.__main__ import main as cluster
from components.train import step
from components.train.__main__ import main
from components.train.config import TrainConfig
from components.train.data.batches import COLUMNS, EpochLoader, collate
from components.train.data.held import FRAMES_SHARE, features_by_image
from components.train.devices import alike
from components.train.networks.build import architecture_for, build
from components.train.run import run
from components.train.schedule import learning_rate
from components.train.step import Trainer
from components.train.validation import sample_picture
from shared import device
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest, parse_size
from shared.contracts.labels import IGNORED
from shared.contracts.model import ModelCard
from shared.data.images import read_ids, read_picture
from shared.data.labels import colours_of
from shared.device import Runtime, pick
from shared.errors import InputError, WorkFailed
from shared.networks.checkpoint import TensorFile
from shared.networks.weight_file import load_tensors
from tests import reference, tiny
from tests.asking import as_flags, refusal_of_command
from tests.training import config, trainer_for


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder)
    return folder


@pytest.fixture(scope="module")
def global_model(tmp_path_factory, dataset):
    folder = tmp_path_factory.mktemp("global")
    run(dataset, folder, config=config(instance_features=True))
    return folder


def instances_of(dataset, count):
    """(N, H, W) int32 as in the files of the first training pairs, whatever the loader makes of
    them."""
    files = [dataset / "train_inst" / f"train_{i}.png" for i in range(count)]
    return torch.from_numpy(np.stack([read_ids(file).astype(np.int32) for file in files]))


@pytest.mark.parametrize(
    ("netG", "feat_num", "input_nc", "regions"),
    [
        ("global", 0, 0, "instances"),
        ("global", 3, 0, "instances"),
        ("global", 3, 0, "labels"),
        ("global", 0, 3, "instances"),
        ("global", 3, 5, "instances"),
        ("local", 0, 0, "instances"),
        ("local", 3, 0, "instances"),
    ],
)
def test_losses_and_gradients_of_one_step_equal_the_reference(
    tmp_path, netG, feat_num, input_nc, regions
):
    """Also after the update: Adam of torch on the reference's gradients gives the same weights."""
    dataset = tmp_path
    tiny.dataset(dataset, input_nc=input_nc)
    numbers = dict(num_labels=0 if input_nc else 35, input_nc=input_nc)
    numbers |= dict(feat_num=feat_num, feature_regions=regions)
    architecture = tiny.architecture(netG=netG, **numbers)
    trainer = trainer_for(architecture, config())
    trainer.start_epoch(1)
    pairs = tiny.pairs(dataset)
    pairs.regions = regions
    batch = collate([pairs[i] for i in range(2)])
    weights = {
        name: {key: value.clone().requires_grad_() for key, value in network.state_dict().items()}
        for name, network in trainer.networks.trained().items()
    }

    instances = instances_of(dataset, 2)
    if input_nc:
        edges = reference.one_hot_and_edges(torch.zeros_like(instances), instances, 1)[:, 1:]
        condition = torch.cat([batch.inputs.float() / 255 * 2 - 1, edges], 1)
    else:
        condition = reference.one_hot_and_edges(batch.inputs, instances, 35)
    photo = batch.photos.float() / 255 * 2 - 1
    x = condition
    if feat_num:
        encoded = reference.hourglass(weights["E"], photo, 2, 0)
        pooled_over = instances if regions == "instances" else batch.inputs.int()
        x = torch.cat([condition, reference.pooled_features(encoded, pooled_over)], 1)
    if netG == "global":
        fake = reference.hourglass(weights["G"], x, 2, 1)
    else:
        fake = reference.local_enhancer(weights["G"], x, 2, 1, 1)
    expected = reference.losses(weights["D"], condition, fake, photo, 2, 2, 10.0)
    of_G = expected["G_GAN"] + expected["G_GAN_Feat"]
    synthesis = {f"G.{key}": weight for key, weight in weights["G"].items()}
    synthesis |= {f"E.{key}": weight for key, weight in weights.get("E", {}).items()}
    found = torch.autograd.grad(of_G, synthesis.values(), retain_graph=True)
    gradients = dict(zip(synthesis, found, strict=True))
    detached = reference.losses(weights["D"], condition, fake.detach(), photo, 2, 2, 10.0)
    of_D = 0.5 * (detached["D_real"] + detached["D_fake"])
    found = torch.autograd.grad(of_D, weights["D"].values())
    gradients |= zip([f"D.{key}" for key in weights["D"]], found, strict=True)

    losses = trainer.step(batch)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), abs=1e-5)
    for name, network in trainer.networks.trained().items():
        for key, parameter in network.named_parameters():
            wanted = gradients[f"{name}.{key}"]
            assert torch.allclose(parameter.grad, wanted, atol=1e-4), (name, key)
            # Adam's first step moves every weight by lr * sign(gradient), up to epsilon.
            moved = weights[name][key].detach() - parameter.detach()
            clear = wanted.abs() > 1e-4
            assert torch.allclose(moved[clear], 2e-4 * wanted[clear].sign(), atol=2e-6)


PIX2PIX = dict(netG="resnet_6blocks", netD="n_layers", norm="batch")
PIX2PIX |= dict(lambda_L1=100.0, lambda_feature_matching=0.0)


@pytest.mark.parametrize("mode", ["vanilla", "lsgan"])
def test_one_step_of_pix2pix_equals_its_algorithm(tmp_path, mode):
    """D first, then G against the new D, with Adam written out: a first step is the learning rate
    times the sign."""
    options = config(**PIX2PIX, gan_mode=mode, learning_rate=1e-3)
    manifest = tiny.dataset(tmp_path, input_nc=3)
    architecture = architecture_for(options, False, manifest, None)
    networks = build(architecture, options, options.seed)
    trainer = Trainer(copy.deepcopy(networks), architecture, options, pick("cpu"))
    batch = collate([tiny.pairs(tmp_path)[i] for i in range(2)])
    losses = trainer.step(batch)

    def distance(scores, target):
        target = torch.full_like(scores, target)
        return (scores - target).square().mean() if mode == "lsgan" else bce(scores, target)

    def bce(scores, target):
        chance = torch.sigmoid(scores)
        return -(target * chance.log() + (1 - target) * (1 - chance).log()).mean()

    def adam(network, loss):
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.data -= 1e-3 * gradient / (gradient.abs() + 1e-8)

    G, D = networks.G, networks.D
    photo = batch.photos.float() / 127.5 - 1
    no_labels = torch.zeros_like(batch.dense_ids)
    edges = reference.one_hot_and_edges(no_labels, batch.dense_ids, 1)[:, 1:]
    condition = torch.cat([batch.inputs.float() / 127.5 - 1, edges], dim=1)
    scores = lambda picture: D(torch.cat([condition, picture], dim=1))[-1][-1]  # noqa: E731
    fake = G(condition)
    wanted = {
        "D_real": distance(scores(photo), 1.0),
        "D_fake": distance(scores(fake.detach()), 0.0),
    }
    adam(D, (wanted["D_real"] + wanted["D_fake"]) / 2)
    wanted |= {"G_GAN": distance(scores(fake), 1.0), "G_L1": 100 * (fake - photo).abs().mean()}
    adam(G, wanted["G_GAN"] + wanted["G_L1"])

    assert losses.keys() == wanted.keys()
    for name, loss in wanted.items():
        torch.testing.assert_close(losses[name], loss.detach(), rtol=1e-5, atol=1e-5, msg=name)
    for name, network in {"G": G, "D": D}.items():
        for key, weight in getattr(trainer.networks, name).state_dict().items():
            # Biases before a norm have no gradient but rounding: there the sign, and so the step,
            # is chance.
            if weight.is_floating_point() and not (key.endswith("bias") and "conv" in key):
                close = torch.isclose(weight, network.state_dict()[key], atol=2e-5).float().mean()
                assert close > 0.99, (name, key, close)


def test_pix2pix_trains_saves_a_moving_average_and_continues(tmp_path):
    tiny.dataset(tmp_path / "dataset", input_nc=3)
    options = dict(dropout=True, gan_mode="vanilla", pool_size=3, ema_decay=0.9)
    options = config(**PIX2PIX, **options, clip_gradient_norm=1.0, epochs=2, epochs_decay=2)
    run(tmp_path / "dataset", tmp_path / "whole", config=options)
    card = ModelCard.read(tmp_path / "whole")
    assert card.architecture.is_pix2pix
    assert {"G_GAN", "G_L1", "D_real", "D_fake", "sample_L1"} <= card.metrics.keys()
    state = load_tensors(tmp_path / "whole" / "state" / "training.pt")
    published = load_tensors(tmp_path / "whole" / "latest_net_G.pth")
    assert all(torch.equal(published[key], state["ema"][key]) for key in published)
    assert not torch.equal(published["model.1.weight"], state["G"]["model.1.weight"])
    assert len(state["pool"]["images"]) == 3


def test_label_features_need_no_instances_and_reach_the_next_stage(tmp_path):
    """Through cluster, whose features then come by label, into the local stage."""
    splits = {"train": {}, "test": {}}
    for number in range(3):
        pair = tiny.sample(np.random.default_rng(number), 32, 64)
        splits["train"][f"train_{number}"] = {kind: pair[kind] for kind in ("input", "photo")}
    tiny.write(tmp_path / "dataset", splits)
    options = dict(instance_features=True, feature_regions="labels")
    run(tmp_path / "dataset", tmp_path / "global", config=config(**options))
    card = ModelCard.read(tmp_path / "global")
    assert card.architecture.feature_regions == "labels" and not card.architecture.use_instances

    places = {name: tmp_path / name for name in ("dataset", "clusters")}
    cluster(as_flags(**places, model=tmp_path / "global", device="cpu"))
    stored = np.load(tmp_path / "clusters" / "features.npz")
    first = stored["ids"][: stored["start"][1]]
    assert np.array_equal(first, np.unique(splits["train"]["train_0"]["input"]))
    folders = dict(init_from=tmp_path / "global", clusters=tmp_path / "clusters")
    options = config(netG="local", ngf=2, **options)
    run(tmp_path / "dataset", tmp_path / "local", **folders, config=options)


def test_sample_pictures_leave_batch_norm_and_modes_as_they_are(dataset):
    """Those of E too, which reads the photos for them."""
    options = config(norm="batch", instance_features=True)
    architecture = architecture_for(options, True, DatasetManifest.read(dataset), None)
    built = build(architecture, options, options.seed)
    trainer = Trainer(built, architecture, options, pick("cpu"))
    networks = trainer.networks.trained().values()
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    samples = collate([tiny.pairs(dataset)[i] for i in range(2)])
    sample_picture(trainer, samples, colours_of([]))
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        assert all(module.training for module in network.modules())


def test_the_learning_rate_follows_the_policy():
    """step: a tenth after every third epoch."""
    options = config(lr_policy="step", lr_decay_epochs=3, learning_rate=1.0)
    rates = [learning_rate(options, epoch) for epoch in (3, 4, 7)]
    assert rates == pytest.approx([1, 0.1, 0.01])


def test_fixed_phase_freezes_the_global_part_and_thaws_it(dataset):
    """The reference never thaws it (SEED_FACTS 0.1)."""
    architecture = tiny.architecture(netG="local")
    options = config(netG="local", epochs=3, epochs_decay=2, epochs_fix_global=1)
    trainer = trainer_for(architecture, options)
    batch = collate([tiny.pairs(dataset)[0]])

    def moved_by_epoch(epoch):
        before = {key: value.clone() for key, value in trainer.networks.G.state_dict().items()}
        trainer.start_epoch(epoch)
        trainer.step(batch)
        after = trainer.networks.G.state_dict()
        return {
            key.split(".")[0]
            for key in before
            if key.endswith("weight") and not torch.equal(before[key], after[key])
        }

    assert moved_by_epoch(1) == {"model1_1", "model1_2"}
    assert all(
        p.grad is None
        for name, p in trainer.networks.G.named_parameters()
        if name.startswith("model.")
    )
    assert moved_by_epoch(2) == {"model", "model1_1", "model1_2"}
    trainer.start_epoch(5)
    assert trainer.update_G.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_flip_mirrors_every_map_alike_and_depends_on_seed_epoch_and_index_only(dataset):
    plain, flipping = tiny.pairs(dataset, seed=5), tiny.pairs(dataset, flip=True, seed=5)
    flips = []
    for epoch in (1, 2, 3, 4):
        flipping.epoch = epoch
        for i in range(len(plain)):
            a, b = plain[i], flipping[i]
            assert a.keys() == b.keys() == {"inputs", "photos", "dense_ids", "num_regions"}
            maps = ("inputs", "photos", "dense_ids")
            mirrored = all(torch.equal(a[name].flip(-1), b[name]) for name in maps)
            assert mirrored or all(torch.equal(a[name], b[name]) for name in maps)
            assert a["num_regions"] == b["num_regions"]
            flips.append(mirrored)
            assert torch.equal(flipping[i]["photos"], b["photos"])
    assert 0 < sum(flips) < len(flips)


@pytest.mark.parametrize("workers", [0, 2])
def test_order_of_an_epoch_depends_on_seed_and_epoch_only(dataset, workers):
    pairs = tiny.pairs(dataset, flip=True, seed=5)
    loader = EpochLoader(pairs, 2, workers, pin_memory=False)
    first = [batch.photos for batch in loader.epoch(3)]
    list(loader.epoch(4))
    again = [batch.photos for batch in EpochLoader(pairs, 2, 0, pin_memory=False).epoch(3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("cache", [False, True])
def test_reading_an_epoch_lists_no_folder(tmp_path, monkeypatch, cache):
    """Of a data set of 100,000 pairs on a network disk, a listing takes minutes."""
    tiny.dataset(tmp_path, cache=cache)
    loader = EpochLoader(tiny.pairs(tmp_path), batch_size=2, workers=0, pin_memory=False)

    def listed(*args, **options):
        raise AssertionError("a folder was listed")

    for name in ("scandir", "listdir", "walk"):
        monkeypatch.setattr(os, name, listed)
    assert sum(len(batch) for batch in loader.epoch(1)) == len(loader.pairs) == 4


def test_model_folder_is_complete_and_describes_itself(dataset, global_model):
    card = ModelCard.read(global_model)
    assert (card.epoch, card.images_seen, card.height, card.width) == (2, 8, 32, 64)
    assert card.architecture.feat_num == 3 and card.metrics["G_GAN_Feat"] > 0
    for name in "GDE":
        state = load_tensors(global_model / f"latest_net_{name}.pth")
        assert all(tensor.device.type == "cpu" for tensor in state.values())
    assert read_picture(global_model / "samples" / "epoch_0002.png").shape == (3, 4 * 32, 3 * 64)


def test_an_interrupted_run_continues_to_the_same_weights(dataset, tmp_path, monkeypatch):
    options = dict(epochs=2, epochs_decay=2, instance_features=True)
    run(dataset, tmp_path / "whole", config=config(**options))

    steps, step = [], Trainer.step

    def killed(self, batch):
        if len(steps) == 9:  # in the third epoch of four steps
            raise KeyboardInterrupt
        steps.append(1)
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(dataset, tmp_path / "parts", config=config(**options))
    monkeypatch.setattr(Trainer, "step", step)
    assert ModelCard.read(tmp_path / "parts").epoch == 2
    run(dataset, tmp_path / "parts", config=config(**options))
    assert ModelCard.read(tmp_path / "parts").digest == ModelCard.read(tmp_path / "whole").digest
    assert ModelCard.read(tmp_path / "parts").metrics == ModelCard.read(tmp_path / "whole").metrics


class Killed(BaseException):
    """What no handler catches, as kill -9."""


@pytest.mark.parametrize("killed_in_step", [1, 2, 3, 5, 8])
def test_a_run_killed_within_an_epoch_continues_to_the_same_weights(
    tmp_path, monkeypatch, killed_in_step
):
    """4 pairs and 2 epochs are 8 steps; with dropout, a pool and a moving average, all of which
    have a memory."""
    tiny.dataset(tmp_path / "dataset", input_nc=3)
    remembering = dict(dropout=True, pool_size=2, ema_decay=0.9)
    options = config(**PIX2PIX, **remembering, save_every_steps=1)
    whole = run(tmp_path / "dataset", tmp_path / "whole", config=options)

    step, steps = Trainer.step, []

    def step_until_killed(trainer, batch):
        steps.append(trainer.images_seen)
        if len(steps) == killed_in_step:
            raise Killed
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "step", step_until_killed)
    with pytest.raises(Killed):
        run(tmp_path / "dataset", tmp_path / "killed", config=options)
    again = run(tmp_path / "dataset", tmp_path / "killed", config=options)
    assert len(steps) == 8 + 1  # only the killed step was done twice
    assert ModelCard.read(tmp_path / "killed").digest == ModelCard.read(tmp_path / "whole").digest
    for name in ("G_GAN", "G_L1", "D_real", "D_fake", "sample_L1"):
        assert again[name] == whole[name], name


def test_policy_plateau_lowers_the_rate_by_the_losses_of_G_and_remembers_them(
    dataset, tmp_path, monkeypatch
):
    """Losses that never fall: after seven epochs the rate is a fifth, also when the run was stopped
    in between."""
    monkeypatch.setattr(step, "means", lambda sums: {"G_GAN": 1.0, "D_real": 0.5})
    options = dict(lr_policy="plateau", learning_rate=1e-3, epochs_decay=0, sample_every_epochs=99)
    run(dataset, tmp_path, config=config(**options, epochs=4))
    run(dataset, tmp_path, config=config(**options, epochs=7))
    state = load_tensors(tmp_path / "state" / "training.pt")
    assert state["plateau"]["learning_rate"] == pytest.approx(2e-4)


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint(dataset, tmp_path, monkeypatch, capsys):
    run(dataset, tmp_path, config=config(epochs=1, epochs_decay=0))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_to = TensorFile.write_to

    def full(content, file):
        if file.name.endswith(".training.pt.partial"):
            file.write(bytes(100))
            raise OSError(errno.ENOSPC, "No space left on device")
        write_to(content, file)

    monkeypatch.setattr(TensorFile, "write_to", full)
    flags = dict(dataset=dataset, model=tmp_path, **tiny.TRAIN, epochs=2, epochs_decay=0)
    with pytest.raises(SystemExit) as end:
        main(as_flags(**flags, device="cpu"))
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert re.fullmatch(
        rf"train failed: --model {tmp_path}/state/training.pt needs [\d.]+ kB, but its disk has "
        r"\S+ GB free \(No space left on device\): make room there and say the same command "
        r"again; what was finished before is kept.\n",
        said,
    ), said
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert {path.name for path in after.keys() - before.keys()} == {"epoch_0002.png"}


def test_weights_of_the_latest_checkpoints_are_kept(dataset, tmp_path):
    run(dataset, tmp_path, config=config(epochs=3, epochs_decay=0, keep_checkpoints=2))
    copies = ["2_net_G.pth", "3_net_G.pth"]
    assert sorted(path.name for path in tmp_path.glob("[0-9]*_net_G.pth")) == copies
    third, latest = (load_tensors(tmp_path / f"{name}_net_G.pth") for name in ("3", "latest"))
    assert all(torch.equal(third[key], latest[key]) for key in latest)
    run(dataset, tmp_path, config=config(epochs=4, epochs_decay=0, keep_checkpoints=0))
    assert sorted(path.name for path in tmp_path.glob("[0-9]*_net_G.pth")) == copies
    again = load_tensors(tmp_path / "3_net_G.pth")
    assert all(torch.equal(again[key], third[key]) for key in third)


def test_two_devices_train_as_one_with_the_joined_batch(dataset, global_model, tmp_path):
    """Through the fixed phase of a local enhancer and beyond it: then its global part is
    synchronised too."""
    options = dict(netG="local", ngf=2, instance_features=True)
    options |= dict(epochs_fix_global=1, epochs=2, epochs_decay=0)
    of_two, of_one = config(**options, devices=2), config(**options, batch_size=2)
    two = run(dataset, tmp_path / "two", init_from=global_model, config=of_two)
    one = run(dataset, tmp_path / "one", init_from=global_model, config=of_one)
    for name in ("G_GAN", "G_GAN_Feat", "D_real", "D_fake", "sample_L1"):
        assert two[name] == pytest.approx(one[name], rel=1e-3), name
    folders = tmp_path / "two", tmp_path / "one", global_model
    assert [ModelCard.read(path).images_seen for path in folders[:2]] == [8, 8]
    G, of_one, before = (load_tensors(path / "latest_net_G.pth") for path in folders)
    for key in ("model.1.weight", "model1_2.0.conv_block.1.weight"):
        assert torch.allclose(G[key], of_one[key], atol=2e-4), key
    assert not torch.equal(G["model.1.weight"], before["model.1.weight"])


@pytest.mark.slow  # test_distributed has one that is cheaper
def test_a_refusal_of_a_started_process_is_that_of_the_step(dataset, tmp_path):
    sentence = "--netG local starts from a global model: give its folder with --init-from."
    with pytest.raises(InputError, match=sentence):
        run(dataset, tmp_path, config=config(netG="local", devices=2))


def test_the_same_command_on_a_finished_run_changes_nothing(dataset, global_model, capsys):
    before = ModelCard.read(global_model)
    run(dataset, global_model, config=config(instance_features=True))
    assert "already trained for 2 epochs" in capsys.readouterr().out
    assert ModelCard.read(global_model) == before


def test_local_stage_starts_from_global_weights_and_keeps_the_encoder(
    dataset, global_model, tmp_path, capsys
):
    run(
        dataset,
        tmp_path,
        init_from=global_model,
        config=config(netG="local", ngf=2, num_D=3, instance_features=True),
    )
    out = capsys.readouterr().out
    assert "latest_net_G.pth: 14 of 26 tensors taken" in out and "new: scale2_layer0.0" in out
    card = ModelCard.read(tmp_path)
    assert (
        card.architecture.netG == "local"
        and card.parent_digest == ModelCard.read(global_model).digest
    )


def test_global_stage_may_start_from_another_generator_and_says_what_fitted(
    dataset, global_model, tmp_path, capsys
):
    run(
        dataset,
        tmp_path,
        init_from=global_model,
        config=config(instance_features=True, n_blocks_global=2),
    )
    # Ten convolutions of two tensors; stem, two down-samplings and the first block of two stand
    # where they stood.
    assert "latest_net_G.pth: 10 of 20 tensors taken" in capsys.readouterr().out


def cluster_table(folder, global_model, **changes):
    card = ModelCard.read(global_model)
    values = dict(feat_num=3, n_clusters=1, min_area=0, seed=0, labels={}, overall=[0, 0, 0])
    digests = dict(model_digest=card.digest, dataset_digest=card.dataset_digest)
    ClusterTable(**values | digests | changes).write(folder)
    return folder


def test_features_of_the_cluster_step_reach_the_pixels_of_their_instance(
    dataset, global_model, tmp_path
):
    manifest, instances = DatasetManifest.read(dataset), instances_of(dataset, 4)
    cluster_table(tmp_path, global_model)
    names, start, ids, features = [], [0], [], []
    for i, pair in enumerate(manifest.train):
        distinct = np.unique(instances[i])
        names.append(pair.name)
        ids.append(distinct)
        features.append(np.stack([distinct, distinct * 2.0, np.full(len(distinct), i)], 1))
        start.append(start[-1] + len(distinct))
    np.savez(
        tmp_path / "features.npz",
        names=names,
        start=start,
        ids=np.concatenate(ids),
        features=np.concatenate(features),
    )
    pairs = tiny.pairs(dataset, features=features_by_image(tmp_path, manifest))
    items = [pairs[i] for i in range(3)]
    batch = collate(items)
    for n in range(3):
        painted = batch.features[n][:, batch.dense_ids[n].long()]
        assert torch.equal(painted[0], instances[n].double())
        assert torch.equal(painted[1], instances[n].double() * 2)
        assert (painted[2] == n).all()

    # An instance of which the step knew nothing.
    known, table = pairs.features["train_0"]
    pairs.features["train_0"] = known[1:], table[:, 1:]
    with pytest.raises(InputError, match="has no features of some instances of train_0"):
        pairs[0]


# Any input, any size.


@pytest.mark.parametrize("input_nc", [3, 5])
@pytest.mark.parametrize("instance_features", [False, True])
def test_pictures_as_input(tmp_path, input_nc, instance_features):
    """Five channels lie in .npy files; the sample picture shows the first three of them."""
    tiny.dataset(tmp_path / "data", input_nc=input_nc)
    run(tmp_path / "data", tmp_path / "model", config=config(instance_features=instance_features))
    card = ModelCard.read(tmp_path / "model")
    found = card.architecture.num_labels, card.architecture.input_nc, card.epoch
    assert found == (0, input_nc, 2)
    G, D = (load_tensors(tmp_path / "model" / f"latest_net_{name}.pth") for name in "GD")
    assert G["model.1.weight"].shape[1] == input_nc + 1 + 3 * instance_features
    assert D["scale0_layer0.0.weight"].shape[1] == input_nc + 1 + 3
    assert np.isfinite(list(card.metrics.values())).all()
    shown = read_picture(tmp_path / "model" / "samples" / "epoch_0002.png")
    assert shown.shape == (3, 4 * 32, 3 * 64)
    first = tmp_path / "data" / "train_A" / ("train_0.png" if input_nc == 3 else "train_0.npy")
    assert np.array_equal(shown[:, :32, :64], read_picture(first, input_nc)[:3])
    photo = read_picture(tmp_path / "data" / "train_B" / "train_0.png")
    assert np.array_equal(shown[:, :32, 128:], photo)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Frames of two sizes, one of them odd; names in the order of the sizes below."""
    folder = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(0)
    contents = {
        "a": tiny.sample(rng, 24, 40),
        "b": tiny.sample(rng, 40, 56),
        "c": tiny.sample(rng, 24, 40),
    }
    contents["b"] = {kind: array[..., :33, :50] for kind, array in contents["b"].items()}
    tiny.write(folder, {"train": contents}, cache=True)
    return folder


@pytest.mark.parametrize("cache", ["auto", "off", "memory"])
def test_frames_of_differing_sizes_train_one_by_one(mixed, tmp_path, cache):
    """The model is of the size that most frames have; the sample pictures too."""
    options = dict(instance_features=True, cache=cache)
    run(mixed, tmp_path, config=config(**options))
    card = ModelCard.read(tmp_path)
    assert (card.height, card.width, card.images_seen) == (24, 40, 6)
    assert read_picture(tmp_path / "samples" / "epoch_0002.png").shape == (3, 3 * 24, 3 * 40)


def test_frames_of_differing_sizes_make_no_batch(mixed, tmp_path):
    remedy = "say --batch-size 1, or --crop or --size with a size for all."
    for options, sentence in (
        (dict(), f"--batch-size 2: a gives 24x40 but b 33x50: {remedy}"),
        (dict(crop="16x48"), f"--batch-size 2: a gives 16x40 but b 16x48: {remedy}"),
    ):
        with pytest.raises(InputError) as refusal:
            run(mixed, tmp_path / "model", config=config(batch_size=2, **options))
        assert str(refusal.value) == sentence
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "options", [dict(crop="16x24"), dict(size="24x40"), dict(size="40x56", crop="21x30")]
)
def test_crop_or_size_makes_batches_of_frames_of_differing_sizes(
    mixed, tmp_path, options, monkeypatch
):
    shapes, step = set(), Trainer.step

    def watched(self, batch):
        maps = batch.inputs, batch.photos, batch.dense_ids
        shapes.update(tuple(tensor.shape[-2:]) for tensor in maps)
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", watched)
    run(mixed, tmp_path, config=config(batch_size=2, instance_features=True, **options))
    size = parse_size(options.get("crop") or options["size"])
    assert shapes == {size}
    whole = parse_size(options["size"]) if "size" in options else (24, 40)
    card = ModelCard.read(tmp_path)
    assert (card.height, card.width, card.images_seen) == (*whole, 6)
    shown = read_picture(tmp_path / "samples" / "epoch_0002.png")
    assert shown.shape == (3, 3 * whole[0], 3 * whole[1])


@pytest.mark.parametrize("size", ["30x64", "33x50", "17x19"])
def test_sizes_that_are_no_multiple_of_the_stride_train(dataset, tmp_path, size):
    """A stride of 4: they were refused once."""
    options = config(size=size, instance_features=True)
    run(dataset, tmp_path, config=options)
    card, (height, width) = ModelCard.read(tmp_path), parse_size(size)
    assert (card.height, card.width) == (height, width)
    assert np.isfinite(list(card.metrics.values())).all()
    assert read_picture(tmp_path / "samples" / "epoch_0002.png").shape == (3, 4 * height, 3 * width)


def test_local_stage_trains_at_an_odd_size(dataset, global_model, tmp_path):
    options = config(netG="local", ngf=2, instance_features=True, size="37x51")
    run(dataset, tmp_path, init_from=global_model, config=options)
    assert read_picture(tmp_path / "samples" / "epoch_0002.png").shape == (3, 4 * 37, 3 * 51)


def test_pixels_without_a_label_train_and_have_no_channel(tmp_path):
    rng = np.random.default_rng(0)
    content = tiny.sample(rng, 24, 40)
    content["input"] = content["input"].copy()
    content["input"][5:11, 7:30] = IGNORED
    tiny.write(tmp_path / "data", {"train": {"a": content}})
    run(tmp_path / "data", tmp_path / "model", config=config(instance_features=True))
    assert np.isfinite(list(ModelCard.read(tmp_path / "model").metrics.values())).all()

    trainer = trainer_for(tiny.architecture(), config())
    channels = trainer.condition(collate([tiny.pairs(tmp_path / "data")[0]]))[0, :35].numpy()
    assert (channels[:, 5:11, 7:30] == 0).all()
    labelled = content["input"] != IGNORED
    assert (channels.sum(axis=0) == labelled).all()
    assert np.array_equal(channels.argmax(axis=0)[labelled], content["input"][labelled])


# Where frames are held.


def test_where_frames_are_held_changes_no_weight(tmp_path, capsys):
    """Files, mapped cache, memory, device: the digests of two epochs of crops."""
    tiny.dataset(tmp_path / "data", cache=True)
    digests = {}
    for cache in ("off", "auto", "memory", "device"):
        options = config(cache=cache, crop="24x40", batch_size=2, instance_features=True)
        run(tmp_path / "data", tmp_path / cache, config=options)
        digests[cache] = ModelCard.read(tmp_path / cache).digest
        said = f"all frames are held in {cache}: 0.00 GB" in capsys.readouterr().out
        assert said == (cache in ("memory", "device"))
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("size", ["", "64x96"])
@pytest.mark.parametrize("cache", ["memory", "device"])
def test_frames_that_do_not_fit_are_refused(dataset, tmp_path, monkeypatch, cache, size):
    """A frame takes 1 + 3 + 1 bytes a pixel and 4 an id, rounded up to 64."""
    pixels = 64 * 96 if size else 32 * 64
    ids = [len(instances.unique()) for instances in instances_of(dataset, 4)]
    needed = sum(-(-(5 * pixels + 4 * k) // 64) * 64 for k in ids)
    monkeypatch.setattr(Runtime, "free_memory_bytes", lambda _: needed / FRAMES_SHARE * 0.999)
    with pytest.raises(InputError) as refusal:
        run(dataset, tmp_path / "model", config=config(cache=cache, size=size))
    assert str(refusal.value) == (
        f"--cache {cache}: the frames take 0.0 GB but 0.0 GB are free, of which the networks need "
        "a part: say --cache auto."
    )
    assert not (tmp_path / "model").exists()
    monkeypatch.setattr(Runtime, "free_memory_bytes", lambda _: needed / FRAMES_SHARE * 1.001)
    run(dataset, tmp_path / "model", config=config(cache=cache, size=size, epochs_decay=0))


def test_frames_in_memory_are_read_from_no_file(tmp_path):
    tiny.dataset(tmp_path, cache=True)
    pairs = tiny.pairs(tmp_path)
    before = [pairs[index]["photos"] for index in range(len(pairs))]
    pairs.keep(torch.device("cpu"))
    pairs.reader.cache.file.close()
    assert all(torch.equal(photo, pairs[index]["photos"]) for index, photo in enumerate(before))


def test_batches_of_frames_on_the_device_fetch_nothing_from_it(dataset):
    """The device `meta` has shapes but no values: reading one raises."""
    pairs = tiny.pairs(dataset, crop=(16, 16), flip=True)
    pairs.keep(torch.device("meta"))
    batch = collate([pairs[0], pairs[1]])
    assert batch.photos.is_meta and batch.dense_ids.is_meta and batch.photos.shape == (2, 3, 16, 16)
    most = max(len(instances.unique()) for instances in instances_of(dataset, 2))
    assert most <= batch.num_regions < most + COLUMNS


# Refusals.


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(size="big"), "--size 'big': should be HEIGHTxWIDTH, for example 128x256, or empty."),
        (dict(crop="0x8"), "--crop '0x8': should be HEIGHTxWIDTH, for example 128x256, or empty."),
        (
            PIX2PIX | dict(lambda_feature_matching=1),
            "--lambda-feature-matching matches layers of --netD multiscale",
        ),
        (
            PIX2PIX | dict(n_layers_D=3, size="23x64"),
            "--size is 23x64 but these networks need 24 pixels a side",
        ),
        (
            dict(pool_size=2, devices=2),
            "--pool-size works on one device only: leave it out, or say --devices 1.",
        ),
        (dict(size="8x64"), "--size '8x64': both sides should be 16 pixels or more."),
        (dict(cache="disk"), "--cache 'disk': should be 'auto', 'off', 'memory' or 'device'."),
        (
            dict(netG="local"),
            "--netG local starts from a global model: give its folder with --init-from",
        ),
        (
            dict(lambda_vgg=10, vgg_weights="v.pth"),
            "--lambda-vgg is 10 but --vgg-weights 'v.pth' is no file",
        ),
        (
            dict(lambda_vgg=10),
            "--vgg-weights auto needs vgg19-dcbb9e9d.pth (575 MB), but /dev/null",
        ),
        (dict(epochs=0), "--epochs 0: should be greater than or equal to 1"),
        (dict(precision="tf32"), "--precision tf32 is an NVIDIA GPU mode"),
        (dict(device="npu"), "--device npu: torch_npu is not installed"),
        (dict(wat=1), "train has no option --wat"),
        (dict(layout="nhwc"), "--layout has a new name: write --memory-format."),
    ],
)
def test_refusals(dataset, tmp_path, options, sentence):
    with pytest.raises(InputError) as refusal:
        run(dataset, tmp_path / "model", config=config(**options))
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "model").exists()


def test_images_too_small_for_the_networks_are_refused_unless_they_are_resized(tmp_path):
    tiny.dataset(tmp_path / "dataset", height=8, width=64)
    with pytest.raises(InputError) as refusal:
        run(tmp_path / "dataset", tmp_path / "model", config=config())
    assert str(refusal.value) == (
        "--dataset holds train_0, which is 8x64 but these networks need 16 pixels a side: "
        "prepare larger images, or give another --size or --crop."
    )
    run(tmp_path / "dataset", tmp_path / "model", config=config(size="16x64", epochs=1))


def test_refusals_of_folders_that_do_not_belong_together(dataset, global_model, tmp_path):
    local = dict(netG="local", instance_features=True)
    of_other_model = cluster_table(tmp_path / "a", global_model, model_digest="x")
    of_other_data = cluster_table(tmp_path / "b", global_model, dataset_digest="x")
    for ngf, init_from, clusters, sentence in (
        (4, global_model, None, "needs half the --ngf of its global model"),
        (2, tmp_path, None, "holds no model.json"),
        (2, global_model, of_other_model, "was not made from --init-from"),
        (2, global_model, of_other_data, "was made from another data set"),
    ):
        options = config(**local, ngf=ngf)
        with pytest.raises(InputError, match=sentence):
            run(dataset, tmp_path / "model", init_from, clusters, config=options)
    with pytest.raises(InputError, match="holds a training with ngf 4, but 8 is asked for"):
        run(dataset, global_model, config=config(instance_features=True, ngf=8))


def test_a_table_without_features_is_refused(dataset, global_model, tmp_path):
    """`exchange read` makes tables of pix2pixHD's centres alone: enough to paint, not to train."""
    clusters = cluster_table(tmp_path / "clusters", global_model)
    options = config(netG="local", ngf=2, instance_features=True)
    with pytest.raises(InputError) as refusal:
        run(dataset, tmp_path / "model", global_model, clusters, config=options)
    assert str(refusal.value) == (
        f"--clusters {clusters} has no features.npz: make it with `python -m components.cluster`, "
        "or with its exchange read-maps."
    )
    assert not (tmp_path / "model").exists()


def test_losses_that_are_not_finite_stop_the_run_and_keep_the_checkpoint(
    dataset, tmp_path, monkeypatch
):
    run(dataset, tmp_path, config=config())
    digest, load = ModelCard.read(tmp_path).digest, Trainer.load_state_dict

    def load_and_poison(trainer, state):
        load(trainer, state)
        next(trainer.networks.D.parameters()).data.view(-1)[0] = float("nan")

    monkeypatch.setattr(Trainer, "load_state_dict", load_and_poison)
    with pytest.raises(WorkFailed, match="no longer finite in epoch 3"):
        run(dataset, tmp_path, config=config(epochs=2))
    assert ModelCard.read(tmp_path).digest == digest


def test_bf16_step_stays_near_fp32(dataset):
    architecture = tiny.architecture()
    batch = collate([tiny.pairs(dataset)[0]])
    losses = {}
    for precision in ("fp32", "bf16"):
        trainer = trainer_for(architecture, config())
        trainer.runtime = pick("cpu", precision)
        losses[precision] = trainer.step(batch)
        assert all(p.dtype == torch.float32 for p in trainer.networks.G.parameters())
    for name, loss in losses["fp32"].items():
        assert losses["bf16"][name].item() == pytest.approx(loss.item(), rel=0.03)


@pytest.mark.parametrize("began, goes_on", [("fp32", "fp32"), ("auto", "bf16")])
def test_a_training_goes_on_in_the_precision_it_has(
    dataset, tmp_path, monkeypatch, capsys, began, goes_on
):
    """Where auto is bf16 by now, or is no more."""
    monkeypatch.setattr(device, "multiplies_bf16", lambda: True)
    flags = dict(dataset=dataset, model=tmp_path, **tiny.TRAIN, epochs_decay=0, device="cpu")
    main(as_flags(**flags, epochs=1, precision=began))
    monkeypatch.setattr(device, "multiplies_bf16", lambda: began == "fp32")
    main(as_flags(**flags, epochs=2))
    said = capsys.readouterr().out
    assert said.count(f", {goes_on}, torch ") == 2 and "--precision" not in said


def test_nodes_are_compared_by_what_auto_is_on_them(dataset, tmp_path, monkeypatch, capsys):
    """One with and one without instructions for bf16 would add gradients of both."""

    def of_another_node(options, world):
        return [options, options | {"--precision": "fp32"}]

    monkeypatch.setattr(device, "multiplies_bf16", lambda: True)
    monkeypatch.setattr(alike, "gathered", of_another_node)
    flags = as_flags(dataset=dataset, model=tmp_path / "model", **tiny.TRAIN, device="cpu")
    assert refusal_of_command(capsys, main, *flags) == (
        "--precision is fp32 on node 1, but bf16 on node 0: give all nodes the same."
    )


def test_config_on_disk_is_the_config_that_ran(global_model):
    stored = json.loads((global_model / "model.json").read_text())["config"]
    assert TrainConfig.check(stored) == config(instance_features=True)
