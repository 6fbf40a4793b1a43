"""What the cluster centres of a model mean: a few maps painted with each style of their labels."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.contracts.clusters import ClusterTable
from shared.contracts.labels import IGNORED, Label
from shared.contracts.measured import LabelStyles
from shared.contracts.model import GeneratorInput
from shared.data.images import encode_picture, resize_ids, resize_picture
from shared.data.labels import colours_of
from shared.data.maps import Sample, densify
from shared.data.pictures import show_inputs
from shared.deployed.painter import Painter
from shared.deployed.styles import Style

SHOWN_WIDTH = 1024  # pixels; wider pictures are shown smaller
INVISIBLE = 2  # grey levels
JPEG_BLOCK = 16  # pixels, with its colour subsampling


@dataclass(frozen=True, slots=True)
class Patch:
    """The part of a picture that another style changes visibly."""

    x: int  # of its upper left corner, in pixels as shown
    y: int
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Region:
    """Pixels of one label, and of one instance where the model knows instances."""

    label: int
    instance: int | None  # None also where it is the only region of its label


@dataclass(frozen=True)
class StyledMap:
    """One map, at the size shown (h, w), and the pictures of its labels' styles."""

    name: str
    inputs: np.ndarray  # (3, h, w) uint8, in colours
    jpeg: bytes  # the picture with every label in its most frequent style
    regions: list[Region]  # large labels first, and large regions of a label first
    region_map: np.ndarray  # (h, w) positions in `regions`
    # By rendered label, one per centre; None = no visible change.
    patches: dict[int, list[Patch | None]]
    # By rendered label: its `mean_difference`, and its pixels.
    differences: dict[int, tuple[float, int]]


@dataclass(frozen=True)
class StyleSheet:
    """Some maps of a data set in the styles of a model."""

    num_labels: int  # 0 = the input is a picture
    max_labels: int  # rendered per map
    maps: list[StyledMap]
    labels: Sequence[Label] = ()


def render_styles(
    painter: Painter,
    table: ClusterTable,
    samples: list[Sample],
    max_labels: int,
    labels: Sequence[Label] = (),
) -> StyleSheet:
    """Paint each sample in the most frequent styles, then each of its labels in each of its other
    styles.

    Args:
        painter: Its styles come with the inputs.
        max_labels: Of each map, its largest ones that have several styles.
        labels: Names and colours, where they are known.
    """
    reads, graph = painter.form.reads, painter.form.graph
    assert graph.form == "onehot" or graph.style in ("label", "instance", "map"), graph
    chosen = [_largest(_labels_of(sample, reads), table, max_labels) for sample in samples]
    pictures = sum(
        1 + sum(len(table.labels[label].centres) - 1 for label in some) for some in chosen
    )
    print(f"styles: {pictures} pictures of {len(samples)} maps", flush=True)

    colours = colours_of(labels)
    maps = [
        _style_map(painter, table, sample, rendered, colours)
        for sample, rendered in zip(samples, chosen, strict=True)
    ]
    return StyleSheet(reads.num_labels, max_labels, maps, labels)


def picture_differences(sheet: StyleSheet) -> dict[int, float]:
    """The `mean_difference` of each rendered label, over the pixels that it has in all maps."""
    sums, pixels = Counter(), Counter()
    for styled in sheet.maps:
        for label, (difference, count) in styled.differences.items():
            sums[label] += difference * count
            pixels[label] += count
    return {label: sums[label] / pixels[label] for label in sums}


def label_styles(
    table: ClusterTable, differences: dict[int, float], labels: Sequence[Label] = ()
) -> list[LabelStyles]:
    """Make a record per label of the table; a label that was not painted has no difference."""
    names = {label.id: label.name for label in labels}
    return [
        LabelStyles(
            label=label,
            name=names.get(label, ""),
            centres=len(found.centres),
            instances=sum(found.counts),
            fallback=found.fallback,
            explained=found.explained,
            picture_difference=differences.get(label),
        )
        for label, found in sorted(table.labels.items())
    ]


def mean_difference(pictures: list[np.ndarray], on: np.ndarray) -> float:
    """Mean |difference| in grey levels, over all pairs of pictures (C, H, W) uint8 and the pixels
    `on` (H, W) bool."""
    pixels = [picture[:, on].astype(np.int16) for picture in pictures]
    return float(
        np.mean([np.abs(one - other).mean() for one, other in itertools.combinations(pixels, 2)])
    )


def find_regions(
    labels: np.ndarray, instances: tuple[np.ndarray, np.ndarray] | None
) -> tuple[list[Region], np.ndarray]:
    """Tell the regions of a map apart.

    labels: (H, W) uint8. instances: ids (K,) and the map (H, W) of their positions, or None.

    Returns regions as in StyledMap, and the map (H, W) of their positions."""
    # Each pair of an instance and a label that occurs is a region.
    ids, dense_ids = instances or (np.zeros(1, np.int32), np.zeros_like(labels))
    cells, positions = densify(dense_ids.astype(np.int64) * 256 + labels)
    label_of = cells % 256

    # Large labels first, and large regions of a label first.
    areas = np.bincount(positions.ravel())
    order = np.lexsort((-areas, label_of, -np.bincount(label_of, areas)[label_of]))

    # An instance is named where its label has several.
    alone = (np.bincount(label_of) == 1)[label_of]
    regions = [
        Region(int(label_of[i]), None if alone[i] else int(ids[cells[i] // 256])) for i in order
    ]
    return regions, np.argsort(order)[positions]


def _style_map(
    painter: Painter,
    table: ClusterTable,
    sample: Sample,
    rendered: list[int],
    colours: np.ndarray,
) -> StyledMap:
    """Paint a map in the most frequent styles, and each label of `rendered` in its others."""
    reads, labels = painter.form.reads, _labels_of(sample, painter.form.reads)
    num_labels = reads.num_labels

    def paint(style: np.ndarray) -> np.ndarray:
        """(num_labels + 1, feat_num) -> (output_nc, H, W) uint8."""
        return painter.paint(sample, Style(style))

    # The picture in the most frequent styles.
    height, width = labels.shape
    shown = height, width
    if width > SHOWN_WIDTH:
        shown = round(height * SHOWN_WIDTH / width), SHOWN_WIDTH
    style = Style.commonest(table, num_labels).by_label
    picture = paint(style)
    small = resize_picture(picture, *shown)

    # What each other style of a label changes in it.
    patches, differences = {}, {}
    for label in rendered:
        pictures = [picture]
        for centre in table.labels[label].centres[1:]:
            changed = style.copy()
            changed[min(label, num_labels)] = centre
            pictures.append(paint(changed))
        patches[label] = [changed_patch(resize_picture(other, *shown), small) for other in pictures]
        on = labels == label
        differences[label] = mean_difference(pictures, on), int(on.sum())

    # Where a reader can point at.
    by_instance = sample.ids is not None and reads.feature_regions == "instances"
    small_labels = resize_ids(labels, *shown)
    instances = (sample.ids, resize_ids(sample.dense_ids, *shown)) if by_instance else None
    regions, region_map = find_regions(small_labels, instances)
    inputs = show_inputs(small_labels if num_labels else sample.inputs, colours)
    inputs = resize_picture(inputs, *shown)
    return StyledMap(sample.name, inputs, to_jpeg(small), regions, region_map, patches, differences)


def _labels_of(sample: Sample, reads: GeneratorInput) -> np.ndarray:
    """Labels (H, W) uint8 as the table has them: of pictures all are 0."""
    if reads.num_labels:
        return np.where(sample.inputs < reads.num_labels, sample.inputs, np.uint8(IGNORED))
    return np.zeros(sample.inputs.shape[1:], np.uint8)


def _largest(labels: np.ndarray, table: ClusterTable, most: int) -> list[int]:
    """Labels with several styles, the largest first."""
    areas = np.bincount(labels.ravel(), minlength=IGNORED + 1)
    several = [
        label for label, found in table.labels.items() if len(found.centres) > 1 and areas[label]
    ]
    return sorted(several, key=lambda label: -areas[label])[:most]


def changed_patch(picture: np.ndarray, base: np.ndarray) -> Patch | None:
    """Cut out what differs visibly between pictures (C, h, w) uint8; None where nothing does.

    Whole blocks are cut out: JPEG then leaves no seam around them."""
    changed = (np.abs(picture.astype(np.int16) - base) > INVISIBLE).any(axis=0)  # (h, w)
    if not changed.any():
        return None
    (top, bottom), (left, right) = (_block_range(changed.any(axis=axis)) for axis in (1, 0))
    return Patch(left, top, to_jpeg(picture[:, top:bottom, left:right]))


def _block_range(changed: np.ndarray) -> tuple[int, int]:
    """First row (or column) of the first block with a change, and the one after the last block."""
    places = np.flatnonzero(changed)
    first, last = int(places[0]), int(places[-1])
    return first // JPEG_BLOCK * JPEG_BLOCK, (last // JPEG_BLOCK + 1) * JPEG_BLOCK


def to_jpeg(picture: np.ndarray) -> bytes:
    """Encode a picture (1 or 3, h, w) uint8.

    A page holds a hundred of them, so they are smaller than the report's other pictures."""
    return encode_picture(picture, ".jpg", quality=85)
