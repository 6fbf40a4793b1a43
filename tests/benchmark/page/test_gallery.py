"""All test pairs as pages of pictures, and the legend of their labels."""

import re

import numpy as np
from PIL import Image

from components.benchmark.page import gallery
from components.benchmark.page.gallery import Gallery
from components.benchmark.page.legend import legend_of
from components.benchmark.page.pictures import Shown
from shared.contracts.labels import Label
from shared.contracts.measured import Quality

LABELS = [
    Label(id=0, name="sky", colour=(70, 130, 180)),
    Label(id=2, name="<road>", colour=(128, 64, 128)),
]


def row(name: str, height: int = 8, width: int = 16, photo: bool = True) -> Shown:
    """A pair whose map has two halves, red and green."""
    labels = np.zeros((3, height, width), np.uint8)
    labels[0, :, : width // 2] = labels[1, :, width // 2 :] = 255
    picture = np.full((3, height, width), 100, np.uint8)
    quality = Quality(pairs=1, psnr_db=20) if photo else None
    return Shown(
        "test", name, labels, {"torch": picture}, picture if photo else None, quality, None, (0, 2)
    )


def test_a_legend_has_names_colours_and_ids_without_a_name():
    legend = legend_of([2, 0, 2, 9, 255], LABELS)
    assert [entry.name for entry in legend] == ["sky", "<road>", "9", "ignored"]
    assert [entry.colour for entry in legend][:2] == ["#4682b4", "#804080"]
    assert len({entry.colour for entry in legend}) == 4 and legend[3].colour == "#000000"
    assert legend_of([], LABELS) == []


def test_pairs_become_pages_that_name_their_files(tmp_path, monkeypatch):
    """Five pairs, two a page."""
    monkeypatch.setattr(gallery, "PAIRS_OF_A_PAGE", 2)
    pages = Gallery(tmp_path, LABELS)
    for number in range(5):
        pages.add(row(f"a%{number}&", photo=number != 3))
    pages.write("demo")

    folder = tmp_path / "gallery"
    names = ["index.html", "page_2.html", "page_3.html"]
    assert sorted(path.name for path in folder.glob("*.html")) == names
    texts = [(folder / name).read_text() for name in names]
    assert [text.count("<article") for text in texts] == [2, 2, 1]
    for own, text in zip(names, texts, strict=True):
        linked = re.findall('href="(.*?)"', text)
        assert linked[0] == "../report.html"
        assert sorted(set(linked[1:])) == sorted(set(names) - {own})
        assert "<h1>5 test pairs: demo</h1>" in text and "<h1" not in text.split("</h1>")[1]
        assert re.findall('<i style="background: (.*?)"></i>(.*?)</li>', text) == [
            ("#4682b4", "sky"),
            ("#804080", "&lt;road&gt;"),
        ]
    everything = "".join(texts)
    assert re.findall("<h2>(.*?) <span", everything) == [f"a%{n}&amp;" for n in range(5)]
    assert "no photo" in texts[1] and "PSNR 20.00 dB" in texts[1]

    # Every file is named once, with its size, and is loaded late.
    images = re.findall(
        r'<img [^>]*width="16" height="8" loading="lazy"[^>]*src="(.*?)"', everything
    )
    assert sorted(images) == sorted(
        path.name for path in folder.iterdir() if path.suffix != ".html"
    )
    assert len(images) == 5 * 3 - 1


def test_wide_pictures_are_small_and_colours_of_labels_stay(tmp_path):
    pages = Gallery(tmp_path, LABELS)
    pages.add(row("wide", 40, 1100))
    pages.write("demo")
    with Image.open(tmp_path / "gallery" / "00001_input.png") as image:
        assert image.size == (512, 19)
        assert {colour for _, colour in image.getcolors()} == {(255, 0, 0), (0, 255, 0)}
    with Image.open(tmp_path / "gallery" / "00001_synthesised.jpg") as image:
        assert image.size == (512, 19)


def test_without_pairs_there_is_no_gallery(tmp_path):
    Gallery(tmp_path, LABELS).write("demo")
    assert not (tmp_path / "gallery").exists()
