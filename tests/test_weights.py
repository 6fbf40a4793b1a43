"""Weight files in every step that loads them: the references' alone in a folder, and broken ones,
each step called as by a user."""

import pytest
import torch

from components.benchmark.__main__ import main as benchmark
from components.cluster.__main__ import main as cluster
from components.export.__main__ import main as export
from components.train.__main__ import main as train
from components.train.networks.discriminators import build_discriminator
from shared.contracts.exported import Graph
from shared.contracts.model import ModelCard
from shared.networks.build import build_encoder, build_generator
from shared.networks.checkpoint import save_weights
from shared.networks.chosen import weights_path
from tests import tiny
from tests.asking import as_flags, refusal_of_command
from tests.tiny import one_thread  # noqa: F401 - a fixture

BUILD = dict(G=build_generator, D=build_discriminator, E=build_encoder)
PICTURES = dict(num_labels=0, input_nc=7)
PIX2PIX = dict(PICTURES, use_instances=False, netG="unet_128", norm="batch", netD="n_layers")


def weights_alone(folder, a, networks="G"):
    """A folder as the references leave it."""
    torch.manual_seed(0)
    save_weights(folder, {name: BUILD[name](a) for name in networks})
    return folder


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Of maps of 35 labels, and of pictures of 7 channels."""
    root = tmp_path_factory.mktemp("datasets")
    tiny.dataset(root / "maps", train=2, test=1)
    tiny.dataset(root / "pictures", train=2, test=1, input_nc=7)
    return root


def training(dataset, model, **options):
    names = ("ndf", "n_layers_D", "nef", "n_downsample_E")
    given = {name: tiny.SMALL[name] for name in names} | dict(lambda_vgg=0, workers=0, size="32x64")
    given |= dict(dataset=dataset, model=model, epochs=1, epochs_decay=0, device="cpu")
    return as_flags(**given | options)


def calls(dataset, model, out):
    """A command line of each step that loads a model, and the network that it needs of it."""
    here = dict(dataset=dataset, device="cpu")
    tiny.export_card(out / "exported", tiny.architecture(feat_num=3), Graph())
    common = dict(dataset=dataset, model=model, exported=out / "exported")
    return {
        "cluster": (cluster, as_flags(**here, model=model, clusters=out / "clusters"), "E"),
        "export": (export, as_flags(**common), "G"),
        "synthesise": (
            export,
            ["synthesise", *as_flags(**here, model=model, out=out / "pictures")],
            "G",
        ),
        "benchmark": (benchmark, as_flags(**common, device="cpu", report=out / "report"), "G"),
        "adopt": (train, ["adopt", *as_flags(model=model)], "D"),
        "start": (train, training(dataset, out / "model", start_from=model), "D"),
        "init": (train, training(dataset, out / "model", init_from=model), "E"),
    }


STEPS = ("cluster", "export", "synthesise", "benchmark", "adopt", "start", "init")


@pytest.mark.parametrize("step", STEPS)
def test_every_step_names_broken_weights(step, datasets, tmp_path, capsys):
    model = weights_alone(tmp_path / "weights", tiny.architecture(feat_num=3), "GDE")
    main, argv, network = calls(datasets / "maps", model, tmp_path)[step]
    path = weights_path(model, network)

    state = torch.load(path)
    key = next(iter(state))
    state[key].view(-1)[:2] = torch.tensor([float("nan"), float("inf")])
    torch.save(state, path)
    assert refusal_of_command(capsys, main, *argv).startswith(
        f"{path} cannot be used, as 2 of {state[key].numel()} values of {key} are not finite: "
    )

    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 730000000\n")
    sentence = refusal_of_command(capsys, main, *argv)
    assert sentence.startswith(f"{path} is a Git LFS pointer to a file of 730 MB: say `git lfs")
    written = [
        out for out in ("clusters", "pictures", "report", "model") if (tmp_path / out).exists()
    ]
    assert not written and not (model / ModelCard.FILE).exists()


@pytest.mark.parametrize(
    "kind, networks, data",
    [
        (dict(), "G", "maps"),
        (dict(use_instances=False), "GD", "maps"),
        (dict(PICTURES, use_instances=False), "G", "pictures"),
        (PICTURES, "GD", "pictures"),
        (PIX2PIX, "G", "pictures"),
    ],
)
def test_weights_alone_paint_the_pictures_of_a_model_with_a_card(
    kind, networks, data, datasets, tmp_path, capsys
):
    a, dataset = tiny.architecture(**kind), datasets / data
    alone = weights_alone(tmp_path / "alone", a, networks)
    tiny.model(tmp_path / "model", a, one_size=False)
    weights_path(alone, "G").write_bytes(weights_path(tmp_path / "model", "G").read_bytes())
    for model in ("alone", "model"):
        flags = dict(model=tmp_path / model, dataset=dataset, out=tmp_path / f"of_{model}")
        export(["synthesise", *as_flags(**flags, device="cpu")])
    said = f"input_nc {a.input_nc}, use_instances {a.use_instances}, feat_num 0"
    assert capsys.readouterr().out.count(said) == 1
    found, wanted = (tmp_path / f"of_{model}" / "test_0.png" for model in ("alone", "model"))
    assert found.read_bytes() == wanted.read_bytes()


def test_weights_with_an_encoder_alone_are_clustered_and_painted_with(datasets, tmp_path):
    """Without edges: the data set has instance maps, which tell nothing of the network."""
    a = tiny.architecture(feat_num=3, use_instances=False)
    model, dataset = weights_alone(tmp_path / "weights", a, "GE"), datasets / "maps"
    common = dict(dataset=dataset, model=model, clusters=tmp_path / "clusters", device="cpu")
    cluster(as_flags(**common))
    export(["synthesise", *as_flags(**common, out=tmp_path / "pictures")])
    assert (tmp_path / "pictures" / "test_0.png").is_file()


@pytest.mark.parametrize("flag", ["--start-from", "--init-from"])
def test_training_starts_from_weights_alone_and_says_once_what_they_are(
    flag, datasets, tmp_path, capsys
):
    a = tiny.architecture(**PICTURES | dict(use_instances=False))
    start = weights_alone(tmp_path / "weights", a)
    train([*training(datasets / "pictures", tmp_path / "model"), flag, str(start)])
    out = capsys.readouterr().out
    assert (
        out.count("has no model.json") == 1 and "--model" not in out.partition("no model.json")[0]
    )
    assert f"{flag} {start} has no model.json; by its tensors it has netG global, ngf 4" in out
    assert ModelCard.read(tmp_path / "model").architecture.input_nc == 7


def test_what_seven_channels_stand_for_is_asked_for_in_words_of_the_step(
    datasets, tmp_path, capsys
):
    seven = tiny.architecture(num_labels=7, use_instances=False)
    model, dataset = weights_alone(tmp_path / "weights", seven), datasets / "maps"
    what = "has no model.json, and what the 7 input channels of its generator stand for does not"
    files = as_flags(labels=dataset / "test_label", out=tmp_path / "out", model=model)
    sentence = refusal_of_command(capsys, export, "synthesise", *files)
    assert sentence.startswith(f"--model {model} {what} follow: say --num-labels (0 for pictures)")
    assert sentence.endswith("adopt`, or give the --dataset that it was trained on.")

    for flag in ("--start-from", "--init-from"):
        argv = [*training(dataset, tmp_path / "model"), flag, model]
        assert refusal_of_command(capsys, train, *argv).startswith(f"{flag} {model} {what} follow")


def test_training_asks_for_the_latest_weights_by_name(datasets, tmp_path, capsys):
    start = weights_alone(tmp_path / "weights", tiny.architecture())
    weights_path(start, "G").rename(weights_path(start, "G", "200"))
    for flag in ("--start-from", "--init-from"):
        argv = [*training(datasets / "maps", tmp_path / "model"), flag, start]
        assert refusal_of_command(capsys, train, *argv) == (
            f"{flag} {start} holds 200_net_G.pth but no latest_net_G.pth, from which a training "
            "starts: copy its files under this name to a folder of their own."
        )
