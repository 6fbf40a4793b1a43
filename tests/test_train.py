"""One step against the reference losses, the schedule, freezing, resuming, refusing."""

import json

import numpy as np
import pytest
import torch

from components.train.config import TrainConfig
from components.train.data import EpochLoader, PairDataset, collate, read_features
from components.train.loop import Networks, Trainer
from components.train.objective import feature_matching_loss, gan_loss, vgg_loss
from components.train.run import run
from shared.checkpoint import load_tensors, save_tensors
from shared.contracts import ClusterTable, ModelCard
from shared.device import pick
from shared.errors import InputError
from shared.images import read_photo
from shared.networks import VGG19Features, build_discriminator, build_encoder, build_generator, init_weights
from tests import reference, tiny


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


def config(**changes) -> TrainConfig:
    return TrainConfig.check(tiny.TRAIN | dict(epochs=1, epochs_decay=1, device="cpu") | changes)


def trainer_for(architecture, options):
    torch.manual_seed(3)
    networks = Networks(
        G=build_generator(architecture).apply(init_weights),
        D=build_discriminator(architecture).apply(init_weights),
        E=build_encoder(architecture).apply(init_weights) if architecture.feat_num else None,
        vgg=None,
    )
    return Trainer(networks, architecture, options, pick("cpu", "fp32"))


@pytest.mark.parametrize("feat_num", [0, 3])
def test_losses_and_gradients_of_one_step_equal_the_reference(dataset, feat_num):
    """Also after the update: Adam of torch on the reference's gradients gives the same weights."""
    architecture = tiny.architecture(feat_num=feat_num)
    trainer = trainer_for(architecture, config())
    trainer.start_epoch(1)
    batch = collate([PairDataset(dataset, tiny.dataset(dataset), (32, 64), False, 0, None)[i] for i in range(2)])
    weights = {
        name: {key: value.clone().requires_grad_() for key, value in network.state_dict().items()}
        for name, network in trainer.networks.trained().items()
    }

    condition = reference.one_hot_and_edges(batch.labels, batch.instances, 35)
    photo = batch.photos.float() / 255 * 2 - 1
    x = condition
    if feat_num:
        encoded = reference.hourglass(weights["E"], photo, 2, 0)
        x = torch.cat([condition, reference.pooled_features(encoded, batch.instances)], 1)
    fake = reference.hourglass(weights["G"], x, 2, 1)
    expected = reference.losses(weights["D"], condition, fake, photo, 2, 2, 10.0)
    of_G = expected["G_GAN"] + expected["G_GAN_Feat"]
    synthesis = {f"{net}.{key}": weights[net][key] for net in ("G", "E") if net in weights for key in weights[net]}
    gradients = dict(zip(synthesis, torch.autograd.grad(of_G, synthesis.values(), retain_graph=True), strict=True))
    detached = reference.losses(weights["D"], condition, fake.detach(), photo, 2, 2, 10.0)
    of_D = 0.5 * (detached["D_real"] + detached["D_fake"])
    gradients |= {
        f"D.{k}": g for k, g in zip(weights["D"], torch.autograd.grad(of_D, weights["D"].values()), strict=True)
    }

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


def test_gan_loss_sums_over_scales_and_takes_the_last_map_only():
    scales = [
        [torch.full((1, 4, 3, 3), 9.0), torch.full((1, 1, 2, 2), 0.25)],
        [torch.zeros(1), torch.full((1, 1, 1, 1), 3.0)],
    ]
    assert gan_loss(scales, is_real=True).item() == pytest.approx(0.75**2 + 2**2)
    assert gan_loss(scales, is_real=False).item() == pytest.approx(0.25**2 + 3**2)


def test_feature_matching_ignores_scores_and_gives_no_gradient_to_real():
    def scales(value, score):
        return [
            [torch.full((1, 2, 2, 2), value, requires_grad=True) for _ in range(4)] + [torch.tensor(score)]
            for _ in range(2)
        ]

    fake, real = scales(1.0, 5.0), scales(4.0, 7.0)
    loss = feature_matching_loss(fake, real)
    assert loss.item() == pytest.approx(2 * 4 * 3.0 * (4 / 4) * (1 / 2))
    loss.backward()
    assert fake[0][0].grad is not None and real[0][0].grad is None


def test_vgg_loss_weighs_the_five_layers():
    torch.manual_seed(0)
    vgg = VGG19Features()
    fake, real = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    expected = sum(
        w * (f - r).abs().mean()
        for w, f, r in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), vgg(fake), vgg(real), strict=True)
    )
    assert vgg_loss(vgg, fake, real).item() == pytest.approx(expected.item(), rel=1e-5)


def test_learning_rate_is_flat_then_falls_to_one_part_in_niter_decay():
    options = config(epochs=3, epochs_decay=4, learning_rate=1.0)
    assert [options.learning_rate_in(e) for e in range(1, 8)] == pytest.approx([1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert config(epochs=2, epochs_decay=0, learning_rate=1.0).learning_rate_in(2) == 1


def test_fixed_phase_freezes_the_global_part_and_thaws_it(dataset):
    """The reference never thaws it (SEED_FACTS 0.1)."""
    architecture = tiny.architecture(netG="local")
    trainer = trainer_for(architecture, config(stage="local", epochs=3, epochs_decay=2, epochs_fix_global=1))
    batch = collate([PairDataset(dataset, tiny.dataset(dataset), (32, 64), False, 0, None)[0]])

    def moved_by_epoch(epoch):
        before = {key: value.clone() for key, value in trainer.networks.G.state_dict().items()}
        trainer.start_epoch(epoch)
        trainer.step(batch)
        after = trainer.networks.G.state_dict()
        return {
            key.split(".")[0] for key in before if key.endswith("weight") and not torch.equal(before[key], after[key])
        }

    assert moved_by_epoch(1) == {"model1_1", "model1_2"}
    assert all(p.grad is None for name, p in trainer.networks.G.named_parameters() if name.startswith("model."))
    assert moved_by_epoch(2) == {"model", "model1_1", "model1_2"}
    trainer.start_epoch(5)
    assert trainer.optimizer_G.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_flip_mirrors_every_map_alike_and_depends_on_seed_epoch_and_index_only(dataset):
    manifest = tiny.dataset(dataset)
    plain = PairDataset(dataset, manifest, (32, 64), False, 5, None)
    flipping = PairDataset(dataset, manifest, (32, 64), True, 5, None)
    flips = []
    for epoch in (1, 2, 3, 4):
        flipping.epoch = epoch
        for i in range(len(plain)):
            a, b = plain[i], flipping[i]
            mirrored = all(np.array_equal(a[name][..., ::-1], b[name]) for name in a)
            assert mirrored or all(np.array_equal(a[name], b[name]) for name in a)
            flips.append(mirrored)
            assert np.array_equal(flipping[i]["photos"], b["photos"])
    assert 0 < sum(flips) < len(flips)


@pytest.mark.parametrize("workers", [0, 2])
def test_order_of_an_epoch_depends_on_seed_and_epoch_only(dataset, workers):
    pairs = PairDataset(dataset, tiny.dataset(dataset), (32, 64), True, 5, None)
    loader = EpochLoader(pairs, 2, workers, pin_memory=False)
    first = [batch.photos for batch in loader.epoch(3)]
    list(loader.epoch(4))
    again = [batch.photos for batch in EpochLoader(pairs, 2, 0, pin_memory=False).epoch(3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_model_folder_is_complete_and_describes_itself(dataset, global_model):
    card = ModelCard.read(global_model)
    assert (card.epoch, card.images_seen, card.height, card.width) == (2, 8, 32, 64)
    assert card.architecture.feat_num == 3 and card.metrics["G_GAN_Feat"] > 0
    for name in "GDE":
        state = load_tensors(global_model / f"latest_net_{name}.pth")
        assert all(tensor.device.type == "cpu" for tensor in state.values())
    assert read_photo(global_model / "samples" / "epoch_0002.png").shape == (4 * 32, 3 * 64, 3)


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


def test_the_same_command_on_a_finished_run_changes_nothing(dataset, global_model, capsys):
    before = ModelCard.read(global_model)
    run(dataset, global_model, config=config(instance_features=True))
    assert "already trained for 2 epochs" in capsys.readouterr().out
    assert ModelCard.read(global_model) == before


def test_local_stage_starts_from_global_weights_and_keeps_the_encoder(dataset, global_model, tmp_path, capsys):
    run(dataset, tmp_path, init_from=global_model, config=config(stage="local", ngf=2, num_D=3, instance_features=True))
    out = capsys.readouterr().out
    assert "latest_net_G.pth: 14 of 26 tensors taken" in out and "new: scale2_layer0.0" in out
    card = ModelCard.read(tmp_path)
    assert card.architecture.netG == "local" and card.parent_digest == ModelCard.read(global_model).digest


def test_global_stage_may_start_from_another_generator_and_says_what_fitted(dataset, global_model, tmp_path, capsys):
    run(dataset, tmp_path, init_from=global_model, config=config(instance_features=True, n_blocks_global=2))
    # Ten convolutions of two tensors; stem, two down-samplings and the first block of two stand where they stood.
    assert "latest_net_G.pth: 10 of 20 tensors taken" in capsys.readouterr().out


def cluster_table(folder, global_model, **changes):
    card = ModelCard.read(global_model)
    values = dict(feat_num=3, n_clusters=1, min_area=0, seed=0, labels={}, overall=[0, 0, 0])
    digests = dict(model_digest=card.digest, dataset_digest=card.dataset_digest)
    ClusterTable(**values | digests | changes).write(folder)
    return folder


def test_features_of_the_cluster_step_reach_the_pixels_of_their_instance(dataset, global_model, tmp_path):
    manifest = tiny.dataset(dataset)
    cluster_table(tmp_path, global_model)
    plain = PairDataset(dataset, manifest, (32, 64), False, 0, None)
    names, start, ids, features = [], [0], [], []
    for i, pair in enumerate(manifest.train):
        distinct = np.unique(plain[i]["instances"])
        names.append(pair.name)
        ids.append(distinct)
        features.append(np.stack([distinct, distinct * 2.0, np.full(len(distinct), i)], 1))
        start.append(start[-1] + len(distinct))
    np.savez(
        tmp_path / "features.npz", names=names, start=start, ids=np.concatenate(ids), features=np.concatenate(features)
    )
    pairs = PairDataset(dataset, manifest, (32, 64), False, 0, read_features(tmp_path, manifest))
    items = [pairs[i] for i in range(3)]
    batch = collate(items)
    for n in range(3):
        painted = batch.features[n][:, batch.dense_ids[n].long()]
        assert torch.equal(painted[0], batch.instances[n].double())
        assert torch.equal(painted[1], batch.instances[n].double() * 2)
        assert (painted[2] == n).all()


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(size="30x64"), "--size: height 30 is not a multiple of 4"),
        (dict(size="big"), "--size 'big' is not HEIGHTxWIDTH"),
        (dict(stage="local"), "--stage local starts from a global model: give its folder with --init-from"),
        (dict(lambda_vgg=10), "--lambda-vgg is 10 but --vgg-weights '' is no file"),
        (dict(epochs=0), "--epochs 0: should be greater than or equal to 1"),
        (dict(precision="tf32"), "--precision tf32 is an NVIDIA GPU mode"),
        (dict(device="npu"), "--device npu: torch_npu is not installed"),
        (dict(wat=1), "train has no option --wat"),
    ],
)
def test_refusals(dataset, tmp_path, options, sentence):
    with pytest.raises(InputError) as refusal:
        run(dataset, tmp_path / "model", config=config(**options))
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "model").exists()


def test_refusals_of_folders_that_do_not_belong_together(dataset, global_model, tmp_path):
    local = dict(stage="local", instance_features=True)
    for options, folders, sentence in (
        (local | dict(ngf=4), dict(init_from=global_model), "needs half the --ngf of its global model"),
        (local | dict(ngf=2), dict(init_from=tmp_path), "holds no model.json"),
        (
            local | dict(ngf=2),
            dict(init_from=global_model, clusters=cluster_table(tmp_path / "a", global_model, model_digest="x")),
            "was not made from --init-from",
        ),
        (
            local | dict(ngf=2),
            dict(init_from=global_model, clusters=cluster_table(tmp_path / "b", global_model, dataset_digest="x")),
            "was made from another data set",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            run(dataset, tmp_path / "model", config=config(**options), **folders)
    with pytest.raises(InputError, match="holds a training with ngf 4, but 8 is asked for"):
        run(dataset, global_model, config=config(instance_features=True, ngf=8))


def test_losses_that_are_not_finite_stop_the_run_and_keep_the_checkpoint(dataset, tmp_path):
    run(dataset, tmp_path, config=config())
    path = tmp_path / "state" / "training.pt"
    state = load_tensors(path)
    state["D"]["scale0_layer0.0.weight"][:] = float("nan")
    save_tensors(path, state)
    digest = ModelCard.read(tmp_path).digest
    with pytest.raises(FloatingPointError, match="no longer finite in epoch 3"):
        run(dataset, tmp_path, config=config(epochs=2))
    assert ModelCard.read(tmp_path).digest == digest


def test_bf16_step_stays_near_fp32(dataset):
    architecture = tiny.architecture()
    batch = collate([PairDataset(dataset, tiny.dataset(dataset), (32, 64), False, 0, None)[0]])
    losses = {}
    for precision in ("fp32", "bf16"):
        trainer = trainer_for(architecture, config())
        trainer.runtime = pick("cpu", precision)
        losses[precision] = trainer.step(batch)
        assert all(p.dtype == torch.float32 for p in trainer.networks.G.parameters())
    for name, loss in losses["fp32"].items():
        assert losses["bf16"][name].item() == pytest.approx(loss.item(), rel=0.03)


def test_config_on_disk_is_the_config_that_ran(global_model):
    stored = json.loads((global_model / "model.json").read_text())["config"]
    assert TrainConfig.check(stored) == config(instance_features=True)
