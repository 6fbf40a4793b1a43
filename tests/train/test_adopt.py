"""Foreign weight files become a model folder."""

from components.train.__main__ import main
from components.train.networks.discriminators import build_discriminator
from shared.contracts.model import ModelCard
from shared.networks.build import build_generator
from shared.networks.checkpoint import save_weights
from tests import tiny
from tests.asking import refusal_of_command


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
