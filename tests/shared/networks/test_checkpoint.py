"""Weight files of NVIDIA's pix2pixHD and junyanz' pix2pix: what they hold, how they are read, what
is refused."""

import re

import pytest
import torch

from components.train.networks.discriminators import build_discriminator
from components.train.networks.partial import load_what_fits
from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.networks.build import build_encoder, build_generator
from shared.networks.checkpoint import (
    load_generator,
    load_strictly,
    read_model,
    save_tensors,
    save_weights,
)
from shared.networks.chosen import digest_of, weights_path
from shared.networks.foreign import in_layout_of, infer_architecture, normalise
from tests import tiny
from tests.asking import refusal
from tests.published import (
    WITH_FEATURES,
    WITHOUT_FEATURES,
    junyanz_discriminator,
    junyanz_pixel_discriminator,
    junyanz_resnet,
    junyanz_unet,
    nvidia_discriminator,
    nvidia_encoder,
    nvidia_global,
    nvidia_local,
)


def infer(states, **known):
    return infer_architecture("model", states, **known)


def on_meta(build, architecture):
    with torch.device("meta"):
        return build(architecture)


def shapes(state):
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def parameters(state):
    return sum(
        tensor.numel()
        for key, tensor in state.items()
        if "running" not in key and "num_batches" not in key
    )


NVIDIA_G = [(nvidia_global(), "global", 182_546_755), (nvidia_global(39), "global", 182_556_163)]
NVIDIA_G += [(nvidia_global(3), "global", 182_443_267), (nvidia_local(), "local", 182_857_059)]
# The known 11.378 million are with InstanceNorm and biases; BatchNorm has a factor beside each of
# 5248 shifts.
JUNYANZ_G = [
    (junyanz_unet(), "unet_256", 54_414_000),
    (junyanz_resnet(), "resnet_9blocks", 11_378_179 + 5248),
]


@pytest.mark.parametrize("state, netG, count", NVIDIA_G + JUNYANZ_G)
def test_published_generators_are_known_by_their_tensors(state, netG, count):
    assert parameters(state) == pytest.approx(count, abs=0 if netG in ("global", "local") else 1000)
    found = infer({"G": state})
    assert found.netG == netG and found.norm == (
        "instance" if netG in ("global", "local") else "batch"
    )
    assert shapes(on_meta(build_generator, found).state_dict()) == shapes(state)


def test_published_discriminators_and_encoder_are_known_by_their_tensors():
    for keys, D_features in ((WITH_FEATURES, True), (WITHOUT_FEATURES, False)):
        D = nvidia_discriminator(keys)
        found = infer({"G": nvidia_global(), "D": D})
        assert parameters(D) == 5_603_202
        assert (found.netD, found.num_D, found.n_layers_D, found.ndf) == ("multiscale", 2, 3, 64)
        assert found.D_features is D_features
        assert shapes(on_meta(build_discriminator, found).state_dict()) == shapes(D)
    for D, netD in (
        (junyanz_discriminator(), "n_layers"),
        (junyanz_pixel_discriminator(), "pixel"),
    ):
        found = infer({"G": junyanz_unet(), "D": D})
        assert found.netD == netD and (netD == "pixel" or parameters(D) == 2_768_705)
        assert shapes(on_meta(build_discriminator, found).state_dict()) == shapes(D)
    found = infer({"G": nvidia_global(39), "E": nvidia_encoder()})
    assert parameters(nvidia_encoder()) == 788_803 and (
        found.nef,
        found.n_downsample_E,
        found.feat_num,
    ) == (16, 4, 3)
    assert shapes(on_meta(build_encoder, found).state_dict()) == shapes(nvidia_encoder())


GREY_G = [nvidia_global(photo=1), nvidia_local(photo=1), junyanz_unet(7, picture=1, photo=1)]
GREY_G += [junyanz_unet(photo=1), junyanz_resnet(6, picture=1, photo=1), junyanz_resnet(photo=1)]


@pytest.mark.parametrize("state", GREY_G)
def test_grey_generators_are_known_by_their_tensors(state):
    found = infer({"G": state})
    assert found.output_nc == 1
    assert shapes(on_meta(build_generator, found).state_dict()) == shapes(state)


def test_discriminators_and_encoder_of_grey_photos_are_known_by_their_tensors():
    """D sees 35 labels, an edge and one channel of photo, and G three features beside."""
    D, E = nvidia_discriminator(WITH_FEATURES, 35 + 1 + 1), nvidia_encoder(photo=1)
    found = infer({"G": nvidia_global(39, photo=1), "D": D, "E": E})
    assert (found.num_labels, found.use_instances, found.feat_num) == (35, True, 3)
    assert shapes(on_meta(build_discriminator, found).state_dict()) == shapes(D)
    assert shapes(on_meta(build_encoder, found).state_dict()) == shapes(E)
    D = junyanz_discriminator(1 + 1)
    found = infer({"G": junyanz_unet(picture=1, photo=1), "D": D})
    assert shapes(on_meta(build_discriminator, found).state_dict()) == shapes(D)


def test_batch_norm_and_blocks_without_dropout_are_told_apart():
    assert infer({"G": junyanz_resnet()}).dropout
    for state, netG in (
        (junyanz_resnet(6, dropout=False), "resnet_6blocks"),
        (junyanz_unet(7), "unet_128"),
    ):
        found = infer({"G": state})
        assert found.netG == netG and not found.dropout


# --- Our own networks, all kinds

PIX2PIX = dict(
    num_labels=0, input_nc=3, use_instances=False, n_blocks_local=3, netD="n_layers", num_D=1
)
KINDS = [
    dict(feat_num=3),
    dict(num_labels=0, input_nc=3, use_instances=False, norm="batch", n_blocks_global=9),
    dict(netG="local", num_D=3, D_features=False),
    dict(
        netG="local", n_local_enhancers=2, n_blocks_local=2, norm="batch", feat_num=5, n_layers_D=3
    ),
    dict(output_nc=1, feat_num=4),
    dict(n_blocks_global=9, netD="multiscale"),  # 2 down-samplings as in pix2pix: D tells
    PIX2PIX | dict(netG="unet_128", n_downsample_global=7, n_blocks_global=0, norm="batch"),
    PIX2PIX
    | dict(netG="unet_256", n_downsample_global=8, n_blocks_global=0, input_nc=1)
    | dict(netD="pixel", n_layers_D=3),
    PIX2PIX | dict(netG="resnet_6blocks", n_blocks_global=6, norm="batch", dropout=True),
    PIX2PIX | dict(netG="resnet_9blocks", n_blocks_global=9, dropout=True, n_layers_D=4),
    PIX2PIX | dict(netG="resnet_9blocks", n_blocks_global=9, output_nc=1),
]


@pytest.mark.parametrize("kind", KINDS)
def test_architecture_of_our_own_files(kind):
    wanted = tiny.architecture(n_blocks_local=3).model_copy(update=kind)
    states = {
        "G": on_meta(build_generator, wanted).state_dict(),
        "D": on_meta(build_discriminator, wanted).state_dict(),
    }
    if wanted.feat_num:
        states["E"] = on_meta(build_encoder, wanted).state_dict()
    found = infer(states)
    not_there = dict(n_blocks_local=3) if wanted.netG != "local" else {}
    not_there |= dict(nef=16, n_downsample_E=4) if not wanted.feat_num else {}
    assert found == wanted.model_copy(update=not_there)


@pytest.mark.parametrize(
    "channels, known, wanted",
    [
        (35, {}, (35, 0, False, 0)),
        (36, {}, (35, 0, True, 0)),
        (39, {}, (35, 0, True, 3)),
        (3, {}, (0, 3, False, 0)),
        (4, {}, (0, 3, True, 0)),
        (7, dict(feat_num=3), (0, 3, True, 3)),
        (7, dict(num_labels=7, input_nc=0), (7, 0, False, 0)),
        (7, dict(num_labels=0, input_nc=7), (0, 7, False, 0)),
        (8, dict(num_labels=0, input_nc=7), (0, 7, True, 0)),
        (11, dict(num_labels=0, input_nc=7), (0, 7, True, 3)),
        (20, dict(num_labels=19), (19, 0, True, 0)),
        (36, dict(num_labels=32), (32, 0, True, 3)),
        (36, dict(num_labels=35, use_instances=False, feat_num=1), (35, 0, False, 1)),
        (4, dict(num_labels=0, use_instances=False, feat_num=0), (0, 4, False, 0)),
    ],
)
def test_what_input_channels_stand_for(channels, known, wanted):
    a = infer({"G": nvidia_global(channels)}, **known)
    assert (a.num_labels, a.input_nc, a.use_instances, a.feat_num) == wanted


def test_discriminator_tells_how_many_channels_are_features():
    D = nvidia_discriminator(WITH_FEATURES, channels=35 + 1 + 3)
    assert infer({"G": nvidia_global(41), "D": D}).feat_num == 5
    D = nvidia_discriminator(WITH_FEATURES, 38)
    assert infer({"G": nvidia_global(38), "D": D}).feat_num == 3


# --- Refusals


def test_refusals_of_states():
    ask = (
        "say --num-labels (0 for pictures), --use-instances (1 channel) and --feat-num, which add "
        "up to them with the channels of a picture, to `python -m components.train adopt`."
    )
    start = (
        "--model model has no model.json, and what the {} input channels of its generator "
        "stand for does not follow"
    )
    assert refusal(infer, {"G": nvidia_global(20)}) == f"{start.format(20)}: {ask}"
    assert refusal(infer, {"G": nvidia_global(7)}) == f"{start.format(7)}: {ask}"
    text = refusal(infer, {"G": nvidia_global(36)}, num_labels=10)
    assert text == f"{start.format(36)} from num_labels 10: {ask}"
    pictures = dict(num_labels=0, use_instances=False)  # 6 channels, or 3 and 3 features
    assert "from num_labels 0, use_instances False: say" in refusal(
        infer, {"G": nvidia_global(6)}, **pictures
    )

    for photo, state in ((2, junyanz_unet(photo=2)), (4, nvidia_global(photo=4))):
        assert refusal(infer, {"G": state}) == (
            f"--model model: latest_net_G.pth makes pictures of {photo} channels, but photos have "
            "1 or 3: give weights that make grey or RGB pictures."
        )

    no_G = (
        "--model model: latest_net_G.pth is no generator of pix2pixHD (global, local) or pix2pix "
        "(unet_128, unet_256, resnet_6blocks, resnet_9blocks): give weights of one of these."
    )
    fc = {"fc.weight": torch.zeros(2, 2)}
    for state in (
        {},
        fc,
        junyanz_unet(9),
        junyanz_resnet(7),
        nvidia_discriminator(WITH_FEATURES),
        nvidia_local(),
    ):
        broken = {key: tensor for key, tensor in state.items() if not key.startswith("model1_1")}
        assert refusal(infer, {"G": broken}) == no_G
    no_D = "latest_net_D.pth is no discriminator of pix2pixHD or pix2pix: remove it."
    assert refusal(infer, {"G": nvidia_global(), "D": fc}) == f"--model model: {no_D}"
    no_E = "latest_net_E.pth is no encoder of pix2pixHD: remove it."
    assert refusal(infer, {"G": nvidia_global(), "E": fc}) == f"--model model: {no_E}"


def test_encoder_of_the_first_release_is_refused_with_the_reason(tmp_path):
    old = nvidia_encoder(last="model.28")
    text = (
        "latest_net_E.pth is an encoder of pix2pixHD's first release, whose last convolution "
        "(model.28) has no padding"
    )
    assert refusal(infer, {"G": nvidia_global(39), "E": old}).startswith(f"model/{text}")
    save_tensors(
        weights_path(tmp_path, "E"), {key: torch.zeros(tensor.shape) for key, tensor in old.items()}
    )
    a = tiny.architecture(feat_num=3, nef=16, n_downsample_E=4)
    for load in (load_strictly, load_what_fits):
        with pytest.raises(InputError, match=re.escape(text)):
            load(build_encoder(a), weights_path(tmp_path, "E"))


# --- Reading and writing


@pytest.mark.parametrize(
    "wrapper", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."]
)
def test_names_of_wrappers_are_taken_off(wrapper, tmp_path):
    a = tiny.architecture()
    G, other = build_generator(a), build_generator(a)
    save_tensors(
        weights_path(tmp_path, "G"),
        {wrapper + key: tensor for key, tensor in G.state_dict().items()},
    )
    assert read_model(tmp_path, (32, 64)).architecture.ngf == a.ngf
    load_strictly(other, weights_path(tmp_path, "G"))
    for key, tensor in other.state_dict().items():
        assert torch.equal(tensor, G.state_dict()[key])


def test_wrapped_networks_are_saved_under_their_own_names(tmp_path):
    G = build_generator(tiny.architecture())
    files = save_weights(tmp_path / "plain", {"G": G})
    assert save_weights(tmp_path / "wrapped", {"G": torch.nn.DataParallel(G)}) == files
    saved = torch.load(weights_path(tmp_path / "wrapped", "G"), weights_only=True)
    assert list(saved) == list(G.state_dict())


def test_statistics_of_instance_norm_are_dropped_and_those_of_batch_norm_kept(tmp_path, capsys):
    a = tiny.architecture(**{**PIX2PIX, "netG": "resnet_6blocks"})
    G = build_generator(a)
    old = {}
    for name, module in G.named_modules():
        if isinstance(module, torch.nn.InstanceNorm2d):
            channels = module.num_features
            statistics = dict(running_mean=torch.rand(channels), running_var=torch.rand(channels))
            old |= {f"{name}.{key}": value for key, value in statistics.items()}
            old[f"{name}.num_batches_tracked"] = torch.tensor(7)
    assert len(old) == 3 * (1 + 2 + 6 * 2 + 2)
    save_tensors(weights_path(tmp_path, "G"), G.state_dict() | old)
    other = build_generator(a)
    load_strictly(other, weights_path(tmp_path, "G"))
    assert capsys.readouterr().out == (
        "latest_net_G.pth: 51 statistics of InstanceNorm dropped, which it no longer keeps\n"
    )
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(other(x), G(x)) and read_model(tmp_path).architecture.norm == "instance"
    assert "51 statistics of InstanceNorm dropped" in str(
        load_what_fits(other, weights_path(tmp_path, "G"))
    )

    batch = build_generator(a.model_copy(update=dict(norm="batch"))).state_dict()
    assert normalise(batch).keys() == batch.keys()


def test_batch_norm_of_before_its_batches_were_counted_loads(tmp_path):
    G = build_generator(tiny.architecture(norm="batch"))
    state = {
        key: value
        for key, value in G.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    save_tensors(weights_path(tmp_path, "G"), state)
    card, loaded = load_generator(tmp_path)
    assert card.architecture.norm == "batch" and loaded.state_dict().keys() == G.state_dict().keys()


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("of_features", [True, False])
def test_either_layout_of_D_loads_into_either_network(norm, of_features, tmp_path, capsys):
    a = tiny.architecture(norm=norm, n_layers_D=3)
    D = build_discriminator(a.model_copy(update=dict(D_features=of_features))).eval()
    other = build_discriminator(a.model_copy(update=dict(D_features=not of_features))).eval()
    path = weights_path(tmp_path, "D")
    save_tensors(path, D.state_dict())
    report = load_what_fits(other, path)
    assert not report.new and not report.left and len(report.taken) == len(D.state_dict())
    names = ("layer0.0.bias", "scale0_layer0.0.bias")[:: -1 if of_features else 1]
    assert str(report).endswith(f"{names[0]} and all others renamed, such as {names[1]}")
    x = torch.randn(2, 39, 32, 64)
    for maps, other_maps in zip(D(x), other(x), strict=True):
        assert torch.equal(maps[-1], other_maps[-1])
    assert in_layout_of(D.state_dict(), other.state_dict()).keys() == D.state_dict().keys()

    again = build_discriminator(a.model_copy(update=dict(D_features=not of_features)))
    load_strictly(again, path)
    assert f"latest_net_D.pth: {names[0]} and all others renamed" in capsys.readouterr().out
    assert all(
        torch.equal(tensor, again.state_dict()[key]) for key, tensor in other.state_dict().items()
    )


@pytest.mark.parametrize(
    "kind, size",
    [
        (dict(), (512, 1024)),
        (dict(netG="local", n_local_enhancers=2, feat_num=3), (1024, 2048)),
        (PIX2PIX | dict(netG="resnet_6blocks", norm="batch", dropout=True), (256, 256)),
        (PIX2PIX | dict(netG="unet_128"), (256, 256)),
    ],
)
def test_folder_with_weights_alone_works_as_with_its_card(kind, size, tmp_path, capsys):
    a = tiny.architecture(**kind)
    with_card, alone = tmp_path / "with_card", tmp_path / "alone"
    digest = digest_of(save_weights(with_card, {"G": build_generator(a)}))
    assert digest_of(save_weights(alone, {"G": build_generator(a)})) != digest  # other weights
    weights_path(alone, "G").write_bytes(weights_path(with_card, "G").read_bytes())
    common = dict(images_seen=0, dataset_digest="", parent_digest="", config={}, metrics={})
    common["one_size"] = True
    ModelCard(architecture=a, height=32, width=64, epoch=1, digest=digest, **common).write(
        with_card
    )

    card, generator = load_generator(with_card)
    assert (card.height, card.epoch) == (32, 1) and capsys.readouterr().out == ""
    inferred, other = load_generator(alone)
    assert (inferred.height, inferred.width) == size
    assert (inferred.epoch, inferred.digest) == (0, digest)
    assert not other.training and not any(p.requires_grad for p in other.parameters())
    x = torch.randn(1, a.condition_channels + a.feat_num, 32, 64)
    assert torch.equal(generator(x), other(x))

    said = capsys.readouterr().out
    assert said.startswith(
        f"--model {alone} has no model.json; by its tensors it has netG {a.netG}, ngf 4, norm "
        f"{a.norm}"
    )
    assert said.endswith(f"; it is taken to be for {size[0]}x{size[1]}\n") and said.count("\n") == 1
    assert ("dropout of a U-Net leaves no trace" in said) == a.netG.startswith("unet")
    assert (read_model(alone, (40, 56)).height, read_model(alone, (40, 56)).width) == (40, 56)
    ModelCard.model_validate_json(inferred.model_dump_json())  # may be written as model.json
