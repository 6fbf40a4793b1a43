"""Every form of a deployed file is the same function: styles, one-hot, types, sizes, precision,
foreign weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from components.export.__main__ import main
from components.export.config import ExportConfig
from components.export.run import run
from components.prepare.__main__ import demo
from components.prepare.__main__ import main as prepare
from shared.condition import to_uint8
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, Graph
from shared.data.maps import Sample
from shared.data.reader import PairReader
from shared.deployed.form import Form, stack
from shared.deployed.styles import Style
from shared.deployed.synthesiser import Synthesiser
from shared.errors import InputError
from shared.networks.build import build_generator
from shared.networks.checkpoint import load_generator, save_weights
from tests import published, reference, tiny
from tests.asking import as_flags, refusal
from tests.places import EXCERPT
from tests.tiny import one_thread  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder)
    return folder


def exported(folder: Path, dataset: Path | None, clusters: Path | None = None, **options) -> Path:
    """The ONNX file, in a folder of its own."""
    out = folder / ("exported" + "".join(f"_{value}" for value in options.values()))
    run(
        folder / "model",
        out,
        dataset,
        clusters,
        config=ExportConfig.check(dict(parity_samples=2) | options),
    )
    return out / "generator.onnx"


def onnx_picture(file: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, feed)[0]


def samples(dataset: Path) -> list[Sample]:
    reader = PairReader(dataset, DatasetManifest.read(dataset), "train")
    return list(map(reader.read, range(len(reader))))


def test_all_forms_of_a_feature_model_paint_the_same_picture(tmp_path, dataset):
    """Fixed, by label, by instance, as a map, and with all channels made by the host."""
    a = tiny.architecture(feat_num=3)
    card = tiny.model(tmp_path / "model", a)
    table = tiny.write_clusters(tmp_path / "clusters", card.digest, tiny.style_of_each_label(3))
    style = Style.commonest(table, 35)
    maps = samples(dataset)
    generator = load_generator(tmp_path / "model")[1]
    pictures = {}
    for options in (
        {},
        {"style": "label"},
        {"style": "instance"},
        {"style": "map"},
        {"form": "onehot"},
    ):
        file = exported(tmp_path, dataset, tmp_path / "clusters", **options)
        graph = ExportCard.read(file.parent).graph
        feed = stack([Form(a, graph).feed(pair, style) for pair in maps])
        pictures["_".join(options.values()) or "fixed"] = onnx_picture(file, feed)
        torch_form = Synthesiser(generator, a, torch.from_numpy(style.by_label), graph)
        with torch.inference_mode():
            wanted = torch_form(*map(torch.from_numpy, feed.values())).numpy()
        assert np.abs(pictures["_".join(options.values()) or "fixed"] - wanted).max() < 1e-5
    fixed = pictures.pop("fixed")
    for name, picture in pictures.items():
        assert np.abs(picture - fixed).max() < 1e-5, name


def test_a_style_by_instance_changes_that_instance(tmp_path, dataset):
    """With nothing as generator the features come out: those of the instance are its own, all
    others their label's."""
    a = tiny.architecture(feat_num=3)
    style = np.random.default_rng(0).uniform(-1, 1, (36, 3)).astype(np.float32)
    sample = samples(dataset)[0]
    labels, ids = sample.inputs, sample.instances
    chosen = int(ids.max())
    own = Style(style, {chosen: np.array([9, 8, 7], np.float32)})
    for form in ("instance", "map"):
        graph = Graph(style=form)
        feed = Form(a, graph).feed(sample, own)
        with torch.inference_mode():
            channels = Synthesiser(nn.Identity(), a, None, graph)(
                *map(torch.from_numpy, feed.values())
            )[0, 36:]
        wanted = np.where((ids == chosen)[..., None], [9, 8, 7], style[labels])
        assert np.array_equal(channels.permute(1, 2, 0).numpy(), wanted.astype(np.float32))
    with pytest.raises(
        InputError, match="styles of single instances need a file .*: export with --style instance."
    ):
        Form(a, Graph(style="label")).feed(sample, own)


def test_the_seeds_graph_equals_the_graph_of_maps(tmp_path, dataset):
    """36 channels under the seed's names, made by NumPy here."""
    tiny.model(tmp_path / "model", tiny.architecture())
    maps, seed = (
        exported(tmp_path, dataset),
        exported(tmp_path, dataset, form="onehot", opset=11, batch_size=1),
    )
    file = onnxruntime.InferenceSession(seed, providers=["CPUExecutionProvider"])
    assert [(i.name, i.type, i.shape) for i in file.get_inputs()] == [
        ("input_concat", "tensor(float)", [1, 36, 32, 64])
    ]
    assert [(o.name, o.shape) for o in file.get_outputs()] == [("fake_image", [1, 3, 32, 64])]
    assert onnx.load(seed).opset_import[0].version == 11
    for sample in samples(dataset):
        labels, ids = sample.inputs, sample.instances
        edge = np.zeros(ids.shape, bool)
        edge[1:] |= (differs := ids[1:] != ids[:-1])
        edge[:-1] |= differs
        edge[:, 1:] |= (differs := ids[:, 1:] != ids[:, :-1])
        edge[:, :-1] |= differs
        channels = np.concatenate([np.moveaxis(np.eye(35)[labels], -1, 0), edge[None]]).astype(
            np.float32
        )
        assert np.array_equal(
            Form(tiny.architecture(), Graph(form="onehot")).feed(sample)["input_concat"][0],
            channels,
        )
        wanted = onnx_picture(maps, {"labels": labels[None], "instances": ids[None]})
        assert np.abs(file.run(None, {"input_concat": channels[None]})[0] - wanted).max() < 1e-5


def test_bytes_of_a_full_size_input():
    """A 1024x2048 picture of Cityscapes: 10.5 MB, 6.3 with 16-bit ids, 302 for the seed's file."""
    labels, ids = np.full((1024, 2048), 33, np.uint8), np.full((1024, 2048), 33001, np.int32)
    ids[:, :1000] = 65535

    def size(**form) -> int:
        fed = Form(tiny.architecture(), Graph(**form)).feed(Sample.of_maps("", labels, ids))
        return sum(array.nbytes for array in fed.values())

    assert size() == 10_485_760
    assert size(ids="int16") == 6_291_456
    assert size(form="onehot") == 301_989_888


def test_ids_of_16_bits_give_the_same_edges(tmp_path, dataset):
    """Ids above 32767 (bicycles are 33000 and more) are numbered anew."""
    a = tiny.architecture()
    tiny.model(tmp_path / "model", a)
    wide, narrow = exported(tmp_path, dataset), exported(tmp_path, dataset, ids="int16")
    for sample in samples(dataset):
        sample = replace(sample, ids=sample.ids + 10_000)
        assert sample.ids.max() > 32767 and len(sample.ids) > 5
        feed = Form(a, Graph(ids="int16")).feed(sample)
        assert feed["instances"].dtype == np.int16
        assert np.array_equal(
            onnx_picture(narrow, feed), onnx_picture(wide, Form(a, Graph()).feed(sample))
        )


def test_labels_of_32_bits_are_the_same_labels(tmp_path, dataset):
    a = tiny.architecture()
    tiny.model(tmp_path / "model", a)
    wide, narrow = exported(tmp_path, dataset, labels="int32"), exported(tmp_path, dataset)
    for pair in samples(dataset):
        feed = Form(a, Graph(labels="int32")).feed(pair)
        assert feed["labels"].dtype == np.int32
        assert np.array_equal(
            onnx_picture(wide, feed), onnx_picture(narrow, Form(a, Graph()).feed(pair))
        )


def test_uint8_pictures_are_the_float_ones_rounded(tmp_path, dataset):
    tiny.model(tmp_path / "model", tiny.architecture())
    signed, rounded = exported(tmp_path, dataset), exported(tmp_path, dataset, output="uint8")
    parity = ExportCard.read(rounded.parent).parity[0]
    assert parity.max_abs_error <= 1e-4 + 1 / 127.5 and parity.mean_abs_error <= 1e-4
    for pair in samples(dataset):
        feed = Form(tiny.architecture(), Graph()).feed(pair)
        picture = onnx_picture(rounded, feed)
        assert picture.dtype == np.uint8
        assert np.array_equal(
            picture, to_uint8(torch.from_numpy(onnx_picture(signed, feed))).numpy()
        )


def test_a_fixed_batch_is_fixed(tmp_path, dataset):
    tiny.model(tmp_path / "model", tiny.architecture())
    file = exported(tmp_path, dataset, batch_size=2)
    assert [spec.shape for spec in ExportCard.read(file.parent).inputs] == [[2, 32, 64]] * 2
    one = Form(tiny.architecture(), Graph()).feed(samples(dataset)[0])
    onnx_picture(file, stack([one, one]))
    with pytest.raises(Exception, match="Got: 1 Expected: 2"):
        onnx_picture(file, one)


@pytest.mark.parametrize(
    "changes",
    [
        dict(netG="global"),
        dict(netG="local"),
        dict(netG="unet_128", norm="batch", num_labels=0, input_nc=3, use_instances=False),
        dict(netG="resnet_6blocks", norm="batch", feat_num=3),
    ],
    ids=lambda changes: changes["netG"],
)
def test_one_file_for_any_size(tmp_path, changes):
    """The padding, which depends on the size, is computed in the graph, in as many turns as it
    takes."""
    a = tiny.architecture(**changes)
    card = tiny.model(tmp_path / "model", a)
    least = 128 if a.netG == "unet_128" else 16
    rng = np.random.default_rng(0)
    style = None
    if a.feat_num:
        style = Style.commonest(
            tiny.write_clusters(tmp_path / "clusters", card.digest, tiny.style_of_each_label(3)),
            35,
        )
    splits = {"train": {"a": tiny.sample(rng, least, 2 * least, a.input_nc)}, "test": {}}
    tiny.write(tmp_path / "dataset", splits, num_labels=a.num_labels, input_nc=a.input_nc)
    clusters = tmp_path / "clusters" if a.feat_num else None
    file = exported(tmp_path, tmp_path / "dataset", clusters, size="dynamic")
    written = ExportCard.read(file.parent)
    assert written.inputs[0].shape[-2:] == ["height", "width"] == written.outputs[0].shape[-2:]
    fixed = None if style is None else torch.from_numpy(style.by_label)
    synthesiser = Synthesiser(load_generator(tmp_path / "model")[1], a, fixed)
    sizes = ((2, 2), (3, 2 * least), (5, least - 1), (least + 1, 2 * least - 3), (2 * least + 7, 4))
    for height, width in sizes:
        inputs = rng.integers(
            0, 35, (a.input_nc, height, width) if a.input_nc else (height, width), np.uint8
        )
        instances = rng.integers(0, 9, (height, width), np.int32)
        feed = Form(a, written.graph).feed(Sample.of_maps("", inputs, instances), style)
        with torch.inference_mode():
            wanted = synthesiser(*map(torch.from_numpy, feed.values())).numpy()
        picture = onnx_picture(file, feed)
        assert picture.shape == (1, 3, height, width) and np.abs(picture - wanted).max() < 1e-4


def test_weights_of_a_large_file_lie_beside_it(tmp_path, dataset):
    tiny.model(tmp_path / "model", tiny.architecture(ngf=16))
    whole, split = (
        exported(tmp_path, dataset),
        exported(tmp_path, dataset, external_data_above_mb=0),
    )
    assert not whole.with_name("generator.onnx.data").exists()
    data = split.with_name("generator.onnx.data")
    assert (
        data.stat().st_size > 10 * split.stat().st_size
        and data.stat().st_mode == split.stat().st_mode
    )
    feed = Form(tiny.architecture(), Graph()).feed(samples(dataset)[0])
    assert np.array_equal(onnx_picture(whole, feed), onnx_picture(split, feed))

    exported(tmp_path, dataset, external_data_above_mb=0)  # again
    run(tmp_path / "model", split.parent, dataset, config=ExportConfig(parity_samples=1))
    assert not data.exists(), "of the earlier, split file"


def test_weights_that_16_bits_cannot_hold_are_refused(tmp_path, dataset):
    G = build_generator(tiny.architecture())
    G.model[1].weight.data[0, 0, 0, 0] = -65505
    save_weights(tmp_path / "model", {"G": G})
    assert refusal(exported, tmp_path, dataset, precision="fp16") == (
        "--precision fp16 holds numbers up to 65504 but tensor generator.model.1.weight has 65505: "
        "give --precision fp32."
    )


@pytest.mark.parametrize("instance_norm", ["precise", "native"])
def test_half_precision(tmp_path, dataset, instance_norm):
    """Weights of 16 bits, inputs and outputs as before, near the picture in fp32."""
    a = tiny.architecture(netG="local", ngf=8)
    tiny.model(tmp_path / "model", a)
    fp32, fp16 = (
        exported(tmp_path, dataset),
        exported(tmp_path, dataset, precision="fp16", instance_norm=instance_norm),
    )
    card = ExportCard.read(fp16.parent)
    assert (
        card.precision == "fp16"
        and card.parity[0].limit == 0.05
        and card.parity[0].max_abs_error > 1e-5
    )
    assert fp16.stat().st_size < 0.7 * fp32.stat().st_size
    weights = [
        t.data_type
        for t in onnx.load(fp16).graph.initializer
        if len(t.dims) == 4 and t.dims[-1] > 1
    ]
    assert weights and set(weights) == {onnx.TensorProto.FLOAT16}
    feed = Form(a, Graph()).feed(samples(dataset)[0])
    picture = onnx_picture(fp16, feed)
    assert picture.dtype == np.float32 and np.abs(picture - onnx_picture(fp32, feed)).max() < 0.02


def test_dropout_goes_on_where_it_is_asked_for(tmp_path):
    a = tiny.architecture(
        netG="unet_128",
        norm="batch",
        dropout=True,
        num_labels=0,
        input_nc=3,
        use_instances=False,
        netD="n_layers",
    )
    tiny.model(tmp_path / "model", a, gain=0.1, height=128, width=128)
    file, quiet = exported(tmp_path, None, dropout=True), exported(tmp_path, None)
    assert ExportCard.read(file.parent).dropout
    layers = sum(
        isinstance(module, nn.Dropout) for module in load_generator(tmp_path / "model")[1].modules()
    )
    assert (
        layers
        and sum(node.op_type == "RandomUniformLike" for node in onnx.load(file).graph.node)
        == layers
    )
    feed = {"image": np.random.default_rng(0).integers(0, 255, (1, 3, 128, 128), np.uint8)}
    for path, same in ((file, False), (quiet, True)):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert np.array_equal(session.run(None, feed)[0], session.run(None, feed)[0]) == same
    with pytest.raises(
        InputError, match="--dropout was given but --model .* has no dropout: leave it out."
    ):
        tiny.model(tmp_path / "model", tiny.architecture())
        exported(tmp_path, None, dropout=True)


PICTURES = dict(num_labels=0, input_nc=3)
FOREIGN = {
    "nvidia_global": (published.nvidia_global(ngf=8), lambda w, x: reference.hourglass(w, x, 4, 9)),
    "nvidia_local": (
        published.nvidia_local(ngf=4),
        lambda w, x: reference.local_enhancer(w, x, 4, 9, 3),
    ),
    "junyanz_unet": (
        published.junyanz_unet(8),
        lambda w, x: reference.unet(w, x, 8, training=False),
    ),
    "junyanz_resnet": (
        published.junyanz_resnet(9, True),
        lambda w, x: reference.hourglass(w, x, 2, 9, training=False),
    ),
}


@pytest.fixture(scope="module")
def street_maps(tmp_path_factory):
    """Label maps: of the real excerpt where it is, else of the demo's streets."""
    folder = tmp_path_factory.mktemp("maps")
    raw = EXCERPT
    if not raw.is_dir():
        raw = folder / "raw"
        demo(raw, train=2, test=2)
    flags = as_flags(raw_data=raw, dataset=folder / "labels", size="128x256")
    prepare(flags)
    rng = np.random.default_rng(0)
    tiny.write(
        folder / "pictures",
        {
            "train": {"a": tiny.sample(rng, 256, 256, 3)},
            "test": {"b": tiny.sample(rng, 256, 256, 3)},
        },
        **PICTURES,
    )
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("nvidia_global", "junyanz_unet"),
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("nvidia_local", "junyanz_resnet")),
    ],
)
def test_a_bare_checkpoint_is_exported_and_equals_an_independent_network(
    tmp_path, street_maps, name
):
    """Files in the published layouts; the pictures are compared with the slow reference of these
    tests."""
    layout, network = FOREIGN[name]
    weights = published.with_values(layout)
    (tmp_path / "model").mkdir()
    torch.save(weights, tmp_path / "model" / "latest_net_G.pth")
    is_hd = name.startswith("nvidia")
    size, data = ("128x256", "labels") if is_hd else ("256x256", "pictures")
    folders = dict(model=tmp_path / "model", exported=tmp_path / "exported")
    flags = as_flags(**folders, dataset=street_maps / data, size=size, parity_samples=2)
    main(flags)
    for sample in samples(street_maps / data):
        if is_hd:
            feed = {"labels": sample.inputs[None], "instances": sample.instances[None]}
            x = torch.from_numpy(
                Form(tiny.architecture(), Graph(form="onehot")).feed(sample)["input_concat"]
            )
        else:
            feed = {"image": np.array(sample.inputs)[None]}
            x = torch.from_numpy(feed["image"] / 127.5 - 1).float()
        with torch.inference_mode():
            wanted = network(weights, x).numpy()
        assert wanted.std() > 0.01
        assert (
            np.abs(onnx_picture(tmp_path / "exported" / "generator.onnx", feed) - wanted).max()
            < 1e-4
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            dict(size="big"),
            "--size 'big': should be HEIGHTxWIDTH, for example 128x256, dynamic, or empty",
        ),
        (dict(size="1x9"), "--size '1x9': both sides should be 2 pixels or more"),
        (
            dict(form="onehot", style="map"),
            "--style map needs --form maps: with onehot the host makes",
        ),
        (
            dict(form="onehot", ids="int16"),
            "--ids int16 needs --form maps: with onehot there are no ids in the input",
        ),
        (
            dict(form="onehot", labels="int32"),
            "--labels int32 needs --form maps: with onehot there are no ids in",
        ),
        (dict(format="om", size="dynamic"), "--format om with --size dynamic: atc needs the size"),
        (
            dict(format="om", style="instance"),
            "--format om with --style instance: atc needs tables of fixed length",
        ),
        (dict(format="om", dropout=True), "--format om with --dropout: random pictures cannot"),
        (
            dict(format="om", batch_size=2),
            "--om-batch-sizes 1 do not fit --batch-size 2: leave --batch-size out",
        ),
        (dict(input="onehot"), "--input has a new name: write --form."),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(options, sentence):
    with pytest.raises(InputError) as refusal:
        ExportConfig.check(options)
    assert str(refusal.value).startswith(sentence) and str(refusal.value).count(".") <= 2
