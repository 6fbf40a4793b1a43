"""The int8 twin of a file: the same picture nearly, judged before it is kept, painted and measured
beside the file."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from components.benchmark.__main__ import main as benchmark
from components.benchmark.config import GateOptions
from components.benchmark.gate import parity_faults
from components.export import int8_twin
from components.export.__main__ import main
from components.export.checks import preflight
from components.export.config import ExportConfig
from components.export.run import run
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, Graph, Int8Twin
from shared.contracts.forecast import PreparedData
from shared.contracts.measured import BenchmarkReport
from shared.data.images import read_picture
from shared.data.reader import PairReader
from shared.deployed.form import Feeds, Form
from shared.files.digests import sha256_of
from tests import tiny
from tests.asking import as_flags, one_sentence, refusal_of_command
from tests.tiny import one_thread  # noqa: F401 - a fixture

FILE, TWIN = ExportCard.ONNX, ExportCard.INT8


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A data set, a model, and its export with a twin, by the command line."""
    root = tmp_path_factory.mktemp("int8")
    tiny.dataset(root / "dataset", train=5, test=3)
    tiny.model(root / "model", tiny.architecture(netG="local"), gain=0.3)
    given = {name: root / name for name in ("model", "dataset", "exported")}
    main(as_flags(**given, int8="on", int8_least_psnr_db=20, int8_max_loss=1))
    return given


def feeds_of(dataset: Path, card: ExportCard, split: str = "test") -> list[Feeds]:
    manifest, form = DatasetManifest.read(dataset), Form.of_export(card)
    reader = PairReader(dataset, manifest, split)
    return [form.feed(reader.read(i, form.size)) for i in range(len(reader))]


def picture(file: Path, feed: Feeds) -> np.ndarray:
    """(3, H, W) float64 of whole numbers 0 .. 255."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    signed = session.run(None, feed)[0][0].astype(np.float64)
    return np.rint((signed + 1) * 127.5).clip(0, 255)


def psnrs(exported: Path, feeds: list[Feeds]) -> list[float]:
    """Of the twin against the file, in dB."""
    errors = [picture(exported / FILE, feed) - picture(exported / TWIN, feed) for feed in feeds]
    return [10 * np.log10(255**2 / (error**2).mean()) for error in errors]


def test_the_twin_is_on_the_card_with_what_was_measured(folders):
    exported, card = folders["exported"], ExportCard.read(folders["exported"])
    assert card.files[TWIN] == sha256_of(exported / TWIN).hex()
    assert card.int8.file == TWIN and card.precision == "fp32"
    assert (card.int8.calibration_pairs, card.int8.test_pairs) == (5, 3)
    found = psnrs(exported, feeds_of(folders["dataset"], card))
    assert card.int8.psnr_db == pytest.approx(min(found), abs=0.3) and min(found) < 99

    # Against the photos: what it loses of the mean over the pairs that have one.
    assert card.int8.lost.keys() == {"psnr_db", "ssim", "l1"}
    feeds = feeds_of(folders["dataset"], card)[:2]  # the last has no photo
    manifest = DatasetManifest.read(folders["dataset"])
    reader = PairReader(folders["dataset"], manifest, "test")
    l1 = {
        name: np.mean(
            [
                abs(picture(exported / name, feed) - reader.read(i).photo).mean()
                for i, feed in enumerate(feeds)
            ]
        )
        for name in (FILE, TWIN)
    }
    assert card.int8.lost["l1"] == pytest.approx(l1[TWIN] / l1[FILE] - 1, abs=2e-4)


def test_all_convolutions_but_the_one_that_makes_the_picture_compute_in_int8(folders):
    model = onnx.load(folders["exported"] / TWIN)
    makes = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type.startswith("Conv")]
    kinds = {}
    for node in layers:
        sources = [makes.get(name) for name in node.input[:2]]
        is_int8 = [
            source is not None and source.op_type == "DequantizeLinear" for source in sources
        ]
        assert is_int8 in ([True, True], [False, False])
        kinds.setdefault((node.op_type, is_int8[0]), []).append(node)
        if is_int8[0]:
            weight, scale = (constants[name] for name in sources[1].input[:2])
            assert weight.data_type == TensorProto.INT8
            assert list(scale.dims) == [weight.dims[0]], "a scale for each channel"
            users = [user for user in model.graph.node if node.output[0] in user.input]
            assert [user.op_type for user in users] == ["QuantizeLinear"], "or ORT computes in fp32"
    assert len(kinds["Conv", True]) == 9  # stems 2, down 3, blocks 4
    assert kinds["Conv", False] == [layers[-1]] and ("ConvTranspose", True) not in kinds
    assert len(kinds["ConvTranspose", False]) == 3
    facts = {entry.key: entry.value for entry in model.metadata_props}
    of_fp32 = onnx.load(folders["exported"] / FILE).metadata_props
    assert facts == {entry.key: entry.value for entry in of_fp32} | {"precision": "int8"}


def test_the_ranges_are_those_of_the_training_maps(folders):
    """One-hot labels and edges are 0 or 1: of 255 steps one is 1 / 255, and both are exact."""
    model = onnx.load(folders["exported"] / TWIN)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    scale, zero = (constants[name] for name in first.input[1:])
    assert float(scale) == pytest.approx(1 / 255) and zero == 0 and zero.dtype == np.uint8


def test_synthesise_paints_with_the_twin(folders, tmp_path, capsys):
    flags = dict(dataset=folders["dataset"], exported=folders["exported"])
    main(["synthesise", *as_flags(**flags, int8=True, out=tmp_path)])
    assert "onnxruntime on cpu in int8" in capsys.readouterr().out
    card = ExportCard.read(folders["exported"])
    for number, feed in enumerate(feeds_of(folders["dataset"], card)):
        wanted = picture(folders["exported"] / TWIN, feed)
        assert np.array_equal(read_picture(tmp_path / f"test_{number}.png"), wanted)


def test_benchmark_measures_it_beside_the_file(folders, tmp_path):
    flags = dict(runtimes="onnxruntime", batch_sizes=1, rounds=1, warmup=1, device="cpu")
    report = tmp_path / "report"
    benchmark(as_flags(**folders, report=report, **flags))
    found = BenchmarkReport.read(report)
    assert [(row.runtime, row.precision) for row in found.speed] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
    ]
    assert all(row.images_per_second > 0 for row in found.speed)
    of_fp32, of_int8 = found.parity
    assert of_fp32.least_psnr_db == 0 and of_int8.least_psnr_db == 20 <= of_int8.psnr_db < 99

    # Its quality beside that of the file, and its pictures where they are another.
    assert found.quality.pairs == found.int8_quality.pairs == 2
    lost = 1 - found.int8_quality.psnr_db / found.quality.psnr_db
    of_export = ExportCard.read(folders["exported"]).int8.lost["psnr_db"]
    assert of_export == pytest.approx(lost, abs=1e-4)
    assert found.headline()["test_int8/psnr_db"] == found.int8_quality.psnr_db
    assert "int8     PSNR" in (report / "table.txt").read_text()
    names = {path.name for path in (report / "pictures").iterdir()}
    assert "test_test_0_synthesised_onnxruntime_int8.png" in names

    # On a CPU where its pictures are worse the gate says so.
    assert parity_faults(found.parity, GateOptions()) == []
    worse = of_int8.model_copy(update={"psnr_db": 19.5})
    assert parity_faults([of_fp32, worse], GateOptions()) == [
        "The pictures of the int8 file in onnxruntime have 19.5 dB PSNR against PyTorch's, 20 dB "
        "are asked for."
    ]


def test_what_changes_the_picture_too_much_is_not_kept(folders, tmp_path, capsys):
    given = folders | {"exported": tmp_path / "exported"}
    main(as_flags(**given, int8="auto", int8_least_psnr_db=100, int8_max_loss=1))
    said = [line for line in capsys.readouterr().out.splitlines() if "no int8 file" in line]
    card = ExportCard.read(given["exported"])
    assert said == [
        "export: no int8 file: it changes the pictures too much: the lowest PSNR against those of "
        f"fp32 is {card.int8.psnr_db:.1f} dB where 100 dB are asked for"
    ]
    assert card.int8.file == "" and card.files.keys() == {FILE}
    assert not list(given["exported"].glob("*int8*"))
    asked = as_flags(exported=given["exported"], dataset=given["dataset"], out=tmp_path / "out")
    refused = refusal_of_command(capsys, main, "synthesise", *asked, "--int8")
    assert refused.startswith(f"--int8: --exported {given['exported']} has no int8 file, which ")
    assert f"is {card.int8.psnr_db:.1f} dB where 100 dB are asked for" in refused

    # Where it has to be there, the step fails, and what was exported before stays.
    before = {path.name: path.read_bytes() for path in given["exported"].iterdir()}
    with pytest.raises(SystemExit) as stop:
        main(as_flags(**given, int8="on", int8_least_psnr_db=100, int8_max_loss=1))
    captured = capsys.readouterr()
    assert stop.value.code == 1
    sentence = one_sentence(captured.err.strip().splitlines()[-1])
    assert "int8 changes the pictures of 3 test pairs too much: the lowest PSNR" in sentence
    assert sentence.endswith("100 dB are asked for; --int8 auto exports without it.")
    assert before == {path.name: path.read_bytes() for path in given["exported"].iterdir()}


def test_quality_against_the_photos_counts_too():
    lost = dict(psnr_db=0.004, ssim=0.02, l1=-0.3)
    values = dict(file=TWIN, calibration_pairs=8, test_pairs=8, psnr_db=44.0, least_psnr_db=35)
    twin = Int8Twin(**values, lost=lost, max_loss=0.01)
    assert twin.reasons() == ["ssim against the photos loses 2.0% where 1.0% is allowed"]
    assert twin.model_copy(update={"max_loss": 0.02}).reasons() == []
    assert len(twin.model_copy(update={"psnr_db": float("nan")}).reasons()) == 2


def test_a_share_is_of_the_figure_of_the_file(monkeypatch):
    photo = np.full((3, 32, 64), 100, np.uint8)
    painted = iter([np.full((1, 3, 32, 64), level, np.uint8) for level in (110, 112)])
    monkeypatch.setattr(int8_twin, "open_runner", lambda *given: lambda feed: next(painted))
    psnr, lost = int8_twin.judge(None, Path(FILE), Path(TWIN), [({}, photo)])
    assert psnr == pytest.approx(10 * np.log10(255**2 / 4))
    assert lost["l1"] == pytest.approx(12 / 10 - 1)
    of_file, of_twin = (20 * np.log10(255 / error) for error in (10, 12))
    assert lost["psnr_db"] == pytest.approx(1 - of_twin / of_file)


@pytest.mark.parametrize("style", ["label", "fixed"])
def test_pictures_have_styles_of_their_own_where_the_file_takes_them(tmp_path, style):
    a = tiny.architecture(feat_num=3)
    table = tiny.write_clusters(tmp_path, "", tiny.TWO_STYLES)
    styles = int8_twin.styles_of(Form(a, Graph(style=style)), table)
    drawn = [next(styles) for _ in range(20)]
    if style == "fixed":
        assert drawn == [None] * 20
        return
    for label, centres in tiny.TWO_STYLES.items():
        found = {tuple(one.by_label[label].tolist()) for one in drawn}
        assert found == {tuple(centre) for centre in centres}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (dict(precision="fp16"), "--int8 on with --precision fp16: "),
        (dict(opset=12), "--int8 on with --opset 12: "),
        (dict(dropout=True), "--int8 on with --dropout: "),
        (dict(format="om"), "--int8 on with --format om: "),
        (dict(int8_least_psnr_db=101), "--int8-least-psnr-db 101.0: "),
        (dict(int8_calibration_pairs=0), "--int8-calibration-pairs 0: "),
        (dict(dataset=None), "--int8 on needs --dataset, "),
    ],
)
def test_what_does_not_go_together_is_said_before_work(folders, tmp_path, capsys, words, sentence):
    given = folders | {"exported": tmp_path / "exported", "int8": "on"} | words
    flags = as_flags(**{name: value for name, value in given.items() if value is not None})
    assert refusal_of_command(capsys, main, *flags).startswith(sentence)
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_pairs_of_both_splits_are_needed(folders, tmp_path, capsys, split):
    counts = dict(train=2, test=2) | {split: 0}
    manifest = tiny.dataset(tmp_path / "dataset", **counts)
    given = folders | {"dataset": tmp_path / "dataset", "exported": tmp_path / "exported"}
    wanted = f"--dataset {tmp_path}/dataset has no {split} pairs: prepare it with some, or leave"
    assert wanted in refusal_of_command(capsys, main, *as_flags(**given, int8="auto"))

    # A pipeline says it before its first step.
    data, config = PreparedData(manifest, has_cache=False), ExportConfig(int8="auto")
    card = tiny.model(tmp_path / "model", tiny.architecture())
    forecast = preflight(data, card, None, tmp_path, config)
    assert [f"has no {split} pairs" in sentence for sentence in forecast.refusals] == [True]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--runtime", "om"], "--int8 with --runtime om: "),
        (["--precision", "bf16"], "--precision bf16 is for --model but --exported keeps its own: "),
        (["--device", "cuda"], "--int8 with --device cuda: "),
    ],
)
def test_synthesise_says_what_does_not_go_with_it(folders, tmp_path, capsys, words, sentence):
    asked = as_flags(exported=folders["exported"], dataset=folders["dataset"], out=tmp_path / "out")
    said = refusal_of_command(capsys, main, "synthesise", *asked, "--int8", *words)
    assert said.startswith(sentence)


def test_what_is_not_there_is_said(folders, tmp_path, capsys):
    asked = as_flags(dataset=folders["dataset"], out=tmp_path / "out", int8=True)
    model = as_flags(model=folders["model"])
    said = refusal_of_command(capsys, main, "synthesise", *asked, *model)
    assert said.startswith("--int8 takes a file of --exported: ")
    tiny.export_card(tmp_path, tiny.architecture(), Graph())
    exported = as_flags(exported=tmp_path)
    assert refusal_of_command(capsys, main, "synthesise", *asked, *exported) == (
        f"--int8: --exported {tmp_path} has no int8 file: export it with --int8 on."
    )


@pytest.mark.slow
def test_openvino_paints_with_it(folders, tmp_path):
    """Nearly as ONNX Runtime does, also where it computes all else in bf16."""
    openvino_runner = pytest.importorskip("shared.deployed.openvino_runner")
    pytest.importorskip("openvino")
    card = ExportCard.read(folders["exported"])
    wanted = picture(folders["exported"] / TWIN, feeds_of(folders["dataset"], card)[0])
    for precision in ["auto", "fp32"] + ["bf16"] * openvino_runner.has_bf16():
        flags = as_flags(exported=folders["exported"], dataset=folders["dataset"], int8=True)
        flags += as_flags(runtime="openvino", precision=precision, out=tmp_path / precision)
        main(["synthesise", *flags])
        error = read_picture(tmp_path / precision / "test_0.png") - wanted
        assert 10 * np.log10(255**2 / (error**2).mean()) > 25
    runner = openvino_runner.OpenVinoRunner(folders["exported"] / TWIN, "int8")
    assert (runner.name, runner.precision) == ("openvino", "int8")


STYLES = [dict(style=style) for style in ("fixed", "label", "instance", "map")]
U_NET = dict(netG="unet_128", num_labels=0, input_nc=3, use_instances=False)
RESNET = dict(netG="resnet_6blocks", num_labels=0, input_nc=3, use_instances=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "options"),
    [
        *((dict(feat_num=3), style) for style in STYLES),
        (dict(feat_num=3), dict(form="onehot")),
        (dict(netG="local", feat_num=3), dict(instance_norm="native", parity_limit=0.01)),
        (dict(), dict(size="dynamic", opset=13)),
        (dict(), dict(size="33x51", output="uint8", ids="int16", opset=18)),
        (dict(netG="local"), dict(batch_size=2, external_data_above_mb=0)),
        (U_NET | dict(norm="batch"), dict(size="128x128")),
        (U_NET | dict(norm="batch"), dict(size="128x128", batch_norm="picture")),
        (RESNET | dict(norm="instance"), dict()),
    ],
    ids=str,
)
def test_every_kind_has_a_twin(tmp_path, network, options):
    """Bytes are the same at every export; the twin takes the inputs of the file."""
    architecture = tiny.architecture(**network)
    tiny.dataset(tmp_path / "dataset", input_nc=architecture.input_nc)
    card = tiny.model(tmp_path / "model", architecture, gain=0.1)
    clusters = tmp_path / "clusters" if architecture.feat_num else None
    if clusters:
        tiny.write_clusters(clusters, card.digest, tiny.TWO_STYLES)
    config = ExportConfig.check(dict(int8="on", int8_least_psnr_db=25, int8_max_loss=1) | options)
    given = tmp_path / "model", tmp_path / "exported", tmp_path / "dataset", clusters
    run(*given, config=config)
    exported, first = tmp_path / "exported", (tmp_path / "exported" / TWIN).read_bytes()
    inputs = [
        [(one.name, one.type, one.shape) for one in onnxruntime.InferenceSession(file).get_inputs()]
        for file in (exported / FILE, exported / TWIN)
    ]
    assert inputs[0] == inputs[1]
    assert set(ExportCard.read(exported).files) == {path.name for path in exported.glob("*.onnx*")}
    run(*given, config=config)
    assert (exported / TWIN).read_bytes() == first
