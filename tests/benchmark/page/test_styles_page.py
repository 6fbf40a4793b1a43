"""Each style's picture is the generator's, its differences follow from algebra, and the page works
in a browser."""

import base64
import io
import itertools
import json
import os
import re
import select
import shutil
import subprocess
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from torch import nn

from components.benchmark.page.styles import (
    Region,
    changed_patch,
    find_regions,
    label_styles,
    mean_difference,
    picture_differences,
    render_styles,
)
from components.benchmark.page.styles_page import NEVER_SEEN, run_lengths, styles_fragment
from shared.contracts.clusters import ClusterTable, LabelClusters
from shared.contracts.exported import Graph
from shared.contracts.labels import Label
from shared.data.maps import Sample, densify
from shared.deployed.form import Form
from shared.deployed.painter import Painter, open_runner
from tests import tiny

GREYS = {  # by label, the grey of each centre: features and pictures are 2 * grey / 255 - 1
    7: [(200, 0, 0), (0, 200, 0), (0, 0, 200)],
    26: [(250, 250, 0), (0, 250, 250), (100, 100, 100)],
    20: [(60, 60, 60)],
    0: [(10, 20, 30), (200, 210, 220)],
}


class Features(nn.Module):
    """A generator whose picture is its three feature channels; black in the left part."""

    def __init__(self, black: int = 0):
        super().__init__()
        self.black = black

    def forward(self, x):  # (N, C, H, W) -> (N, 3, H, W)
        picture = x[:, -3:].clone()
        picture[..., : self.black] = -1
        return picture


def features(greys) -> list[list[float]]:
    return (np.array(greys) / 127.5 - 1).tolist()


def clusters(label: int) -> LabelClusters:
    k = len(GREYS[label])
    counts = list(range(10 * k, 0, -10))
    return LabelClusters(
        centres=features(GREYS[label]),
        counts=counts,
        spread=[0.125] * k,
        explained=0.75,
        fallback=k == 1,
    )


def table(*labels: int) -> ClusterTable:
    return ClusterTable(
        feat_num=3,
        n_clusters=3,
        min_area=1 / 64,
        seed=0,
        labels={label: clusters(label) for label in labels},
        overall=features([127.5] * 3),
        model_digest="",
        dataset_digest="",
    )


def sample(labels: np.ndarray, instances: np.ndarray | None = None, name: str = "one") -> Sample:
    return Sample.of_maps(name, labels.astype(np.uint8), instances)


def street(name: str = "one") -> Sample:
    """96 x 64 pixels: sky (23, never seen), two cars (26001, 26002), a sign (20), road (7), the
    frame (no label)."""
    instances = np.full((64, 96), 7)
    instances[:24] = 23
    instances[16:48, 16:32] = 26001
    instances[24:40, 64:80] = 26002
    instances[0:8, 80:88] = 20
    labels = np.where(instances >= 1000, instances // 1000, instances)
    labels[60:], instances[60:] = 255, 255
    return sample(labels, instances, name)


def render(
    samples, clusters: ClusterTable, max_labels=8, black=0, graph=None, labels=(), **architecture
):
    a, graph = tiny.architecture(feat_num=3, **architecture), graph or Graph(style="label")
    form = Form(a, graph)
    painter = Painter(form, open_runner(form, "torch", Features(black), "cpu", "fp32"))
    return render_styles(painter, clusters, samples, max_labels, labels)


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def mean_of_pairs(label: int) -> float:
    """Mean |difference| of the greys of a label's centres."""
    return np.mean(
        [np.abs(np.subtract(a, b)).mean() for a, b in itertools.combinations(GREYS[label], 2)]
    )


@pytest.mark.parametrize(
    "graph",
    [
        Graph(style="label"),
        Graph(style="instance"),
        Graph(style="map"),
        Graph(style="label", output="uint8"),
    ],
    ids=lambda graph: f"{graph.style}-{graph.output}",
)
def test_each_style_is_painted_on_its_label(graph):
    sheet = render([street()], table(7, 26, 20), graph=graph)
    styled = sheet.maps[0]
    base = pixels(styled.jpeg)
    for at, greys in (
        ((56, 4), GREYS[7][0]),
        ((32, 24), GREYS[26][0]),
        ((4, 84), GREYS[20][0]),
        ((4, 4), [128] * 3),
    ):
        np.testing.assert_allclose(base[at], greys, atol=8)
    assert set(styled.patches) == {7, 26}, (
        "a label of one style has nothing else to be painted with"
    )
    nothing, green, grey = styled.patches[26]
    assert nothing is None, "its most frequent style is in the picture"
    assert (green.x, green.y) == (16, 16) and pixels(green.jpeg).shape == (32, 64, 3), (
        "the box of both cars"
    )
    np.testing.assert_allclose(pixels(green.jpeg)[16, 8], GREYS[26][1], atol=8)
    np.testing.assert_allclose(pixels(green.jpeg)[16, 56], GREYS[26][1], atol=8)
    np.testing.assert_allclose(pixels(grey.jpeg)[16, 56], GREYS[26][2], atol=8)
    assert picture_differences(sheet) == pytest.approx({7: mean_of_pairs(7), 26: mean_of_pairs(26)})


def test_the_seeds_file_of_onehot_channels_is_painted_alike():
    a, clusters = tiny.architecture(feat_num=3), table(7, 26)
    painter = Painter(Form(a, Graph(form="onehot")), lambda given: given["input_concat"][:, -3:])
    sheet = render_styles(painter, clusters, [street()], 8)
    assert picture_differences(sheet) == pytest.approx({7: mean_of_pairs(7), 26: mean_of_pairs(26)})


def test_differences_are_means_over_the_labels_pixels_of_all_maps():
    """Of the first map's road half is black in all styles, of the second's, which is three times as
    large, nothing."""
    near, far = np.full((16, 32), 23), np.full((16, 64), 23)
    near[:, :32], far[:, 16:] = 7, 7
    sheet = render([sample(near, near), sample(far, far)], table(7), black=16)
    assert [count for styled in sheet.maps for _, count in styled.differences.values()] == [
        16 * 32,
        16 * 48,
    ]
    assert picture_differences(sheet)[7] == pytest.approx(mean_of_pairs(7) * (16 + 48) / (32 + 48))


def test_mean_difference_looks_at_all_pairs_and_only_at_the_label():
    pictures = [np.full((3, 2, 2), value, np.uint8) for value in (0, 10, 250)]
    pictures[1][:, 1] = 99
    on = np.array([[True, True], [False, False]])
    assert mean_difference(pictures, on) == pytest.approx((10 + 250 + 240) / 3)


def test_only_the_largest_labels_are_rendered_and_the_number_is_printed(capsys):
    sheet = render([street("one"), street("two")], table(7, 26, 20), max_labels=1)
    # of each: the base, road in two other styles
    assert capsys.readouterr().out == "styles: 6 pictures of 2 maps\n"
    assert [list(styled.patches) for styled in sheet.maps] == [[7], [7]]
    records = {
        record.label: record
        for record in label_styles(table(7, 26, 20), picture_differences(sheet))
    }
    assert list(records) == [7, 20, 26]
    assert records[7].picture_difference == pytest.approx(mean_of_pairs(7))
    assert records[26].picture_difference is None and records[26].explained == 0.75
    assert (records[7].centres, records[7].instances, records[20].fallback) == (3, 60, True)


def test_pixels_without_label_have_styles_of_their_own():
    """Their centres stand under 255 in the table, and in the last row of a style."""
    of_table = table(7, 26).model_copy(update={"labels": {255: clusters(7)}})
    styled = render([street()], of_table).maps[0]
    assert list(styled.patches) == [255]
    patch = styled.patches[255][2]
    np.testing.assert_allclose(pixels(patch.jpeg)[-2, 50], GREYS[7][2], atol=8)
    assert patch.y == 48, "the block that the last four lines lie in"


@pytest.mark.parametrize("with_instances", [True, False])
def test_features_of_labels_make_one_region_of_a_label(with_instances):
    one = street()
    given = one if with_instances else sample(one.inputs)
    styled = render([given], table(7, 26), feature_regions="labels", use_instances=False).maps[0]
    assert styled.regions == [Region(label, None) for label in (7, 23, 26, 255, 20)]
    assert picture_differences(
        render([given], table(7), feature_regions="labels", use_instances=False)
    ).keys() == {7}


def test_where_the_input_is_a_picture_all_instances_have_one_group_of_styles():
    inputs = np.random.default_rng(0).integers(0, 256, (3, 16, 32), np.uint8)
    instances = np.repeat([[5, 9]], 16, axis=1) + np.zeros((16, 1), int)
    sheet = render(
        [sample(inputs, instances)], table(0), num_labels=0, input_nc=3, use_instances=False
    )
    assert sheet.maps[0].regions == [Region(0, 5), Region(0, 9)]
    assert picture_differences(sheet) == {0: 190}
    np.testing.assert_array_equal(sheet.maps[0].inputs, inputs)
    fragment = styles_fragment(sheet, table(0))
    assert [region["title"] for region in data_of(fragment)[0]["regions"]] == [
        "picture, instance 5",
        "picture, instance 9",
    ]
    without = render([sample(inputs)], table(0), num_labels=0, input_nc=3, use_instances=False)
    assert data_of(styles_fragment(without, table(0)))[0]["regions"] == [
        {"label": 0, "title": "picture", "area": 1}
    ]


def test_regions_are_numbered_by_the_size_of_their_label_then_by_their_own():
    labels = np.array([[1, 1, 1, 1], [2, 2, 2, 3], [3, 3, 3, 3]])
    instances = np.array([[33001, 33001, 33001, 5], [2, 2, 2, 40], [41, 41, 41, 40]])
    regions, region_map = find_regions(labels, densify(instances))
    assert regions == [
        Region(3, 41),
        Region(3, 40),
        Region(1, 33001),
        Region(1, 5),
        Region(2, None),
    ]
    assert region_map.tolist() == [[2, 2, 2, 3], [4, 4, 4, 1], [0, 0, 0, 1]]


def test_an_instance_over_two_labels_is_two_regions():
    """Styles are those of labels: a click must find the label under it."""
    regions, _ = find_regions(np.array([[1, 1, 2]]), densify(np.array([[9, 9, 9]])))
    assert regions == [Region(1, None), Region(2, None)]


def test_run_lengths_give_the_map_back():
    positions = np.random.default_rng(0).integers(0, 3, (7, 9))
    runs = np.array(run_lengths(positions)).reshape(-1, 2)
    assert (np.diff(runs[:, 0]) != 0).all()
    np.testing.assert_array_equal(np.repeat(runs[:, 0], runs[:, 1]).reshape(7, 9), positions)


def test_a_patch_is_the_blocks_that_changed_visibly():
    base = np.zeros((3, 40, 40), np.uint8)
    assert changed_patch(base + np.uint8(2), base) is None
    other = base.copy()
    other[1, 20, 38] = 90
    patch = changed_patch(other, base)
    assert (patch.x, patch.y) == (32, 16) and pixels(patch.jpeg).shape == (16, 8, 3), (
        "the picture ends at 40"
    )


def test_wide_maps_are_shown_smaller_but_measured_as_they_are():
    labels = np.full((16, 2048), 7)
    labels[:, :512] = 26
    sheet = render([sample(labels, labels)], table(7, 26))
    styled = sheet.maps[0]
    assert (
        styled.region_map.shape
        == (8, 1024)
        == styled.inputs.shape[1:]
        == pixels(styled.jpeg).shape[:2]
    )
    assert styled.differences[26][1] == 16 * 512


# The page.


class Links(HTMLParser):
    """Everything that a browser would load, and all elements."""

    def __init__(self, text: str):
        super().__init__()
        self.loaded, self.tags, self.names = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loaded += [
            value
            for name, value in attributes
            if name in ("src", "href", "srcset", "data", "action")
        ]
        self.names += [value for name, value in attributes if name in ("id", "class")]


def data_of(fragment: str) -> list[dict]:
    found = re.findall(r'<script type="application/json">(.*?)</script>', fragment, re.DOTALL)
    return [json.loads(text) for text in found]


def test_the_fragment_holds_everything_and_says_what_styles_are_worth():
    clusters = table(7, 26, 20)
    labels = [Label(id=26, name="car", colour=(0, 0, 142))]  # the others have no name
    maps = [street("a</script><b>"), street("two")]
    sheet = render(maps, clusters, max_labels=1, labels=labels)
    fragment = styles_fragment(sheet, clusters)
    page = Links(fragment)
    assert len(page.loaded) == 4 and all(source.startswith("data:image/") for source in page.loaded)
    assert not re.search(r"https?:|url\(|@import", fragment)
    assert all(name.startswith("styles") for names in page.names for name in names.split())
    assert page.tags.count("b") == 0, "names are escaped"

    data = data_of(fragment)[0]
    assert (data["width"], data["height"]) == (96, 64)
    notes = {label["title"]: label["note"] for label in data["labels"]}
    worth = "3 styles of 60 training instances, which explain 75% of the variance of their features"
    difference = (
        f"pictures of two of them differ on this label by {mean_of_pairs(7):.1f} of 255 "
        "grey levels on average"
    )
    assert notes == {
        "label 7": f"{worth}; {difference}.",
        "label 23": NEVER_SEEN,
        "car": (
            f"{worth}. Not painted here: only the 1 largest labels of a map that have "
            "several styles are."
        ),
        "no label": NEVER_SEEN,
        "label 20": (
            "No instance was large enough to be clustered: its one style is the mean of "
            "10 training instances."
        ),
    }
    cars = [region for region in data["regions"] if "car" in region["title"]]
    assert cars == [
        {"label": 2, "title": "car, instance 26001", "area": round(32 * 16 / (64 * 96), 6)},
        {"label": 2, "title": "car, instance 26002", "area": round(16 * 16 / (64 * 96), 6)},
    ]
    assert data["labels"][2]["colour"] == "#00008e"
    assert [record.name for record in label_styles(clusters, {}, labels)] == ["", "", "car"]
    road, _, car = (data["labels"][i]["styles"] for i in range(3))
    assert [(style["count"], style["spread"], style["rendered"]) for style in road] == [
        (30, 0.125, True),
        (20, 0.125, True),
        (10, 0.125, True),
    ]
    assert [style["rendered"] for style in car] == [True, False, False]
    assert road[0]["patch"] is None and road[1]["patch"]["source"].startswith(
        "data:image/jpeg;base64,"
    )
    base64.b64decode(road[1]["patch"]["source"].partition(",")[2], validate=True)


def test_without_maps_there_is_nothing_to_show():
    assert styles_fragment(render([], table(7)), table(7)) == ""


class Browser:
    """Headless Chromium by its DevTools protocol, over a pipe."""

    def __init__(self, profile):
        read, self.to_chromium = os.pipe()
        self.from_chromium, write = os.pipe()
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--window-size=1200,1600",
        ]
        command = ["chromium", *options, f"--user-data-dir={profile}", "about:blank"]
        script = f'exec "$@" 3<&{read} 4>&{write}'  # the two that Chromium looks at
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(read, write),
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self.received, self.events, self.number, self.session = b"", [], 0, {}
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        self.call("Network.enable")

    def call(self, method: str, **params) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **self.session}
        os.write(self.to_chromium, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict:
        while b"\0" not in self.received:
            assert select.select([self.from_chromium], [], [], 60)[0], "Chromium does not answer"
            self.received += os.read(self.from_chromium, 1 << 16)
        message, _, self.received = self.received.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression: str):
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        deadline = time.monotonic() + 30
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.02)

    def click(self, element: str, x: float = 0.5, y: float = 0.5) -> None:
        """A click of the mouse at a share of the element's width and height."""
        self.evaluate(f"({element}).scrollIntoView({{block: 'center'}})")
        place = f"(({{left, top, width, height}}) => [left + {x} * width, top + {y} * height])"
        left, top = self.evaluate(f"{place}(({element}).getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=left, y=top, button="left", clickCount=1
            )

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def close(self) -> None:
        self.session = {}
        self.call("Browser.close")
        self.process.wait(30)
        os.close(self.to_chromium)
        os.close(self.from_chromium)


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium"
)
def test_in_a_browser_a_click_on_an_instance_shows_its_styles(tmp_path, browser):
    clusters = table(7, 26, 20)
    fragment = styles_fragment(render([street("one"), street("two")], clusters), clusters)
    (tmp_path / "report.html").write_text(
        f"<!doctype html><meta charset=utf-8><title>.</title>{fragment}"
    )
    browser.call("Page.navigate", url=(tmp_path / "report.html").as_uri())
    caption = "document.querySelectorAll('.styles-map figcaption')[{}]?.textContent"
    title = "document.querySelector('h4').textContent"
    choices = "[...document.querySelectorAll('.styles-choices')[{}].querySelectorAll('input')]"

    def seen(x: int, y: int, map_number: int = 0) -> list[int]:
        """RGB of the picture as it is displayed."""
        return browser.evaluate(
            f"""(() => {{
                const map = document.querySelectorAll('.styles-map')[{map_number}];
                const view = map.querySelectorAll('.styles-view')[1];
                const canvas = document.createElement('canvas');
                Object.assign(canvas, {{ width: 96, height: 64 }});
                const context = canvas.getContext('2d');
                context.drawImage(view.querySelector('img'), 0, 0, 96, 64);
                context.drawImage(view.querySelector('canvas'), 0, 0, 96, 64);
                return [...context.getImageData({x}, {y}, 1, 1).data].slice(0, 3);
            }})()"""
        )

    # The largest label is chosen, in its most frequent style.
    for number in (1, 3):
        browser.wait_for(
            f"{caption.format(number)} === 'label 7 in style 1 of 3, its most frequent'"
        )
    np.testing.assert_allclose(seen(24, 32), GREYS[26][0], atol=8)

    # A click on a car, in the label map: its styles.
    browser.click("document.querySelector('.styles-view')", 72 / 96, 32 / 64)
    browser.wait_for(f"{caption.format(1)} === 'label 26 in style 1 of 3, its most frequent'")
    assert browser.evaluate(title) == "label 26, instance 26002"
    assert browser.evaluate(f"{choices.format(0)}.map((radio) => radio.checked)") == [
        True,
        False,
        False,
    ]
    cards = browser.evaluate(
        "[...document.querySelectorAll('.styles-choices')[0].children].map((c) => c.innerText)"
    )
    assert re.fullmatch(r"Style 2\s+20 of 60 instances\s+spread 0.125", cards[1].strip())

    # A click on its second style: both cars in it, the road and the other map as before.
    browser.click("document.querySelectorAll('.styles-choices label')[1]")
    browser.wait_for(f"{caption.format(1)} === 'label 26 in style 2 of 3'")
    for at in ((24, 32), (72, 32)):
        np.testing.assert_allclose(seen(*at), GREYS[26][1], atol=8)
        np.testing.assert_allclose(seen(*at, map_number=1), GREYS[26][0], atol=8)
    np.testing.assert_allclose(seen(48, 56), GREYS[7][0], atol=8)
    assert browser.evaluate(f"{choices.format(0)}.map((radio) => radio.checked)") == [
        False,
        True,
        False,
    ]

    # The other car, in the picture itself: the style stays.
    browser.click("document.querySelectorAll('.styles-view')[1]", 24 / 96, 32 / 64)
    browser.wait_for(f"{title} === 'label 26, instance 26001'")
    browser.wait_for(f"{caption.format(1)} === 'label 26 in style 2 of 3'")

    # Without a mouse: the next style, the next region, a label.
    browser.evaluate(f"{choices.format(0)}[1].focus()")
    browser.press("ArrowRight", 39)
    browser.wait_for(f"{caption.format(1)} === 'label 26 in style 3 of 3'")
    np.testing.assert_allclose(seen(24, 32), GREYS[26][2], atol=8)
    browser.evaluate("document.querySelector('.styles-view').focus()")
    browser.press("ArrowRight", 39)
    browser.wait_for(f"{title} === 'label 26, instance 26002'")
    browser.press("ArrowLeft", 37)
    browser.press("ArrowLeft", 37)
    browser.wait_for(f"{title} === 'label 23'")
    assert browser.evaluate("document.querySelector('h4 + p').textContent") == NEVER_SEEN
    browser.evaluate("document.querySelector('.styles-label').focus()")
    browser.press(" ", 32)
    browser.wait_for(f"{title} === 'label 7'")
    browser.wait_for(f"{caption.format(1)} === 'label 7 in style 1 of 3, its most frequent'")
    np.testing.assert_allclose(seen(24, 32), GREYS[26][0], atol=8)

    sent = [
        event["params"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert sent and all(each["request"]["url"].startswith(("file:", "data:")) for each in sent)
