"""pix2pix from side-by-side pictures to the report: at the size of its crops everywhere, and also
where there is one pair alone."""

import numpy as np
import onnx
import pytest

from components.benchmark.run import run as benchmark
from components.export.run import run as export
from components.export.synthesise.config import SynthesiseConfig
from components.export.synthesise.run import synthesise
from components.prepare.run import run as prepare
from components.train.run import run as train
from components.train.step import Trainer
from pipeline import CONFIGS
from shared.contracts.exported import ExportCard
from shared.contracts.measured import BenchmarkReport
from shared.contracts.model import ModelCard
from shared.data.images import read_picture
from shared.pipeline.recipes import read_recipe
from tests.calling import call
from tests.prepare.files import noise, save
from tests.tiny import one_thread  # noqa: F401 - a fixture

# The recipe in small: 32 * 286 / 256 = 35.75.
SMALL = """
    prepare.cache_limit_gb=0 train_global.size=36x36 train_global.crop=32x32
    train_global.netG=unet_128 train_global.ngf=2 train_global.ndf=2 train_global.device=cpu
    train_global.epochs=1 train_global.epochs_decay=0 train_global.workers=0
    export.parity_samples=1 benchmark.batch_sizes=1 benchmark.rounds=1 benchmark.warmup=1
    benchmark.device=cpu
""".split()


def configs():
    recipe = read_recipe("facades", CONFIGS, SMALL)
    return [CONFIGS[step].check(values) for step, values in recipe.items()]


@pytest.fixture
def seen(monkeypatch):
    """Sizes of what the generator trains on and of what it shows."""
    sizes = {"step": set(), "show": set()}
    for name, of in sizes.items():
        method = getattr(Trainer, name)

        def watched(self, batch, method=method, of=of):
            of.add(tuple(batch.inputs.shape[-2:]))
            return method(self, batch)

        monkeypatch.setattr(Trainer, name, watched)
    return sizes


@pytest.mark.parametrize("is_alone", [False, True])
def test_facades_in_small_is_for_the_size_of_its_crops(tmp_path, capsys, seen, is_alone):
    # Pictures of 32x32, input and photo side by side; two pairs are for testing, or none.
    splits = {"train": 1} if is_alone else {"train": 3, "test": 2}
    for split, count in splits.items():
        for number in range(count):
            save(tmp_path / "raw" / split / f"{number}.png", noise(number, 32, 64, 3))
    of_prepare, of_train, of_export, of_benchmark = configs()
    data, model, exported, report = (tmp_path / name for name in ("d", "m", "e", "r"))

    # Trained on crops of 36x36, shown and validated at 32x32.
    prepare(str(tmp_path / "raw"), data, config=of_prepare)
    capsys.readouterr()
    figures = train(data, model, config=of_train)
    said = capsys.readouterr().out
    pairs = f"train unet_128: {splits['train']} pairs at 36x36 in crops of 32x32"
    assert f"{pairs}, for whole pictures at 32x32, cpu" in said
    assert said.count("unet_128 pads 32x32 to 128x128, 16 times the pixels: sides in") == 1
    card = ModelCard.read(model)
    assert (card.height, card.width) == card.frame_size == (32, 32)
    assert seen == {"step": {(32, 32)}, "show": {(32, 32)}}
    assert ("val/psnr_db" in figures) == (not is_alone)

    # Deployed and measured at 32x32.
    export(model, exported, data, config=of_export)
    file = ExportCard.read(exported)
    assert file.size == (32, 32)
    shape = onnx.load(exported / file.file).graph.input[0].type.tensor_type.shape
    assert [side.dim_value for side in shape.dim[-2:]] == [32, 32]
    benchmark(exported, data, model, report, config=of_benchmark)
    measured = BenchmarkReport.read(report)
    assert (measured.height, measured.width) == (32, 32)
    assert measured.quality.pairs == splits.get("test", 0)
    if not is_alone:  # the same photos at the same size: the same figure
        assert measured.quality.psnr_db == pytest.approx(figures["val/psnr_db"], abs=0.01)

    # Pictures of another size are brought to it, unless it is said.
    save(tmp_path / "new" / "large.png", noise(9, 64, 64, 3))
    pictures = {}
    for name, given in (("", {"exported": exported}), ("a", {}), ("b", {"size": "keep"})):
        out = tmp_path / f"out{name}"
        place = {"image": tmp_path / "new", "out": out, "device": "cpu"}
        options = place | {"model": model} | given
        if "exported" in given:
            del options["model"]
        capsys.readouterr()
        synthesise(SynthesiseConfig.check(options))
        assert ("at 32x32: other maps" in capsys.readouterr().out) == (name != "b")
        pictures[name] = read_picture(out / "large.png").astype(int)
    assert np.abs(pictures[""] - pictures["a"]).max() <= 1
    assert pictures["b"].shape == (3, 64, 64) and (pictures["b"] != pictures["a"]).any()


def test_own_pairs_are_deployed_at_the_size_of_the_crops_too():
    recipe = read_recipe("own_pairs", CONFIGS)
    assert recipe["prepare"]["size"] == "286x286" and recipe["train_global"]["crop"] == "256x256"
    assert recipe["train_global"]["size"] == recipe["export"]["size"] == ""


def test_the_preflight_says_padding_in_words_of_the_recipe(tmp_path):
    save(tmp_path / "raw" / "train" / "only.png", noise(0, 32, 64, 3))
    words = "train_global.size=64x64 train_global.crop= train_global.device=cpu".split()
    done = call(
        *("preflight", "--recipe", "facades", "--raw-data", "raw", "--set", *words), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    line = "train_global: unet_256 pads 64x64 to 256x256, 16 times the pixels: "
    assert line + "--set train_global.netG=unet_128 pads to 128x128, and" in " ".join(
        done.stdout.split()
    )
