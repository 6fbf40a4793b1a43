"""Maps in, photographs out: sizes, names, styles against the deployed function called by hand; each
refusal read."""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from components.export.__main__ import main
from components.export.config import OnnxOptions
from components.export.onnx_graph.file import to_onnx
from components.export.onnx_graph.norm import with_graph_norm
from components.export.synthesise.run import grid
from components.export.synthesise.style_choice import CentreStyles, PhotoStyles
from components.train.networks.init import init_weights
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, Graph, OmFile
from shared.contracts.labels import Label
from shared.contracts.model import Architecture, ModelCard
from shared.data.images import (
    read_ids,
    read_picture,
    resize_ids,
    resize_picture,
    write_ids,
    write_picture,
)
from shared.data.maps import Sample
from shared.deployed.form import Form, stack
from shared.deployed.styles import Style
from shared.deployed.synthesiser import Synthesiser, to_pixels
from shared.device import pick
from shared.networks.build import build_generator
from shared.networks.checkpoint import load_encoder, load_generator, save_weights
from shared.networks.layers import with_picture_statistics
from tests import tiny
from tests.asking import as_flags, refusal_of_command
from tests.places import EXCERPT, ROOT
from tests.tiny import one_thread  # noqa: F401 - a fixture

SIZES = {"a": (32, 64), "b": (33, 47), "c": (5, 2)}
GREYS = {
    7: [(200, 10, 20), (0, 200, 0), (5, 5, 200)],
    26: [(250, 250, 0), (0, 250, 250)],
    255: [(60, 60, 60)],
}
MEAN = (102, 51, 204)
PLAIN = tiny.architecture()
FEATURES = tiny.architecture(feat_num=3)


def as_features(greys) -> list:
    """Features that are, taken as a picture, these greys."""
    return (np.array(greys) / 127.5 - 1).tolist()


STYLES = dict(
    centres={label: as_features(greys) for label, greys in GREYS.items()},
    overall=as_features(MEAN),
)


def maps(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels 7 and 26 and a corner without, two instances of 26, ids above 32767."""
    labels, instances = (
        np.full((height, width), 7, np.uint8),
        np.full((height, width), 7, np.uint16),
    )
    (
        labels[height // 2 :],
        instances[height // 2 :, : width // 2],
        instances[height // 2 :, width // 2 :],
    ) = (
        26,
        26001,
        40002,
    )
    labels[0, 0], instances[0, 0] = 255, 0
    return labels, instances


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """label/ and inst/ of files of several sizes."""
    folder = tmp_path_factory.mktemp("raw")
    for name, size in SIZES.items():
        labels, instances = maps(*size)
        write_ids(folder / "label" / f"{name}.png", labels)
        write_ids(folder / "inst" / f"{name}.png", instances)
        photo = np.random.default_rng(1).integers(0, 256, (3, *size), dtype=np.uint8)
        write_picture(folder / "img" / f"{name}.png", photo)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    tiny.model(folder, PLAIN)
    return folder


@pytest.fixture(scope="module")
def styled(tmp_path_factory):
    """model/ with instance features, and its clusters/"""
    folder = tmp_path_factory.mktemp("styled")
    card = tiny.model(folder / "model", FEATURES)
    tiny.write_clusters(folder / "clusters", card.digest, **STYLES)
    return folder


def run(*argv) -> None:
    run_strictly([str(arg) for arg in argv])


def run_strictly(argv: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main(["synthesise", *argv])


def refusal(capsys, *argv) -> str:
    return refusal_of_command(capsys, run_strictly, *argv)


def by_hand(
    model: Path, labels: np.ndarray, instances: np.ndarray, style: Style | None = None
) -> np.ndarray:
    """The picture of the deployed function, (3, H, W); styles painted into a feature map."""
    card, generator = load_generator(model)
    graph = Graph(style="map" if style else "none")
    synthesiser = Synthesiser(generator, card.architecture, None, graph).eval()
    feed = Form(card.architecture, graph).feed(Sample.of_maps("", labels, instances), style)
    with torch.inference_mode():
        return to_pixels(
            synthesiser(*(torch.from_numpy(feed[n]) for n in synthesiser.input_names))[0].numpy()
        )


def pictures(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: read_picture(path) for path in sorted(folder.iterdir())}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def of_raw(raw: Path) -> list:
    return ["--labels", raw / "label", "--instances", raw / "inst"]


class Features(nn.Module):
    """A generator whose picture is its three feature channels: every pixel shows its style."""

    stride = least_strides = 1

    def forward(self, x):  # (N, C, H, W) -> (N, 3, H, W)
        return x[:, -3:]


def export(
    folder: Path,
    generator: nn.Module,
    a: Architecture,
    graph: Graph,
    size: tuple[int, int] | None,
    table: ClusterTable | None = None,
    batch_size: int | None = None,
) -> ExportCard:
    """An ONNX file and its card; size None = dynamic, batch_size None = dynamic."""
    height, width = size or (8, 8)
    labels, instances = maps(height, width)
    inputs = labels if a.num_labels else labels[None].repeat(a.input_nc, axis=0)
    form = Form(a, graph, Style(table.default_style(a.num_labels)) if table else None, size)
    feed = form.feed(Sample.of_maps("", inputs, instances))
    folder.mkdir(parents=True, exist_ok=True)
    options, example = OnnxOptions(), stack([feed] * (batch_size or 1))
    synthesiser = with_graph_norm(form.synthesiser(generator), options)
    axes = dict(dynamic_batch=batch_size is None, dynamic_size=size is None)
    to_onnx(synthesiser, example, folder / "generator.onnx", options, {}, **axes)
    return tiny.export_card(
        folder,
        a.model_copy(update={"n_downsample_global": 0}),  # these generators have no stride
        graph,
        size or ("height", "width"),
        style=form.style.by_label.tolist() if table else [],
    )


def test_a_folder_of_any_sizes(raw, plain, tmp_path, capsys):
    """Sizes and names are the inputs', also for sides that are no multiple of the stride; a second
    run writes over."""
    for _ in range(2):
        run("--model", plain, *of_raw(raw), "--out", tmp_path / "out")
    found = pictures(tmp_path / "out")
    assert list(found) == ["a.png", "b.png", "c.png"]
    for name, size in SIZES.items():
        assert found[f"{name}.png"].shape == (3, *size)
        np.testing.assert_array_equal(found[f"{name}.png"], by_hand(plain, *maps(*size)))
    printed = capsys.readouterr().out
    assert "synthesise: 3 inputs, torch on cpu in fp32\n" in printed
    assert "synthesise: 3 of 3 inputs, " in printed and printed.endswith(
        f"wrote 3 pictures to {tmp_path / 'out'}\n"
    )


def test_a_file_of_before_for_any_size_takes_two_strides_or_more(raw, tmp_path, capsys):
    card = export(tmp_path / "exported", Features(), PLAIN, Graph(), None)
    card.model_copy(update={"architecture": PLAIN}).write(tmp_path / "exported")
    with pytest.raises(SystemExit) as stop:
        run("--exported", tmp_path / "exported", *of_raw(raw), "--out", tmp_path / "out")
    assert stop.value.code == 2 and not (tmp_path / "out").exists()
    assert "c.png is 5x2: give 8x8 or more." in capsys.readouterr().err


def test_one_file_and_the_map_given_with_it_are_a_pair(raw, plain, tmp_path):
    (tmp_path / "numbers.png").write_bytes((raw / "inst" / "b.png").read_bytes())
    files = dict(labels=raw / "label/b.png", instances=tmp_path / "numbers.png")
    run(*as_flags(model=plain, **files, out=tmp_path))
    np.testing.assert_array_equal(read_picture(tmp_path / "b.png"), by_hand(plain, *maps(33, 47)))


def test_cityscapes_raw_names(plain, tmp_path):
    """Labels, instances and what else lies in gtFine, in folders of cities."""
    labels, instances = maps(8, 16)
    for city, number in (("aachen", 0), ("bochum", 1)):
        start = tmp_path / "gtFine" / city / f"{city}_00000{number}_000019_gtFine_"
        for ending, ids in (("labelIds", labels), ("instanceIds", instances), ("color", labels)):
            write_ids(Path(f"{start}{ending}.png"), ids)
        Path(f"{start}polygons.json").write_text("{}")
    gt = tmp_path / "gtFine"
    run("--model", plain, "--labels", gt, "--instances", gt, "--out", tmp_path / "out")
    assert list(pictures(tmp_path / "out")) == [
        "aachen_000000_000019.png",
        "bochum_000001_000019.png",
    ]
    np.testing.assert_array_equal(
        read_picture(tmp_path / "out" / "aachen_000000_000019.png"),
        by_hand(plain, labels, instances),
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_prepared_data_set(plain, tmp_path, split):
    manifest = tiny.dataset(tmp_path / "dataset", train=1, test=2)
    run(*as_flags(model=plain, dataset=tmp_path / "dataset", split=split, out=tmp_path / "out"))
    found = pictures(tmp_path / "out")
    assert list(found) == [f"{pair.name}.png" for pair in getattr(manifest, split)]
    labels, instances = (
        read_ids(manifest.path(tmp_path / "dataset", split, kind, f"{split}_0"))
        for kind in ("input", "instance")
    )
    np.testing.assert_array_equal(found[f"{split}_0.png"], by_hand(plain, labels, instances))


def test_jpeg(raw, plain, tmp_path):
    run("--model", plain, *of_raw(raw), "--out", tmp_path, "--suffix", "jpg")
    jpeg = Image.open(tmp_path / "b.jpg")
    assert jpeg.format == "JPEG" and jpeg.size == (47, 33)
    assert jpeg.quantization[0][0] == 2  # 16 of the standard's table, at quality 95


@pytest.mark.parametrize("batch_norm", ["running", "picture"])
def test_a_bare_checkpoint_of_pictures(tmp_path, batch_norm):
    """junyanz's generator without a model.json: its tensors tell the rest."""
    a = tiny.architecture(
        netG="resnet_6blocks",
        norm="batch",
        num_labels=0,
        input_nc=3,
        use_instances=False,
        n_blocks_global=6,
    )
    torch.manual_seed(0)
    generator = build_generator(a).apply(init_weights)
    save_weights(tmp_path / "model", {"G": generator})
    picture = np.random.default_rng(0).integers(0, 256, (3, 33, 47), dtype=np.uint8)
    write_picture(tmp_path / "A" / "house.png", picture)
    files = dict(model=tmp_path / "model", image=tmp_path / "A", out=tmp_path / "out")
    run(*as_flags(**files, batch_norm=batch_norm))
    generator.eval()
    if batch_norm == "picture":
        generator = with_picture_statistics(generator)
    with torch.inference_mode():
        x = torch.from_numpy(picture)[None] / 127.5 - 1
        wanted = ((generator(x)[0] + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    np.testing.assert_array_equal(read_picture(tmp_path / "out" / "house.png"), wanted)


def of_styled(styled: Path, raw: Path) -> list:
    return ["--model", styled / "model", "--clusters", styled / "clusters", *of_raw(raw)]


def test_the_commonest_style_is_the_default(raw, styled, tmp_path):
    run(*of_styled(styled, raw), "--out", tmp_path / "out")
    style = Style.commonest(ClusterTable.read(styled / "clusters"), 35)
    for name, size in SIZES.items():
        wanted = by_hand(styled / "model", *maps(*size), style)
        np.testing.assert_array_equal(read_picture(tmp_path / "out" / f"{name}.png"), wanted)


@pytest.mark.parametrize("per_instance", [[], ["--per-instance"]])
def test_the_same_seed_gives_the_same_pictures(raw, styled, tmp_path, per_instance):
    """To the byte, in whatever company a file is; another seed gives others."""
    found = {}
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        run(*of_styled(styled, raw), "--style-seed", seed, *per_instance, "--out", tmp_path / name)
        found[name] = contents(tmp_path / name)
    assert found["first"] == found["second"] and len(found["first"]) == 3
    assert all(found["first"][name] != found["other"][name] for name in ("a.png", "b.png"))
    model = as_flags(model=styled / "model", clusters=styled / "clusters", instances=raw / "inst")
    flags = as_flags(labels=raw / "label/b.png", style_seed=3, out=tmp_path / "alone")
    run(*model, *flags, *per_instance)
    assert contents(tmp_path / "alone") == {"b.png": found["first"]["b.png"]}


def test_styles_are_chosen_by_the_names_that_the_card_has(capsys, raw, styled, tmp_path):
    model, clusters = tmp_path / "model", styled / "clusters"
    shutil.copytree(styled / "model", model)
    card, named = ModelCard.read(model), Label(id=26, name="car", colour=(1, 2, 3))
    card.model_copy(update={"labels": [named]}).write(model)
    files = ["--model", model, "--clusters", clusters, *of_raw(raw)]
    run(*files, "--label-style", "Car=1", "--out", tmp_path / "name")
    run(*files, "--label-style", "26=1", "--out", tmp_path / "id")
    by_name, by_id = (read_picture(tmp_path / how / "b.png") for how in ("name", "id"))
    np.testing.assert_array_equal(by_name, by_id)
    sentence = refusal(capsys, *files, "--label-style", "cra=1", "--out", tmp_path / "out")
    assert sentence == "--label-style cra=1: no label is called 'cra': did you mean car?"


def test_chosen_styles(raw, styled, tmp_path):
    """Of a label, and of one of its instances, which goes before."""
    table = ClusterTable.read(styled / "clusters")
    by_label = table.default_style(35)
    by_label[7] = table.labels[7].centres[2]
    by_label[26] = table.labels[26].centres[1]
    style = Style(by_label, {40002: np.array(table.labels[26].centres[0], np.float32)})
    chosen = ["--label-style", "7=2", "--label-style", "26=1", "--instance-style", "40002=0"]
    run(*of_styled(styled, raw), *chosen, "--out", tmp_path)
    np.testing.assert_array_equal(
        read_picture(tmp_path / "b.png"), by_hand(styled / "model", *maps(33, 47), style)
    )


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """Exported files that show the styles themselves, for maps of any size, and the clusters they
    have."""
    folder = tmp_path_factory.mktemp("mirror")
    table = tiny.write_clusters(folder / "clusters", "model", **STYLES)
    for style in ("fixed", "label", "instance", "map"):
        export(folder / style, Features(), FEATURES, Graph(style=style), None, table)
    export(folder / "onehot", Features(), FEATURES, Graph(form="onehot"), None, table)
    return folder


def shown(picture: np.ndarray) -> dict[str, tuple]:
    """The grey of each region of `maps`, which must be of one."""
    height, width = picture.shape[1:]
    low = picture[:, height // 2 :]
    parts = {
        7: picture[:, 0, 1:],
        26001: low[:, :, : width // 2],
        40002: low[:, :, width // 2 :],
        0: picture[:, :1, :1],
    }
    parts = {name: part.reshape(3, -1) for name, part in parts.items()}
    assert all((part == part[:, :1]).all() for part in parts.values())
    return {name: tuple(part[:, 0].tolist()) for name, part in parts.items()}


@pytest.mark.parametrize("form", ["fixed", "label", "instance", "map", "onehot"])
def test_a_file_without_choice_shows_the_commonest(raw, mirror, tmp_path, form):
    run("--exported", mirror / form, *of_raw(raw), "--out", tmp_path)
    commonest = {7: GREYS[7][0], 26001: GREYS[26][0], 40002: GREYS[26][0], 0: GREYS[255][0]}
    for name in SIZES:
        assert shown(read_picture(tmp_path / f"{name}.png")) == commonest


@pytest.mark.parametrize("form", ["instance", "map", "onehot"])
def test_an_instance_changes_alone(raw, mirror, tmp_path, form):
    files = ["--exported", mirror / form, "--clusters", mirror / "clusters", *of_raw(raw)]
    run(*files, "--instance-style", "40002=1", "--label-style", "7=1", "--out", tmp_path)
    found = shown(read_picture(tmp_path / "b.png"))
    assert found == {7: GREYS[7][1], 26001: GREYS[26][0], 40002: GREYS[26][1], 0: GREYS[255][0]}


@pytest.mark.parametrize("form", ["instance", "map", "onehot"])
def test_every_instance_has_a_random_style_of_its_label(raw, mirror, tmp_path, form):
    """Every style comes up, the two instances of a label differ at times; others stay as they are
    when one is set."""
    file = as_flags(exported=mirror / form, clusters=mirror / "clusters", per_instance=True)
    files = [*file, *of_raw(raw)]
    run(*files, "--variants", 10, "--out", tmp_path / "free")
    run(*files, "--variants", 10, "--label-style", "7=2", "--out", tmp_path / "set")
    free, chosen = (
        [shown(read_picture(tmp_path / place / f"b_{k}.png")) for k in range(10)]
        for place in ("free", "set")
    )
    for region, label in ((7, 7), (26001, 26), (40002, 26), (0, 255)):
        assert {found[region] for found in free} == set(GREYS[label])
    assert {found[26001] == found[40002] for found in free} == {True, False}
    assert chosen == [found | {7: GREYS[7][2]} for found in free]


@pytest.mark.parametrize("form", ["label", "map", "onehot"])
def test_a_random_style_of_a_label_is_that_of_all_its_instances(raw, mirror, tmp_path, form):
    files = ["--exported", mirror / form, "--clusters", mirror / "clusters", *of_raw(raw)]
    run(*files, "--style-seed", 5, "--variants", 10, "--out", tmp_path)
    found = [shown(read_picture(tmp_path / f"a_{k}.png")) for k in range(10)]
    assert all(one[26001] == one[40002] for one in found)
    assert {one[26001] for one in found} == set(GREYS[26]) and {one[7] for one in found} == set(
        GREYS[7]
    )


def test_a_label_never_seen_has_the_mean_of_all(mirror, tmp_path):
    file = tmp_path / "a.png"
    write_ids(file, np.full((4, 6), 11, np.uint8))
    flags = ["--exported", mirror / "label", "--clusters", mirror / "clusters", "--style-seed", 1]
    run(*flags, "--labels", file, "--instances", file, "--out", tmp_path / "out")
    assert (read_picture(tmp_path / "out" / "a.png").reshape(3, -1).T == MEAN).all()


def test_a_grid_of_variants(raw, styled, tmp_path):
    run(*of_styled(styled, raw), "--variants", 3, "--out", tmp_path)
    found = pictures(tmp_path)
    assert list(found) == [f"{name}_{end}.png" for name in SIZES for end in ("0", "1", "2", "grid")]
    whole = found["b_grid.png"]
    assert whole.shape == (3, 2 * 33, 2 * 47)
    for k, place in enumerate((np.s_[:, :33, :47], np.s_[:, :33, 47:], np.s_[:, 33:, :47])):
        np.testing.assert_array_equal(whole[place], found[f"b_{k}.png"])
    assert (whole[:, 33:, 47:] == 255).all()
    assert not np.array_equal(found["b_0.png"], found["b_1.png"])


@pytest.mark.parametrize(("count", "shape"), [(2, (1, 2)), (4, (2, 2)), (5, (2, 3)), (10, (3, 4))])
def test_grids_are_about_square(count, shape):
    whole = grid([np.full((3, 2, 3), k, np.uint8) for k in range(count)])
    assert whole.shape == (3, 2 * shape[0], 3 * shape[1])
    cells = whole[0, ::2, ::3].ravel().tolist()
    assert cells == [*range(count)] + [255] * (shape[0] * shape[1] - count)


@pytest.mark.parametrize("regions", ["instances", "labels"])
@pytest.mark.parametrize("training_size", ["16x32", ""])
def test_the_styles_of_a_photograph_are_the_encoders_means(tmp_path, regions, training_size):
    """Against a loop: encoded at the size of the training, enlarged by repetition, mean over the
    region's pixels."""
    a = tiny.architecture(feat_num=3, feature_regions=regions)
    card = tiny.model(tmp_path, a, height=16, width=32, one_size=bool(training_size))
    labels, instances = maps(32, 64)
    photo = np.random.default_rng(0).integers(0, 256, (3, 32, 64), dtype=np.uint8)
    scene = Sample.of_maps("a", labels, instances, photo)
    encoder = load_encoder(tmp_path, ModelCard.read(tmp_path))
    style = PhotoStyles(encoder, card, pick("cpu")).of(scene, 0)

    if training_size:
        photo = resize_picture(photo, 16, 32)
    with torch.inference_mode():
        features = encoder(torch.tensor(photo)[None] / 127.5 - 1)[0].numpy()
    if training_size:
        features = features.repeat(2, axis=1).repeat(2, axis=2)
    found = style.painted(scene)
    for region in (7, 26001, 40002, 0) if regions == "instances" else (7, 26, 255):
        on = (instances if regions == "instances" else labels) == region
        # resizing differs
        assert np.abs(found[:, on] - features[:, on].mean(axis=1, keepdims=True)).max() < 0.01


def test_photographs_are_paired_by_name(raw, styled, tmp_path):
    flags = ["--model", styled / "model", *of_raw(raw)]
    run(*flags, "--photo", raw / "img", "--out", tmp_path)
    card = ModelCard.read(styled / "model")
    labels, instances = maps(33, 47)
    photo = read_picture(raw / "img" / "b.png")
    encoder = load_encoder(styled / "model", card)
    style = PhotoStyles(encoder, card, pick("cpu")).of(
        Sample.of_maps("b", labels, instances, photo), 0
    )
    np.testing.assert_array_equal(
        read_picture(tmp_path / "b.png"), by_hand(styled / "model", labels, instances, style)
    )


@pytest.mark.parametrize("batch_size", [None, 2])
def test_maps_are_resized_to_a_file_of_static_size_and_pictures_back(
    raw, plain, tmp_path, capsys, batch_size
):
    generator, graph = load_generator(plain)[1], Graph(ids="int16")
    export(tmp_path / "e", generator, PLAIN, graph, (16, 24), batch_size=batch_size)
    run("--exported", tmp_path / "e", *of_raw(raw), "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "3 inputs, onnxruntime on cpu in fp32\n" in printed
    assert "at 16x24: other maps are resized to it, pictures back\n" in printed
    for name, size in SIZES.items():
        labels, instances = (resize_ids(ids, 16, 24) for ids in maps(*size))
        wanted = resize_picture(by_hand(plain, labels, instances), *size)
        found = read_picture(tmp_path / "out" / f"{name}.png")
        assert found.shape == wanted.shape and np.abs(found.astype(int) - wanted).max() <= 1


def test_pictures_as_input_of_a_file(tmp_path):
    """The generator returns its input: what comes out went in."""
    a = tiny.architecture(num_labels=0, input_nc=3, use_instances=False)
    export(tmp_path / "e", Features(), a, Graph(output="uint8"), None)
    manifest = tiny.dataset(tmp_path / "dataset", input_nc=3)
    run("--exported", tmp_path / "e", "--dataset", tmp_path / "dataset", "--out", tmp_path / "out")
    image = tmp_path / "dataset" / "test_A"
    run(*as_flags(exported=tmp_path / "e", image=image, out=tmp_path / "again"))
    for pair in manifest.test:
        wanted = read_picture(tmp_path / "dataset" / "test_A" / f"{pair.name}.png")
        np.testing.assert_array_equal(read_picture(tmp_path / "out" / f"{pair.name}.png"), wanted)
    assert contents(tmp_path / "out") == contents(tmp_path / "again")


def test_a_compiled_file(raw, tmp_path, monkeypatch, capsys):
    """Over a stand-in for ais_bench, whose network paints red what has a high label."""
    from tests.stand_ins.om import STEP, H, W, maps_om

    monkeypatch.syspath_prepend(ROOT / "tests" / "stand_ins")
    card = export(tmp_path / "e", Features(), PLAIN, Graph(), (H, W))
    maps_om(tmp_path / "e" / "bs2.om", batch=2)
    om = [OmFile(file="bs4.om", soc_version="Ascend310P3", batch_sizes=[4])]
    om.append(OmFile(file="bs2.om", soc_version="Ascend310P3", batch_sizes=[2]))
    card.model_copy(update={"om": om}).write(tmp_path / "e")
    try:
        run(
            "--exported", tmp_path / "e", "--runtime", "om", *of_raw(raw), "--out", tmp_path / "out"
        )
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "ais_bench"]:
            del sys.modules[name]
    assert "3 inputs, om on npu in fp16\n" in capsys.readouterr().out
    labels = resize_ids(maps(33, 47)[0], H, W).astype(np.float32)
    red = ((labels * STEP - 1 + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    wanted = resize_picture(red[None].repeat(3, axis=0), 33, 47)[0]
    np.testing.assert_array_equal(read_picture(tmp_path / "out" / "b.png")[0], wanted)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            "",
            "--model or --exported is needed: give the folder of a trained or of an exported "
            "model.",
        ),
        (
            "--model m --exported e",
            "--model and --exported were both given: give the one that is to paint.",
        ),
        (
            "--model m --runtime om",
            "--runtime om runs exported files: give --exported in place of --model.",
        ),
        (
            "--exported e --precision bf16",
            "--precision bf16 is for --model but --exported keeps its own: leave it out.",
        ),
        (
            "--exported e --batch-norm picture",
            "--batch-norm picture is for --model but --exported keeps its own: ",
        ),
        (
            "--model m",
            "--labels, --image or --dataset is needed, and one alone: give what is to be read.",
        ),
        (
            "--model m --labels l --image i",
            "--labels, --image or --dataset is needed, and one alone: give what ",
        ),
        (
            "--model m --dataset d --instances i",
            "--instances i was given but --dataset has its own: leave it out.",
        ),
        (
            "--model m --labels l --variants 0",
            "--variants 0: should be greater than or equal to 1.",
        ),
        (
            "--model m --labels l --style-seed -1",
            "--style-seed -1: should be greater than or equal to 0.",
        ),
        (
            "--model m --labels l --photo p --per-instance",
            "--photo gives every style but --per-instance was given, too",
        ),
        (
            "--model m --labels l",
            "--model m holds no model.json and no latest_net_G.pth: give the folder of a trained",
        ),
        (
            "--exported e --labels l",
            "--exported e holds no export.json: give the folder that `python -m components.exp",
        ),
    ],
)
def test_flags_that_do_not_go_together(capsys, tmp_path, monkeypatch, flags, sentence):
    monkeypatch.chdir(tmp_path)
    assert refusal(capsys, *flags.split(), "--out", "out").startswith(sentence)
    assert not Path("out").exists()


def test_files_that_do_not_fit(capsys, raw, plain, tmp_path):
    labels, inst, out = tmp_path / "label", tmp_path / "inst", tmp_path / "out"
    for name in ("a", "b"):
        write_ids(labels / f"{name}.png", maps(8, 8)[0])
        write_ids(inst / f"{name}.png", maps(8, 8)[1])

    def refused(labels=labels, inst=inst, out=out) -> str:
        return refusal(
            capsys, "--model", plain, "--labels", labels, "--instances", inst, "--out", out
        )

    assert (
        refused(labels=tmp_path / "none")
        == f"--labels {tmp_path}/none is missing: give a file or a folder."
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").write_text("")
    text = refused(labels=tmp_path / "empty")
    assert text.startswith(f"--labels {tmp_path}/empty holds no images: give a folder of .png ")
    assert (
        refused(out=labels / "new")
        == f"--out {labels}/new is inside of --labels {labels}: give another folder."
    )
    assert (
        refused(out=inst) == f"--out {inst} is inside of --instances {inst}: give another folder."
    )
    text = refused(labels=labels / "a.png", out=labels)
    assert text == f"--out {labels} would replace the input {labels}/a.png: give another folder."
    text = refusal(capsys, "--model", plain, "--labels", labels, "--out", out)
    assert text == (
        f"--instances is missing but --model {plain} needs it: give the instance maps of {labels}, "
        "or say --instances components."
    )
    text = refusal(capsys, "--model", plain, "--image", labels, "--out", out)
    assert text == (
        f"--image {labels} was given but --model {plain} takes maps of 35 labels: give them as "
        "--labels."
    )

    (inst / "b.png").rename(tmp_path / "b.png")
    text = refused()
    assert text == (
        f"--instances {inst} has no file named b for {labels}/b.png (1 of 2 inputs lack one): "
        "give one for every input."
    )
    write_ids(inst / "b.png", np.zeros((8, 9), np.uint8))
    text = refused()
    assert (
        text
        == f"--instances: {inst}/b.png is 8x9 but {labels}/b.png is 8x8: give both maps one size."
    )
    write_picture(inst / "b.png", np.zeros((3, 8, 8), np.uint8))
    text = refused()
    assert text == (
        f"--instances: {inst}/b.png is a picture of 3 channels of 8 bits, not a map of ids: "
        "give one grey or palette channel of instance ids."
    )
    (inst / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:50])
    assert refused().startswith(f"--instances: {inst}/b.png cannot be read as an image (")
    (inst / "b.png").write_bytes((tmp_path / "b.png").read_bytes())

    write_ids(labels / "b.png", np.array([[7, 35, 40, 255]] * 4, np.uint8))
    text = refused()
    assert text == (
        f"--labels: {labels}/b.png has labels 35 (25% of the pixels), 40 (25% of the pixels) but "
        "the model knows 0 to 34, and 255 for none: "
        "renumber the labels as they were in training."
    )
    np.save(labels / "b.npy", np.full((8, 8), -1))
    (labels / "b.png").unlink()
    assert "b.npy has labels -1 (100% of the pixels) but the model knows 0 to 34" in refused()
    write_ids(labels / "b.png", np.zeros((8, 8), np.uint8))
    text = refused()
    assert text == (
        f"--labels {labels} holds {labels}/b.npy and {labels}/b.png, of one name: rename one "
        "of them."
    )
    (labels / "b.npy").unlink()
    write_ids(labels / "b.png", np.zeros((1, 8), np.uint8))
    assert refused() == f"--labels: {labels}/b.png is 1x8: give 2x2 or more."
    assert not out.exists()

    write_ids(labels / "b.png", np.zeros((8, 8), np.uint8))
    out.write_text("")
    assert refused().startswith(
        f"--out {out} cannot be written ({out} is a file): give a place you can write to."
    )


def test_data_sets_that_do_not_fit(capsys, plain, tmp_path):
    tiny.dataset(tmp_path / "pictures", input_nc=3)
    tiny.write(tmp_path / "labels", {"test": {"a": {"input": np.zeros((8, 8), np.uint8)}}})
    place, flags = tmp_path / "pictures", ["--model", plain, "--out", tmp_path / "out", "--dataset"]
    text = refusal(capsys, *flags, place)
    assert text == (
        f"--dataset {place} has pictures of 3 channels as input but --model {plain} takes maps of "
        "35 labels: "
        "give a data set of the same input."
    )
    place = tmp_path / "labels"
    text = refusal(capsys, *flags, place)
    assert text == (
        f"--dataset {place} has no instance maps but --model {plain} needs them: give one with "
        "them."
    )
    manifest = DatasetManifest.read(place)
    manifest.model_copy(update={"has_instances": True, "test": []}).write(place)
    text = refusal(capsys, *flags, place)
    assert text == f"--dataset {place} has no pairs in its test split: give another --split."
    text = refusal(capsys, *flags[:-2], place, "--dataset", place)
    assert text.startswith("--dataset") and not (tmp_path / "out").exists()


def test_styles_that_do_not_fit_the_model(capsys, raw, plain, styled, tmp_path):
    model, clusters, out = styled / "model", styled / "clusters", tmp_path / "out"
    maps_and_out = [*of_raw(raw), "--out", out]
    for flags in (
        "--style-seed 1",
        "--per-instance",
        "--variants 2",
        "--clusters c",
        "--photo p",
        "--label-style 7=1",
    ):
        text = refusal(capsys, "--model", plain, *maps_and_out, *flags.split())
        assert text == (
            f"{flags.split()[0]} was given but --model {plain} takes no instance features: "
            "leave it out."
        )
    text = refusal(capsys, "--model", model, *maps_and_out)
    assert text.startswith(
        f"--model {model} takes 3 instance features but --clusters was not given: give the folder "
    )
    tiny.write_clusters(tmp_path / "other", "elsewhere", **STYLES)
    text = refusal(capsys, "--model", model, *maps_and_out, "--clusters", tmp_path / "other")
    assert text.startswith(
        f"--clusters {tmp_path}/other belongs to model elsewhere (3 features), not to --model "
        f"{model}"
    )

    def refused(*flags) -> str:
        return refusal(capsys, "--model", model, "--clusters", clusters, *maps_and_out, *flags)

    assert (
        refused("--label-style", "7")
        == "--label-style '7' is not ID=STYLE: write for example 26=3."
    )
    assert refused("--label-style", "11=0") == (
        f"--label-style 11=0: --clusters {clusters} has no styles of label 11: choose among the "
        "labels 7, 26, 255."
    )
    assert refused("--label-style", "7=3") == (
        f"--label-style 7=3: --clusters {clusters} has the styles 0 to 2 of label 7: choose one "
        "of these."
    )
    assert refused("--instance-style", "40002=2") == (
        "--instance-style 40002=2: instance 40002 of a is of label 26, which has the styles 0 to "
        "1: "
        "choose one of these."
    )
    assert refused("--instance-style", "40003=0", "--instance-style", "40002=0") == (
        "--instance-style 40003: no instance map has this id: choose among theirs."
    )
    text = refusal(capsys, "--model", model, *maps_and_out, "--photo", raw / "img" / "a.png")
    assert text.startswith(
        f"--photo {raw}/img/a.png has no file named b for {raw}/label/b.png (2 of 3 inputs lack "
        "one)"
    )
    card = tiny.model(tmp_path / "alone", FEATURES).model_copy(update={"weights": {}})
    card.write(tmp_path / "alone")  # of stage two, which names no encoder
    (tmp_path / "alone" / "latest_net_E.pth").unlink()
    text = refusal(capsys, "--model", tmp_path / "alone", *maps_and_out, "--photo", raw / "img")
    assert text == (
        f"--photo {raw}/img needs an encoder but --model {tmp_path}/alone has no latest_net_E.pth: "
        "give the model that it was trained with."
    )
    assert not out.exists()


def test_instances_that_only_a_style_needs(capsys, raw, tmp_path):
    """A model without edges takes instance maps for styles of instances, and none otherwise."""
    card = tiny.model(tmp_path / "model", tiny.architecture(feat_num=3, use_instances=False))
    table = tiny.write_clusters(tmp_path / "clusters", card.digest, **STYLES)
    flags = as_flags(model=tmp_path / "model", clusters=tmp_path / "clusters", labels=raw / "label")
    text = refusal(capsys, *flags, "--out", tmp_path / "out", "--per-instance")
    assert text == (
        "--instances is missing but --per-instance needs it: give the instance maps of "
        f"{raw}/label, or say --instances components."
    )
    text = refusal(capsys, *flags, "--out", tmp_path / "out", "--instances", raw / "inst")
    assert text == (
        f"--instances {raw}/inst was given but --model {tmp_path}/model takes none: leave it out."
    )
    run(*flags, "--out", tmp_path / "plain")
    each = dict(instances=raw / "inst", per_instance=True, style_seed=1)
    run(*flags, *as_flags(**each, out=tmp_path / "each"))
    assert contents(tmp_path / "plain") != contents(tmp_path / "each")
    export(tmp_path / "e", Features(), card.architecture, Graph(style="instance"), None, table)
    text = refusal(
        capsys, "--exported", tmp_path / "e", "--labels", raw / "label", "--out", tmp_path / "out"
    )
    assert text.startswith(
        f"--instances is missing but --exported {tmp_path}/e needs it: give the instance maps of "
    )


def test_styles_that_do_not_fit_the_file(capsys, raw, mirror, tmp_path):
    maps_and_out, clusters = [*of_raw(raw), "--out", tmp_path / "out"], mirror / "clusters"

    def refused(form: str, *flags) -> str:
        return refusal(capsys, "--exported", mirror / form, *maps_and_out, *flags)

    for flags in (
        "--style-seed 1",
        "--per-instance",
        "--variants 2",
        "--clusters c",
        "--label-style 7=1",
    ):
        text = refused("fixed", *flags.split())
        assert text == (
            f"{flags.split()[0]} was given but --exported {mirror}/fixed has its styles inside: "
            "export it with --style label or --style instance."
        )
    assert refused("label", "--clusters", clusters, "--per-instance") == (
        f"--per-instance was given but --exported {mirror}/label takes styles by label: "
        "export it with --style instance."
    )
    assert refused("label", "--style-seed", 1) == (
        "--style-seed was given but --clusters was not: give the folder that `python -m "
        "components.cluster` wrote."
    )
    assert refused("map", "--photo", raw / "img") == (
        f"--photo {raw}/img needs an encoder, which --exported {mirror}/map does not have: "
        "give the --model it was made from."
    )
    export(tmp_path / "e", Features(), PLAIN, Graph(), (8, 8))
    text = refusal(capsys, "--exported", tmp_path / "e", *maps_and_out, "--variants", 2)
    assert text == (
        f"--variants was given but --exported {tmp_path}/e takes no instance features: leave "
        "it out."
    )


def test_a_table_of_stage_one_is_known_by_its_centres(capsys, raw, mirror, tmp_path):
    table = tiny.write_clusters(tmp_path / "clusters", "stage one", **STYLES)
    flags = ["--exported", mirror / "label", *of_raw(raw), "--clusters", tmp_path / "clusters"]
    run(*flags, "--label-style", "7=1", "--out", tmp_path / "out")
    assert shown(read_picture(tmp_path / "out" / "a.png"))[7] == GREYS[7][1]
    table.model_copy(update={"overall": [0, 0, 0]}).write(tmp_path / "clusters")
    text = refusal(capsys, *flags, "--out", tmp_path / "out")
    assert text == (
        f"--clusters {tmp_path}/clusters belongs to model stage one, not to --exported "
        f"{mirror}/label, which is model: "
        "give the folder that it was exported with."
    )


def test_files_that_cannot_run(capsys, raw, tmp_path):
    card = export(tmp_path / "e", Features(), PLAIN, Graph(), (8, 8))
    flags = ["--exported", tmp_path / "e", *of_raw(raw), "--out", tmp_path / "out"]
    text = refusal(capsys, *flags, "--runtime", "om")
    assert text == (
        f"--runtime om: --exported {tmp_path}/e holds no compiled file: export it with --format om."
    )
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        text = refusal(capsys, *flags, "--device", "cuda")
        assert text.startswith(
            "--device cuda: ONNX Runtime has no CUDAExecutionProvider here: install its build for "
        )
    text = refusal(capsys, *flags, "--device", "npu")
    assert text.startswith("--device npu: an NPU runs compiled files, not ONNX: add --runtime om")
    card.model_copy(update={"file": "gone.onnx"}).write(tmp_path / "e")
    assert (
        refusal(capsys, *flags)
        == f"--exported {tmp_path}/e has lost its gone.onnx: export the model again."
    )
    assert not (tmp_path / "out").exists()


def test_command_line(raw, plain, tmp_path):
    command = [sys.executable, "-m", "components.export"]
    maps_and_out = [*of_raw(raw), "--out", tmp_path / "out"]
    done = subprocess.run(
        [*command, "synthesise", "--model", plain, *maps_and_out], capture_output=True, text=True
    )
    assert done.returncode == 0 and "wrote 3 pictures" in done.stdout, done.stderr
    done = subprocess.run(
        [*command, "--model", tmp_path, "--exported", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("export refused: ")


@pytest.mark.skipif(not EXCERPT.is_dir(), reason="the excerpt of Cityscapes is not here")
def test_real_maps(styled, tmp_path):
    """Bicycles, whose ids are above 32767, and ids that are bare labels are painted; the same seed,
    the same bytes."""
    city = EXCERPT / "gtFine" / "train" / "aachen"
    for file in sorted(city.glob("aachen_00000[02]*Ids.png")):
        write_ids(tmp_path / "gt" / file.name, resize_ids(read_ids(file), 129, 257))
    model = as_flags(model=styled / "model", clusters=styled / "clusters", labels=tmp_path / "gt")
    flags = [*model, "--instances", tmp_path / "gt", "--per-instance"]
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        run(*flags, "--style-seed", seed, "--out", tmp_path / name)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    first, other = (pictures(tmp_path / name) for name in ("first", "other"))
    for name, picture in first.items():
        assert picture.shape == (3, 129, 257)
        assert np.abs(picture.astype(int) - other[name]).mean() > 1  # of 255

    centres = [np.zeros((1, 3), np.float32)] * 36
    for file in sorted((tmp_path / "gt").glob("*instanceIds.png")):
        instances = read_ids(file)
        labels = read_ids(Path(str(file).replace("instanceIds", "labelIds")))
        scene = Sample.of_maps("a", labels, instances)
        painted = set(CentreStyles(centres, seed=0, per_instance=True).of(scene, 0).by_region)
        assert (
            painted == set(np.unique(instances).tolist())
            and max(painted) > 32767
            and min(painted) < 1000
        )
