"""Photos of one channel, from the raw files to the report: what each folder and picture holds."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from components.benchmark.__main__ import main as benchmark
from components.cluster.__main__ import main as cluster
from components.export.__main__ import main as export
from components.prepare.__main__ import main as prepare
from components.train.__main__ import main as train
from shared.contracts.exported import ExportCard
from shared.deployed.runners import open_session
from tests import tiny
from tests.alone import run_alone
from tests.asking import as_flags
from tests.prepare.files import load, noise, save
from tests.tiny import one_thread  # noqa: F401 - a fixture

SIZE = 32, 64
PICTURES = dict(num_labels=0, instances="none", size="keep")
LABELS = dict(num_labels=4, instances="components", size="keep")
FEATURES = dict(instance_features=True, feature_regions="labels")


def luma(rgb):
    """(H, W, 3) uint8 -> (H, W): ITU-R 601-2 in fixed point of 16 bits, rounded."""
    red, green, blue = rgb.astype(np.uint32).transpose(2, 0, 1)
    return ((19595 * red + 38470 * green + 7471 * blue + (1 << 15)) >> 16).astype(np.uint8)


def assert_mode(mode, folder, pattern="*.png"):
    paths = sorted(folder.glob(pattern))
    assert paths and {Image.open(path).mode for path in paths} == {mode}


@pytest.mark.parametrize(
    ("channels", "of_prepare", "of_train", "of_export"),
    [
        # Channels of the raw input, 0 for labels, and of the photos as they are trained.
        ((1, 1), PICTURES | dict(input_nc=1), {}, dict(output="uint8")),
        pytest.param(
            (1, 3), PICTURES | dict(input_nc=1), {}, dict(form="onehot"), marks=pytest.mark.slow
        ),
        pytest.param((3, 1), PICTURES, {}, {}, marks=pytest.mark.slow),
        pytest.param((0, 1), LABELS, FEATURES, dict(style="label"), marks=pytest.mark.slow),
    ],
    ids=["grey_to_grey", "grey_to_colour", "colour_to_grey", "features_to_grey"],
)
def test_from_raw_files_to_the_report(tmp_path, channels, of_prepare, of_train, of_export):
    # Six pairs, whose photos are colour in any case.
    read, made = channels
    folders = ("labels", "images") if read == 0 else ("A", "B")
    shape = SIZE if read < 2 else (*SIZE, read)
    for i in range(6):
        raw = noise(i, *shape, high=4 if read == 0 else 256)
        save(tmp_path / "raw" / folders[0] / f"{i}.png", raw)
        save(tmp_path / "raw" / folders[1] / f"{i}.png", noise(10 + i, *SIZE, 3))

    # All steps.
    dataset, model, exported, report = (tmp_path / name for name in ("d", "m", "e", "r"))
    prepare(as_flags(raw_data=tmp_path / "raw", dataset=dataset, test_fraction=0.4, **of_prepare))
    small = tiny.TRAIN | dict(epochs=1, epochs_decay=0, device="cpu", output_nc=made)
    train(as_flags(dataset=dataset, model=model, **small | of_train))
    places = dict(dataset=dataset, model=model)
    if of_train:
        cluster(as_flags(**places, clusters=tmp_path / "c", device="cpu"))
        places |= dict(clusters=tmp_path / "c")
    export(as_flags(**places, exported=exported, **of_export))
    places |= dict(exported=exported, report=report)
    benchmark(as_flags(**places, device="cpu", batch_sizes=1, runtimes="onnxruntime", gallery=True))

    # The networks have the channels, and their file says so.
    D = torch.load(model / "latest_net_D.pth", weights_only=True)
    of_input = {0: 4 + 1}.get(read, read)  # labels and edge
    assert D["scale0_layer0.0.weight"].shape[1] == of_input + made
    card = ExportCard.read(exported)
    assert card.outputs[0].shape == ["batch", made, *SIZE]
    assert card.outputs[0].meaning.startswith("grey picture" if made == 1 else "RGB picture")
    assert [one.samples for one in card.parity] == [4]

    # What the report shows: of the photos their luma, and figures of the pictures beside them.
    mode = "L" if made == 1 else "RGB"
    assert_mode(mode, report / "pictures", "*synthesised.png")
    assert_mode(mode, report / "pictures", "*real.png")
    assert_mode(mode, report / "gallery", "*synthesised.jpg")
    assert_mode("RGB", model / "samples")
    assert ("grey pictures" in (report / "report.html").read_text()) == (made == 1)
    psnrs = []
    for path in sorted((report / "pictures").glob("test_*_real.png")):
        real = load(path)
        raw = load(tmp_path / "raw" / folders[1] / f"{path.stem.split('_')[1]}.png")
        assert np.array_equal(real, luma(raw) if made == 1 else raw)
        painted = load(path.with_name(path.name.replace("real", "synthesised")))
        psnrs.append(10 * np.log10(255**2 / np.mean((painted.astype(float) - real) ** 2)))
    found = json.loads((report / "benchmark.json").read_text())["quality"]["psnr_db"]
    assert len(psnrs) > 1 and found == pytest.approx(np.mean(psnrs))

    # The same picture by synthesise, by the script alone, and of what ais_bench would leave.
    flag = "labels" if read == 0 else "image"
    scene = next((dataset / ("test_label" if read == 0 else "test_A")).glob("*.png"))
    flags = {flag: scene, "exported": exported, "out": tmp_path / "painted"}
    export(["synthesise", *as_flags(**flags, device="cpu")])
    jobs = [[exported / "paint.py", exported / card.file, scene, tmp_path / "alone.png"]]
    done = run_alone(jobs)
    assert done.returncode == 0, done.stderr
    assert_mode(mode, tmp_path / "painted")
    wanted = load(tmp_path / "painted" / scene.name)
    assert wanted.shape == (SIZE if made == 1 else (*SIZE, 3)) and np.ptp(wanted) > 0
    assert Image.open(tmp_path / "alone.png").mode == mode
    assert np.array_equal(load(tmp_path / "alone.png"), wanted)
    export(["offline", "inputs", *as_flags(dataset=dataset, exported=exported, out=tmp_path / "i")])
    session = open_session(exported / card.file, "cpu")
    feed = {
        one.name: np.fromfile(tmp_path / "i" / one.name / f"{scene.stem}.bin", one.dtype).reshape(
            1, *(length if isinstance(length, int) else -1 for length in one.shape[1:])
        )
        for one in card.inputs
    }
    (tmp_path / "o").mkdir()
    session.run(None, feed)[0].tofile(tmp_path / "o" / f"{scene.stem}_0.bin")
    size = f"{SIZE[0]}x{SIZE[1]}"
    places = dict(outputs=tmp_path / "o", out=tmp_path / "p", size=size)
    export(["offline", "pictures", *as_flags(**places)])
    assert np.array_equal(load(tmp_path / "p" / scene.name), wanted)
