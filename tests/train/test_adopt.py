"""Foreign weight files become a model folder, or are refused without a card."""

import pytest
import torch
from PIL import Image

from components.export.__main__ import main as export
from components.train.__main__ import main
from components.train.networks.discriminators import build_discriminator
from shared.contracts.model import ModelCard
from shared.data.images import write_picture
from shared.networks.build import build_generator
from shared.networks.checkpoint import load_encoder, save_weights
from shared.networks.chosen import weights_path
from tests import tiny
from tests.asking import as_flags, refusal_of_command
from tests.prepare.files import noise
from tests.published import (
    WITH_FEATURES,
    junyanz_discriminator,
    junyanz_unet,
    nvidia_discriminator,
    nvidia_encoder,
    nvidia_global,
    with_values,
)
from tests.tiny import one_thread  # noqa: F401 - a fixture


def put(folder, **states):
    """Weight files of random values, by network."""
    for name, state in states.items():
        torch.save(with_values(state), weights_path(folder, name))


def test_adopting_foreign_files_makes_a_model_folder(tmp_path, capsys):
    """Channels 36 = 35 labels and an edge; a second time it is refused."""
    architecture = tiny.architecture(ngf=4)
    networks = {"G": build_generator(architecture), "D": build_discriminator(architecture)}
    save_weights(tmp_path, networks)
    main(["adopt", "--model", str(tmp_path), "--size", "64x128"])
    card = ModelCard.read(tmp_path)
    assert (card.height, card.width) == (64, 128)
    assert (card.architecture.num_labels, card.architecture.use_instances) == (35, True)

    sentence = refusal_of_command(capsys, main, "adopt", "--model", tmp_path)
    assert sentence == f"--model {tmp_path} has a model.json already: remove it first."


def test_a_place_without_weights_is_not_asked_for_the_card_that_is_to_be_written(tmp_path, capsys):
    for place in (tmp_path, tmp_path / "nowhere"):
        sentence = refusal_of_command(capsys, main, "adopt", "--model", place)
        found = f"--model {place} holds no model.json and no latest_net_G.pth: "
        assert sentence == f"{found}give the folder of a trained model."


def test_grey_weights_of_pix2pix_are_adopted_and_painted_with(tmp_path):
    """Under its names and shapes; what is painted is a grey PNG, from the model and its file."""
    (tmp_path / "model").mkdir()
    G = junyanz_unet(7, ngf=2, picture=1, photo=1)
    put(tmp_path / "model", G=G, D=junyanz_discriminator(1 + 1))
    main(["adopt", *as_flags(model=tmp_path / "model", size="128x128")])
    a = ModelCard.read(tmp_path / "model").architecture
    assert (a.netG, a.input_nc, a.output_nc, a.netD) == ("unet_128", 1, 1, "n_layers")

    write_picture(tmp_path / "in.png", noise(0, 1, 128, 128))
    places = dict(model=tmp_path / "model", exported=tmp_path / "exported")
    export(as_flags(**places, parity_samples=1))
    for source, place in places.items():
        flags = {source: place} | dict(image=tmp_path / "in.png", out=tmp_path / source)
        export(["synthesise", *as_flags(**flags, device="cpu")])
    painted = [Image.open(tmp_path / source / "in.png") for source in places]
    assert [(one.mode, one.size) for one in painted] == [("L", (128, 128))] * 2
    levels = [one.getextrema() for one in painted]
    assert levels[0] == levels[1] and levels[0][0] < levels[0][1]


def test_grey_weights_of_pix2pixHD_are_adopted_with_their_encoder(tmp_path):
    G, D = nvidia_global(39, ngf=2, photo=1), nvidia_discriminator(WITH_FEATURES, 35 + 1 + 1)
    put(tmp_path, G=G, D=D, E=nvidia_encoder(photo=1))
    main(["adopt", "--model", str(tmp_path)])
    card = ModelCard.read(tmp_path)
    a = card.architecture
    assert (a.netG, a.feat_num, a.output_nc) == ("global", 3, 1)
    assert load_encoder(tmp_path, card)(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)


GREY_UNET = junyanz_unet(7, ngf=2, photo=1)


@pytest.mark.parametrize(
    ("states", "sentence"),
    [
        (
            dict(G=junyanz_unet(7, ngf=2, photo=2)),
            "latest_net_G.pth makes pictures of 2 channels, but photos have 1 or 3",
        ),
        (
            dict(G=GREY_UNET, D=junyanz_discriminator(3 + 3)),
            "latest_net_D.pth: model.0.weight is (64, 6, 4, 4) but (64, 4, 4, 4) is wanted",
        ),
        (
            dict(G=nvidia_global(39, ngf=2, photo=1), E=nvidia_encoder()),
            "latest_net_E.pth: model.1.weight is (16, 3, 7, 7) but (16, 1, 7, 7) is wanted",
        ),
        (
            dict(G={key.replace(".2.", ".12."): one for key, one in GREY_UNET.items()}),
            "latest_net_G.pth lacks tensor model.model.1.model.2.bias",
        ),
    ],
)
def test_what_no_step_can_load_gets_no_card(tmp_path, capsys, states, sentence):
    put(tmp_path, **states)
    assert sentence in refusal_of_command(capsys, main, "adopt", "--model", tmp_path)
    assert not (tmp_path / "model.json").exists()
