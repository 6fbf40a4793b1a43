"""The table and the page: what they say, that the page is whole and needs nothing from outside, and
its charts."""

import contextlib
import itertools
import re
import socket
import time
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow import MlflowClient

from components.benchmark.component import benchmark
from components.benchmark.measure.quality import QualityMeter
from components.benchmark.measure.workload import Workload
from components.benchmark.page import history
from components.benchmark.page.charts import Line, line_chart, round_numbers, written
from components.benchmark.page.history import EarlierRun, Past, read_past, thinned
from components.benchmark.page.pictures import Shown, difference, synthesise, write_pictures
from components.benchmark.page.published import INFERENCE, TRAINING
from components.benchmark.page.report import write_page
from components.benchmark.page.subject import Subject
from components.benchmark.page.table import text_table
from shared import tracking
from shared.contracts.exported import Graph, Parity
from shared.contracts.labels import Label
from shared.contracts.measured import BenchmarkReport, LabelStyles, Quality, SpeedRow
from shared.data.images import read_picture
from shared.deployed.form import Form
from shared.deployed.painter import Painter
from shared.quality import psnr_db
from tests import tiny

FIGURES = dict(
    device_images_per_second=None,
    images_per_second=None,
    end_to_end_images_per_second=None,
    latency_ms_p50=None,
    latency_ms_p90=None,
    latency_ms_p99=None,
    peak_memory_mb=None,
    speedup=None,
)


def speed_row(runtime, batch_size, precision="fp32", **figures) -> SpeedRow:
    values = dict(runtime=runtime, device="cpu", precision=precision, batch_size=batch_size)
    return SpeedRow(**values | FIGURES | figures)


def small_report(**changes) -> BenchmarkReport:
    latencies = dict(
        latency_ms_p50=10.0, latency_ms_p90=11.06, latency_ms_p99=1234.5, peak_memory_mb=512.4
    )
    parity = dict(
        samples=4, max_abs_error=2.5e-6, mean_abs_error=3e-7, cosine=1, psnr_db=100, limit=1e-4
    )
    values = dict(
        speed=[
            speed_row("torch", 1, images_per_second=9.5, speedup=1, **latencies),
            speed_row("ais_bench", 16, "fp16", device_images_per_second=123.456),
            speed_row("torch", 16, problem="out of memory"),
        ],
        parity=[Parity(runtime="onnxruntime", device="cpu", precision="fp32", **parity)],
        quality=Quality(pairs=0),
        train_quality=Quality(
            pairs=1, psnr_db=12.345, ssim=0.5, fid=250.04, caveats=["FID of 1 pair is noise."]
        ),
        height=128,
        width=256,
        model_digest="m",
        dataset_digest="d",
        environment={"measured": "2026-11-21 12:00 UTC"},
        method="as tests do",
    )
    return BenchmarkReport(**values | changes)


GREY = np.full((3, 8, 8), 128, np.uint8)


# The table.


def test_text_table():
    styles = [
        LabelStyles(
            label=26,
            name="car",
            centres=3,
            instances=120,
            fallback=False,
            explained=0.454,
            picture_difference=7.34,
        ),
        LabelStyles(
            label=7, centres=1, instances=9, fallback=False, explained=None, picture_difference=None
        ),
        LabelStyles(
            label=5, centres=1, instances=1, fallback=True, explained=None, picture_difference=None
        ),
    ]
    assert text_table(small_report(styles=styles)).split("\n") == [
        "runtime    device  precision  batch  device img/s  img/s  end-to-end img/s"
        "  p50 ms  p90 ms  p99 ms  peak MB  x torch fp32",
        "torch      cpu     fp32           1             -   9.50                 -"
        "    10.0    11.1  1234.5      512          1.00",
        "ais_bench  cpu     fp16          16        123.46      -                 -"
        "       -       -       -        -             -",
        "torch      cpu     fp32          16  out of memory",
        "parity   onnxruntime cpu fp32: max abs error 2.5e-06, mean 3.0e-07 of pictures in [-1, "
        "1], cosine 1.000000, "
        "PSNR 100.00 dB (limit 0.0001, 4 samples)",
        "test     no pairs with a photo",
        "train    PSNR 12.35 dB, SSIM 0.500, FID 250.0 (1 pair)",
        "         caution: FID of 1 pair is noise.",
        "style    label 26 (car): 3 centres of 120 instances, explain 45% of the variance, "
        "pictures differ by 7.3 levels",
        "style    label 7: 1 centre of 9 instances",
        "style    label 5: 1 centre, the mean of 1 instance that is too small",
    ]


# Charts.


def test_chart_of_two_lines():
    """The plot lies between 62 and 440 across, and 208 (bottom) and 12 (top) down: 100 img/s are
    196 units high."""
    lines = [Line("torch", [(0, 25), (1, 50), (2, 100)]), Line("om", [(0, 100)])]
    chart = str(
        line_chart("img/s", lines, "batch size", "img/s", {0: "1", 1: "4", 2: "8"}, (0, 100))
    )
    assert '<g class="s0"><path d="M62.0 159.0L251.0 110.0L440.0 12.0"/>' in chart
    assert '<g class="s1"><path d="M62.0 12.0"/><circle cx="62.0" cy="12.0" r="3.5">' in chart
    assert re.findall("<title>(.*?)</title>", chart) == [
        "torch, 1: 25 img/s", "torch, 4: 50 img/s", "torch, 8: 100 img/s", "om, 1: 100 img/s",
    ]  # fmt: skip
    assert re.findall(r'<text x="54" y="([\d.]+)" text-anchor="end">(\d+)<', chart) == [
        ("212.0", "0"), ("172.8", "20"), ("133.6", "40"),
        ("94.4", "60"), ("55.2", "80"), ("16.0", "100"),
    ]  # fmt: skip
    assert re.findall(r'<text x="([\d.]+)" y="226"[^>]*>(\d)<', chart) == [
        ("62.0", "1"),
        ("251.0", "4"),
        ("440.0", "8"),
    ]
    assert chart.count('class="legend"') == 1


def test_chart_leaves_gaps_and_survives_nothing_and_one_point():
    nan = float("nan")
    chart = str(
        line_chart(
            "loss", [Line("a", [(0, 0), (10, 1), (20, nan), (30, 1), (40, 0)])], "images", ""
        )
    )
    assert 'd="M62.0 208.0L156.5 12.0M345.5 12.0L440.0 208.0"' in chart
    assert "nan" not in chart
    for points in ([], [(3.0, 7.0)], [(0.0, nan)]):
        whole(str(line_chart("loss", [Line("a", points)], "images", "")))


def test_long_lines_have_no_dots():
    chart = str(line_chart("loss", [Line("a", [(i, i) for i in range(41)])], "images", ""))
    assert '<g class="s0 dense">' in chart and "<circle" not in chart


def test_names_in_charts_are_escaped():
    chart = str(line_chart("<b>", [Line("<script>", [(0, 0)])], "<i>", "</svg>", {0: "<u>"}))
    assert not re.search("<(b|script|i|u)>", chart) and chart.count("</svg>") == 2


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0, 103, [0, 25, 50, 75, 100, 125]),
        (0.41, 0.46, [0.41, 0.42, 0.43, 0.44, 0.45, 0.46]),
        (-3, 4, [-4, -2, 0, 2, 4]),
        (0, 0, [0, 0.2]),
    ],
)
def test_round_numbers(low, high, ticks):
    assert round_numbers(low, high) == pytest.approx(ticks)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
@example(0.0, 5e-324)
@example(1e6, 1e-10)
def test_round_numbers_enclose_and_can_be_told_apart(low, span):
    ticks = round_numbers(low, low + span)
    slack = 1e-6 * (ticks[1] - ticks[0])
    assert ticks[0] <= low + slack and low + span <= ticks[-1] + slack and 2 <= len(ticks) <= 8
    assert len({written(tick, ticks) for tick in ticks}) == len(ticks)


# Pictures.


def test_difference_map_is_amplified_and_says_how_much():
    picture = GREY.copy()
    picture[:, 2, 3] = (128, 118, 129)  # |0|, |10|, |1|: the map takes 10, and 255 // 10 = 25
    found = difference(picture, GREY)
    assert (found.largest, found.factor, found.mean) == (10, 25, pytest.approx(11 / 192))
    assert found.map[:, 2, 3].tolist() == [250, 250, 250] and found.map.sum() == 750
    assert str(found) == "×25: at most 10 grey levels, mean 0.057"
    assert difference(GREY, picture).map.sum() == 750, "uint8 would wrap"

    picture[:, 2, 3] = (129, 128, 128)
    assert difference(picture, GREY).map.max() == 64 and "at most 1 grey level," in str(
        difference(picture, GREY)
    )
    assert str(difference(GREY, GREY)) == "identical" and not difference(GREY, GREY).map.any()
    assert difference(GREY * 0, GREY * 0 + 255).factor == 1


class Multiplier:
    """A runner. Every pixel of a picture is the label times `factor`."""

    precision = "fp32"

    def __init__(self, name, factor):
        self.name, self.factor, self.calls = name, factor, 0

    def __call__(self, feeds):
        self.calls += 1
        return (feeds["labels"][:, None] * np.ones((1, 3, 1, 1))).astype(np.uint8) * np.uint8(
            self.factor
        )


def test_synthesised_pairs_and_their_quality(tmp_path):
    """The last of three test pairs has no photo; those not shown are painted by the first painter
    only."""
    manifest = tiny.dataset(tmp_path / "data", train=2, test=3)
    onnx, eager = Multiplier("onnxruntime", 6), Multiplier("torch", 7)
    form = Form(tiny.architecture(), Graph(output="uint8"), size=(32, 64))
    both = [Painter(form, onnx), Painter(form, eager)]
    work = Workload(tmp_path / "data", manifest, form, count=2)
    meter = QualityMeter()
    shown = list(synthesise(both, work, "test", 1, meter))
    assert [(row.name, list(row.synthesised)) for row in shown] == [
        ("test_0", ["onnxruntime", "torch"]),
        ("test_1", ["onnxruntime"]),
    ]
    assert (onnx.calls, eager.calls) == (2, 1)
    first = shown[0]
    labels = read_picture(manifest.path(tmp_path / "data", "test", "input", "test_0"))
    assert np.array_equal(first.measured, labels * 6)
    assert first.quality.psnr_db == pytest.approx(psnr_db(labels * 6, first.real))
    assert meter.result().pairs == 2
    unphotographed = list(synthesise(both[:1], work, "test", 3, QualityMeter()))[2]
    assert (unphotographed.real, unphotographed.quality) == (None, None)
    assert len(list(synthesise(both[:1], work, "train", 1, QualityMeter()))) == 1

    write_pictures(tmp_path, first)
    files = {
        path.name.removeprefix("test_test_0_"): read_picture(path)
        for path in (tmp_path / "pictures").iterdir()
    }
    assert files.keys() == {
        f"{kind}.png"
        for kind in ("input", "synthesised", "real", "synthesised_torch", "difference_onnxruntime")
    }
    largest = int(labels.max())  # since the pictures differ by one times the label
    assert np.array_equal(files["difference_onnxruntime.png"], labels * np.uint8(255 // largest))


# The page.


class Balance(HTMLParser):
    """Which tags are open, and every address that a browser would load."""

    VOID = {"meta", "img", "br", "input", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.loaded += [
            value
            for name, value in attrs
            if name in ("src", "href", "srcset", "data", "xlink:href")
        ]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def whole(html: str) -> Balance:
    """Tags are balanced, nothing comes from outside."""
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    inside = ("data:image/", "#")
    assert all(address.startswith(inside) for address in parser.loaded)
    assert not re.search(r"https?://|@import|url\((?!data:)", html)
    return parser


def page(folder, report=None, shown=(), labels=(), **more) -> str:
    export = tiny.export_card(folder / "exported", tiny.architecture(), Graph(), (32, 64))
    subject = Subject("demo, 128×256, on scenes", {"network": "small"}, export, labels)
    write_page(folder, report or small_report(), subject, list(shown), **more)
    return (folder / "report.html").read_text()


def titles(html: str) -> list[str]:
    """Of the sections, to each of which the contents have a link."""
    contents = re.search("<nav .*?</nav>", html, re.DOTALL).group()
    sections = re.findall('<h2 id="(.*?)">(.*?)</h2>', html)
    assert re.findall('<a href="#(.*?)">(.*?)</a>', contents) == sections
    assert html.count("<h2") == len({id for id, _ in sections})
    return [title for _, title in sections]


def headings(html: str) -> list[int]:
    """The levels of all headings: the first is the only h1, and none is skipped downwards."""
    levels = [int(level) for level in re.findall(r"<h(\d)", html)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    return levels


def test_smallest_page(tmp_path):
    html = page(tmp_path)
    parser = whole(html)
    assert "img" not in parser.tags and parser.tags.count("svg") == 2 + 2 * 1, (
        "device and host, each with a legend of the runtime that has its figures"
    )
    assert titles(html) == [
        "Before you compare quality",
        "Use it",
        "Speed",
        "Parity with PyTorch in fp32",
        "Published by others",
        "How this was measured",
    ]
    assert '<td class="problem" colspan="8">out of memory</td>' in html
    assert "FID of 1 pair is noise." in html and "as tests do" in html
    assert "<h1>demo, 128×256, on scenes</h1>" in html and "<b>9.50 images/s</b>" in html
    headings(html)


def test_page_with_everything(tmp_path):
    styles = [
        LabelStyles(
            label=26, centres=3, instances=9, fallback=False, explained=0.5, picture_difference=7.34
        )
    ]
    near, far = GREY + np.uint8(1), GREY + np.uint8(2)
    shown = [
        Shown(
            "train",
            "a",
            GREY,
            {"onnxruntime": GREY, "torch": far, "om": near},
            GREY,
            Quality(pairs=1, ssim=1),
        ),
        Shown("test", "b", GREY, {"onnxruntime": GREY, "torch": near}, None, None),
    ]
    losses = {
        "train_global": [Line("D_real", [(1, 0.5), (2, 0.4)]), Line("G_GAN", [(1, 2.0), (2, 1.0)])]
    }
    earlier = EarlierRun(
        datetime(2026, 11, 20, 2, 30, tzinfo=UTC),
        "abcdef0123",
        {"fps/torch_fp32/batch_1": 7.25, "train/ssim": 0.4},
    )
    stranger = EarlierRun(datetime(2026, 11, 19, tzinfo=UTC), "", {"fps/other/batch_1": 1.0})
    fragment = '<section><h2 id="styles">Styles to try</h2><script>1 < 2</script></section>'
    html = page(
        tmp_path,
        small_report(styles=styles),
        shown,
        past=Past(losses, [earlier, stranger]),
        styles_html=fragment,
    )
    parser = whole(html)
    assert titles(html) == [
        "Pictures",
        "Before you compare quality",
        "Styles to try",
        "Styles by label",
        "Use it",
        "Speed",
        "Parity with PyTorch in fp32",
        "Losses of the training",
        "Earlier runs",
        "Published by others",
        "How this was measured",
    ]
    assert fragment in html and parser.tags.count("img") == 2 + 5
    assert re.findall('<p class="soft">(.*? grey level.*?)</p>', html)[:2] == [
        "1 of 2 pictures of onnxruntime equal PyTorch's within one grey level; the others stand "
        "below their pairs, with the difference.".replace("'", "&#39;"),
        "The picture of om equals PyTorch's within one grey level.".replace("'", "&#39;"),
    ]
    assert headings(html).count(3) == 2 and html.index("Test pairs") < html.index("Training pairs")
    captions = [text for text in re.findall("<figcaption>(.*?)</figcaption>", html)]
    assert captions == [
        "input", "synthesised by onnxruntime",
        "input", "synthesised by onnxruntime", "real",
        "synthesised by torch", "|onnxruntime − torch| ×64: at most 2 grey levels, mean 2",
        "device img/s", "img/s",
        "train_global, generator", "train_global, discriminator",
        "img/s", "SSIM\N{NO-BREAK SPACE}↑",
    ]  # fmt: skip
    table = html[html.index(">Earlier runs</h2>") : html.index(">Published by others</h2>")]
    table = table.split("<table>")[1]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr")[1:]]
    assert [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in cells] == [
        ["measured", "commit", "torch fp32, batch 1", "PSNR ↑", "SSIM ↑", "FID ↓"],
        ["2026-11-21 12:00 UTC", "this report", "9.50", "12.35 dB", "0.500", "250.0"],
        ["2026-11-20 02:30 UTC", "abcdef0", "7.25", "-", "0.400", "-"],
    ]
    assert "no photo" in html and "SSIM 1.000</span>" in html


def test_a_page_without_any_speed(tmp_path):
    failed = [speed_row("torch", 1, problem="out of memory")]
    html = page(tmp_path, small_report(speed=failed, parity=[]), past=Past(runs=[]))
    whole(html)
    assert "no speed could be measured" in html and "<svg" not in html


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    levels = np.array(list(bytes.fromhex(colour[1:]))) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_words_have_contrast_by_day_and_night(tmp_path):
    """4.5 : 1 or more, as WCAG asks of text, on the page and on its cards."""
    schemes = page(tmp_path).split("prefers-color-scheme: dark")[:2]
    for scheme in schemes:
        colours = dict(re.findall("--(\\w+): (#[0-9a-f]{6});", scheme))
        for word in ("ink", "soft", "mark", "bad"):
            for ground in ("page", "card"):
                both = luminance(colours[word]), luminance(colours[ground])
                contrast = (max(both) + 0.05) / (min(both) + 0.05)
                assert contrast >= 4.5, (word, ground, contrast)


def test_a_legend_names_the_labels_that_occur(tmp_path):
    labels = [Label(id=3, name="door & window", colour=(1, 2, 3))]
    shown = [Shown("test", "a", GREY, {"torch": GREY}, None, None, labels=(3, 5))]
    html = page(tmp_path, shown=shown, labels=labels)
    legend = re.search('<ul class="labels".*?</ul>', html, re.DOTALL).group()
    (_, unnamed), *_ = found = re.findall('background: (#[0-9a-f]{6})"></i>(.*?)<', legend)[::-1]
    assert unnamed == "5" and found[1] == ("#010203", "door &amp; window")
    whole(html)


def test_names_are_escaped(tmp_path):
    shown = [Shown("test", '<script src="x">', GREY, {"torch": GREY}, None, None)]
    report = small_report(speed=[speed_row("<script>", 1, problem="<script>")])
    assert "<script" not in page(tmp_path, report, shown)


def test_published_figures_are_marked_as_theirs(tmp_path):
    html = page(tmp_path)
    assert "Nothing in these tables was measured here" in html
    for figure in (
        "5.106",
        "4.897",
        "4.863",
        "1.914",
        "1.689",
        "4.55",
        "3.76",
        "19.14",
        "13.79",
        "260",
        "0.043",
    ):
        assert f"<td>{figure} " in html
    assert all(system.measured and system.source for system in INFERENCE + TRAINING)


# MLflow.


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three benchmarks of one experiment, one that failed, one of another experiment, and a
    pipeline's trainings."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    client = MlflowClient(uri)
    demo, other = (client.create_experiment(name) for name in ("demo", "other"))

    def finished(experiment, step, started_s, metrics=(), status="FINISHED", **tags):
        tags = {"step": step} | {f"mlflow.{name}": value for name, value in tags.items()}
        run = client.create_run(
            experiment, start_time=started_s * 1000, tags=tags | {"git.commit": f"c{started_s}"}
        )
        for name, value, step_number in metrics:
            client.log_metric(run.info.run_id, name, value, step=step_number)
        client.set_terminated(run.info.run_id, status)
        return run.info.run_id

    for second in (100, 300, 200):
        finished(demo, "benchmark", second, [("fps/torch_fp32/batch_1", float(second), 0)])
    finished(demo, "benchmark", 400, status="FAILED")
    finished(other, "benchmark", 500)
    parent = client.create_run(demo).info.run_id
    curve = [
        ("loss/G_GAN", 3.0, 20),
        ("loss/G_GAN", 4.0, 10),
        ("epoch_loss/G_GAN", 9.0, 20),
        ("loss/lr", 1.0, 10),
    ]
    finished(demo, "train_global", 10, [("loss/G_GAN", 77.0, 1)], parentRunId=parent)
    finished(demo, "train_global", 20, curve, parentRunId=parent)
    finished(
        demo,
        "train_local",
        30,
        [("epoch_loss/D_fake", 0.5, 8), ("epoch_loss/sample_L1", 0.5, 8)],
        parentRunId=parent,
    )
    finished(demo, "cluster", 40, [("loss/G_GAN", 1.0, 1)], parentRunId=parent)
    finished(demo, "train_global", 50, [("loss/G_GAN", 1.0, 1)], parentRunId="another")
    return uri, demo, parent


@contextlib.contextmanager
def inside_a_run(monkeypatch, store, tmp_path, parent=""):
    uri, experiment, _ = store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv("PIPELINE_PARENT_RUN_ID", parent)
    with tracking.step_run("benchmark", {}, tmp_path / "report"):
        run_id = tracking.run_id()
        yield
    MlflowClient(uri).delete_run(run_id)


def test_losses_and_earlier_runs_come_from_mlflow(monkeypatch, store, tmp_path):
    with inside_a_run(monkeypatch, store, tmp_path, parent=store[2]):
        past = read_past()
    assert past.losses == {
        "train_global": [Line("G_GAN", [(10, 4.0), (20, 3.0)])],
        "train_local": [Line("D_fake", [(8, 0.5)])],
    }
    assert [(run.started.timestamp(), run.commit, run.figures) for run in past.runs] == [
        (second, f"c{second}", {"fps/torch_fp32/batch_1": second}) for second in (300, 200, 100)
    ]


def test_a_step_alone_has_no_losses_and_only_the_newest_runs(monkeypatch, store, tmp_path):
    monkeypatch.setattr(history, "MOST_RUNS", 2)
    with inside_a_run(monkeypatch, store, tmp_path):
        past = read_past()
    assert past.losses == {} and [run.commit for run in past.runs] == ["c300", "c200"]


def test_without_mlflow_there_is_no_past(monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert read_past() == Past() and capsys.readouterr().err == ""


def test_a_lost_server_costs_one_warning_and_the_page_is_written(
    monkeypatch, store, tmp_path, capsys
):
    with inside_a_run(monkeypatch, store, tmp_path):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        html = page(tmp_path, past=read_past())
    assert "Earlier runs" not in whole(html).tags and "earlier-runs" not in html
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: MLflow: the report shows no losses and no earlier runs: ")


def test_a_server_that_never_answers_costs_seconds(monkeypatch, store, tmp_path, capsys):
    monkeypatch.setattr(history, "PATIENCE_S", 0.3)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        inside_a_run(monkeypatch, store, tmp_path),
    ):
        silent_uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", silent_uri)
        started = time.perf_counter()
        assert read_past() == Past()
        assert time.perf_counter() - started < 5
    assert "no earlier runs: no answer in 0.3 s" in capsys.readouterr().err


def test_long_curves_are_thinned_to_means():
    assert thinned([(2, 1.0), (1, 5.0)]) == [(1, 5.0), (2, 1.0)]
    assert thinned([]) == []
    curve = thinned([(float(i), float(i)) for i in range(700)])  # groups of three
    assert (
        len(curve) == 234 and curve[:2] == [(2.0, 1.0), (5.0, 4.0)] and curve[-1] == (699.0, 699.0)
    )


# KFP.


def test_kfp_shows_the_page():
    spec = benchmark.component_spec
    assert spec.outputs["page"].type.startswith("system.HTML") and spec.inputs["clusters"].optional
