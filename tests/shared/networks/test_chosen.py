"""Which weights are read, in every step by its command line; files that are not those that were
written."""

import hashlib
import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch

from components.benchmark.__main__ import main as benchmark
from components.cluster.__main__ import main as cluster
from components.export.__main__ import main as export
from components.train.__main__ import main as train
from components.train.networks.discriminators import build_discriminator
from components.train.networks.init import initialise
from components.train.networks.start import begin_at_parent
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard
from shared.contracts.folder import SEAL
from shared.contracts.measured import BenchmarkReport
from shared.contracts.model import ModelCard, SavedWeights
from shared.data.images import read_ids, read_picture
from shared.networks.build import build_encoder, build_generator
from shared.networks.checkpoint import load_encoder, load_generator, read_model
from tests import tiny
from tests.asking import as_flags, refusal, refusal_of_command
from tests.tiny import one_thread  # noqa: F401 - a fixture

A = tiny.architecture(feat_num=3, use_instances=False)
EPOCHS = {"latest": 9, "best": 4, "7": 7}


def networks(seed: int) -> dict[str, torch.nn.Module]:
    torch.manual_seed(seed)
    made = dict(G=build_generator(A), D=build_discriminator(A), E=build_encoder(A))
    return {name: initialise(one, "normal", 0.1, zero_bias=False) for name, one in made.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A model whose files are of three epochs, by hand, and a data set."""
    home = tmp_path_factory.mktemp("chosen")
    tiny.dataset(home / "dataset", train=2)
    (home / "model").mkdir()
    weights = {}
    for name, epoch in EPOCHS.items():
        files = {}
        for network, one in networks(epoch).items():
            path = home / "model" / f"{name}_net_{network}.pth"
            torch.save(one.state_dict(), path)
            files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        known = dict(epoch=epoch, images_seen=10 * epoch, digest=f"digest of {epoch}")
        weights[name] = SavedWeights(**known, files=files, metrics={"val/L1": epoch / 10})
    card = tiny.model(home / "other", A, one_size=False, weights=weights)
    card.model_copy(update={"weights": weights}).of("latest").write(home / "model")
    return home


def own(home, network: str, name: str) -> torch.nn.Module:
    """A network with what torch itself reads."""
    built = build_generator(A) if network == "G" else build_encoder(A)
    file = home / "model" / f"{name}_net_{network}.pth"
    built.load_state_dict(torch.load(file, weights_only=True))
    return built.eval().requires_grad_(False)


def own_picture(home, name: str, labels: np.ndarray, style: np.ndarray) -> np.ndarray:
    """(3, H, W) in [-1, 1], by torch's own forward: one-hot labels and the style of each."""
    ids = torch.from_numpy(labels.astype(np.int64))
    one_hot = torch.nn.functional.one_hot(ids, 35).permute(2, 0, 1).float()
    features = torch.from_numpy(style)[ids].permute(2, 0, 1)
    return own(home, "G", name)(torch.cat([one_hot, features])[None])[0].numpy()


def test_every_step_reads_the_weights_that_are_asked_for(home, tmp_path, capsys):
    """Against torch's own forward of the file, from the command line; steps that would mix epochs
    are refused with what to say."""
    dataset, model = home / "dataset", home / "model"
    inputs, out = as_flags(model=model, dataset=dataset), {}
    for name in ("clusters", "exported", "pictures", "report"):
        out[name] = as_flags(**{name if name != "pictures" else "out": tmp_path / name})

    # Styles, by the encoder of epoch 7.
    cluster([*inputs, *out["clusters"], *"--weights 007 --device cpu --min-area 0".split()])
    table, manifest = ClusterTable.read(tmp_path / "clusters"), DatasetManifest.read(dataset)
    assert table.model_digest == "digest of 7"
    encoder, rows = own(home, "E", "7"), []
    for pair in manifest.train:
        photo = read_picture(manifest.path(dataset, "train", "photo", pair.name)).copy()
        ids = read_ids(manifest.path(dataset, "train", "instance", pair.name))
        encoded = encoder(torch.from_numpy(photo)[None] / 127.5 - 1)
        encoded = torch.nn.functional.interpolate(encoded, ids.shape)[0].numpy()
        rows += [encoded[:, ids == one].mean(1) for one in np.unique(ids)]
    assert np.allclose(table.overall, np.mean(rows, 0), atol=1e-5)

    # The file, with these styles inside.
    styled = [*inputs, *out["clusters"]]
    export([*styled, *out["exported"], *"--weights 7 --parity-samples 1".split()])
    card = ExportCard.read(tmp_path / "exported")
    assert card.model_digest == "digest of 7"
    name = manifest.test[0].name
    labels = read_ids(manifest.path(dataset, "test", "input", name)).copy()
    wanted = own_picture(home, "7", labels, np.asarray(card.style, np.float32))
    session = onnxruntime.InferenceSession(tmp_path / "exported" / card.file)
    assert np.abs(session.run(None, {"labels": labels[None]})[0][0] - wanted).max() < 1e-4

    # Pictures.
    export(["synthesise", *styled, *out["pictures"], *"--weights 7 --device cpu".split()])
    painted = read_picture(tmp_path / "pictures" / f"{name}.png").astype(int)
    assert np.abs(painted - (wanted + 1) * 127.5).max() <= 0.51
    others = [own_picture(home, one, labels, np.asarray(card.style, np.float32)) for one in EPOCHS]
    assert sum(np.abs(painted - (one + 1) * 127.5).max() <= 0.51 for one in others) == 1

    # The report.
    quick = "--weights 7 --batch-sizes 1 --rounds 1 --warmup 1 --runtimes torch --gallery"
    quick += " --precisions fp32 --max-styled-maps 0 --device cpu"
    measured = [*styled, *out["exported"], *out["report"]]
    benchmark([*measured, *quick.split()])
    report = BenchmarkReport.read(tmp_path / "report")
    assert (report.model_digest, report.weights) == ("digest of 7", "7")
    for page in ("report.html", "gallery/index.html"):
        assert ", epoch 7" in (tmp_path / "report" / page).read_text()
    assert "7 epochs, 70 images seen, weights 7" in (tmp_path / "report/report.html").read_text()

    # Epochs that do not go together.
    assert refusal_of_command(capsys, benchmark, *measured, "--weights", "best") == (
        f"--exported {tmp_path}/exported was made from the weights 7 of --model {model}, but best "
        "(epoch 4) is asked for: say --weights 7, or export again."
    )
    assert refusal_of_command(capsys, export, *styled, "--exported", tmp_path / "no") == (
        f"--clusters {tmp_path}/clusters was made from the weights 7 of --model {model}, but "
        "latest (epoch 9) is asked for: say --weights 7."
    )
    local = as_flags(dataset=dataset, init_from=model, netG="local", **tiny.TRAIN | {"ngf": 2})
    local += ["--instance-features", "--no-use-instances", *out["clusters"]]
    assert refusal_of_command(capsys, train, *local, "--model", tmp_path / "local") == (
        "--clusters was made from the weights 7 of --init-from, of which stage local takes the "
        "latest: cluster again with --weights latest."
    )
    synthesise = ["synthesise", *out["exported"], "--dataset", dataset, *out["pictures"]]
    assert refusal_of_command(capsys, export, *synthesise, "--weights", "7") == (
        "--weights 7 is for --model but --exported was made from some: leave it out."
    )


def test_what_a_model_does_not_hold_is_refused_with_what_it_holds(home, capsys):
    model = home / "model"
    assert refusal(load_generator, model, weights="8") == (
        f"--weights 8: --model {model} holds latest (epoch 9), best (epoch 4), 7: choose among "
        "these, or train with --keep-checkpoints."
    )
    card = read_model(model, weights="best")
    assert (card.epoch, card.images_seen, card.digest) == (4, 40, "digest of 4")
    assert card.metrics == {"val/L1": 0.4} and "chosen" not in json.loads(card.model_dump_json())
    for word in ("0", "-1", "newest", "7.0"):
        words = as_flags(model=model, exported=home / "no")
        assert refusal_of_command(capsys, export, *words, f"--weights={word}") == (
            f"--weights '{word}': should be latest, best, or the number of an epoch."
        )


def flip(model):
    content = bytearray((model / "latest_net_G.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (model / "latest_net_G.pth").write_bytes(content)


def rename(model):
    (model / "best_net_G.pth").replace(model / "latest_net_G.pth")


def exchange(model):
    torch.save(networks(1)["G"].state_dict(), model / "latest_net_G.pth")


@pytest.mark.parametrize(
    "change, found",
    [
        (flip, "latest_net_G.pth is not the file that was written with model.json"),
        (rename, "latest_net_G.pth is not the file that was written with model.json, but best_net"),
        (exchange, "latest_net_G.pth is not the file that was written with model.json"),
        (lambda model: (model / "latest_net_G.pth").unlink(), "has no latest_net_G.pth, which its"),
    ],
)
def test_a_file_that_is_not_the_one_that_was_written_is_said(change, found, home, tmp_path):
    """By what deploys it and by what trains on; other files of the model are not concerned."""
    model = tmp_path / "model"
    shutil.copytree(home / "model", model)
    change(model)
    said = refusal(load_generator, model)
    assert found in said and "python -m components.train adopt" in said
    if (model / "latest_net_G.pth").is_file():
        of_parent = refusal(begin_at_parent, model, {"G": build_generator(A)}, A)
        assert of_parent == said.replace("--model", "--init-from", 1)
    load_encoder(model, ModelCard.read(model))
    load_generator(model, weights="7")


def test_cards_of_earlier_versions_are_checked_as_far_as_they_tell(home, tmp_path):
    """They have the digest of all latest files together, and know of no others."""
    model = tmp_path / "model"
    shutil.copytree(home / "model", model)
    sha = hashlib.sha256()
    for network in "GDE":
        name = f"latest_net_{network}.pth"
        sha.update(name.encode() + hashlib.sha256((model / name).read_bytes()).digest())
    fields = json.loads((model / "model.json").read_text()) | {"digest": sha.hexdigest()[:16]}
    del fields["weights"], fields[SEAL]
    (model / "model.json").write_text(json.dumps(fields))

    card, _ = load_generator(model)
    assert card.epoch == 9
    card, _ = load_generator(model, weights="7")
    assert card.epoch == 7 and card.digest != sha.hexdigest()[:16]
    assert refusal(load_generator, model, weights="8") == (
        f"--weights 8: --model {model} holds latest, best, 7: choose among these, or train with "
        "--keep-checkpoints."
    )
    rename(model)
    assert refusal(load_generator, model).startswith(
        f"--model {model}: latest_net_G.pth, latest_net_D.pth, latest_net_E.pth are not the files "
        "that were written with its model.json: "
    )
    (model / "latest_net_D.pth").unlink()
    load_generator(model)  # a folder without D tells nothing


def test_numbered_weights_alone_are_read_by_their_number(home, tmp_path, capsys):
    """As junyanz' and NVIDIA's code leaves them, in the end beside others; also with a card of
    theirs."""
    model = tmp_path / "model"
    model.mkdir()
    for network in "GD":
        shutil.copy(home / "model" / f"7_net_{network}.pth", model / f"200_net_{network}.pth")
    shutil.copy(home / "model" / "latest_net_G.pth", model / "90_net_G.pth")
    said = f"--model {model} has no latest_net_G.pth, but 90_net_G.pth, 200_net_G.pth: say "
    assert refusal(read_model, model) == said + "--weights 200."
    card, generator = load_generator(model, weights="200", num_labels=35)
    assert (card.epoch, card.images_seen) == (200, 0)
    wanted, x = own(home, "G", "7"), torch.randn(1, 38, 16, 16)
    assert torch.equal(generator(x), wanted(x))

    adopt = ["adopt", "--model", model, "--num-labels", 35, "--size", "32x64"]
    assert refusal_of_command(capsys, train, *adopt) == said + "--weights 200."
    train([str(word) for word in [*adopt, "--weights", "200"]])
    again, generator = load_generator(model, weights="200")
    assert (again.epoch, again.digest) == (200, card.digest)
    assert torch.equal(generator(x), wanted(x)) and not torch.equal(
        load_generator(model, weights="90")[1](x), wanted(x)
    )
    assert refusal(load_generator, model).startswith(
        f"--weights latest: --model {model} holds 90, 200: choose among these"
    )
    words = as_flags(dataset=home / "dataset", model=tmp_path / "new", init_from=model)
    assert refusal_of_command(capsys, train, *words) == (
        f"--init-from {model} holds 200_net_G.pth but no latest_net_G.pth, from which a training "
        "starts: copy its files under this name to a folder of their own."
    )


def test_bare_files_are_compared_with_the_checksums_that_torch_put_in(home, tmp_path):
    """torch itself compares nothing, and reads others where they were left out."""
    weights = tmp_path / "model" / "latest_net_G.pth"
    weights.parent.mkdir()
    torch.serialization.set_crc32_options(False)
    torch.save(networks(9)["G"].state_dict(), weights)
    torch.serialization.set_crc32_options(True)
    read_model(weights.parent, num_labels=35, use_instances=False)
    shutil.copyfile(home / "model" / weights.name, weights)
    read_model(weights.parent, num_labels=35, use_instances=False)
    flip(weights.parent)
    torch.load(weights, weights_only=True)
    assert refusal(read_model, weights.parent, num_labels=35, use_instances=False) == (
        f"{weights} is damaged, it does not hold what was saved: copy or download it again."
    )
