"""The part of the report where a person tries the styles: regions to click at, and the pictures of
their styles."""

import numpy as np

from components.benchmark.page.styles import Region, StyledMap, StyleSheet, picture_differences
from components.benchmark.page.templates import data_uri, template
from shared.contracts.clusters import ClusterTable
from shared.contracts.labels import IGNORED
from shared.data.images import encode_picture
from shared.data.labels import colours_of

NEVER_SEEN = (
    "No instance of it was in the training set: it is painted with the mean of all instances."
)


def styles_fragment(sheet: StyleSheet, table: ClusterTable) -> str:
    """Make HTML that goes into a page as it is; '' for a sheet without maps.

    Pictures, style sheet and script are inside. Its colours are the variables of report.html.j2.
    """
    if not sheet.maps:
        return ""
    differences = picture_differences(sheet)
    maps = [
        {
            "name": styled.name,
            "inputs": data_uri("png", encode_picture(styled.inputs, ".png")),
            "picture": data_uri("jpeg", styled.jpeg),
            "data": _map_data(styled, sheet, table, differences),
        }
        for styled in sheet.maps
    ]
    return template("styles.html.j2").render(maps=maps, num_labels=sheet.num_labels)


def run_lengths(positions: np.ndarray) -> list[int]:
    """Write (h, w) numbers as value, length, value, length ... in reading order.

    No picture: browsers that guard against fingerprinting change what a script reads from one.
    """
    flat = positions.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return np.stack([flat[starts], np.diff(starts, append=flat.size)], axis=1).ravel().tolist()


def _map_data(
    styled: StyledMap, sheet: StyleSheet, table: ClusterTable, differences: dict[int, float]
) -> dict:
    """What the script of the page reads of a map."""
    height, width = styled.region_map.shape
    labels = list(dict.fromkeys(region.label for region in styled.regions))

    # Regions, with their share of the map.
    pixels = np.bincount(styled.region_map.ravel(), minlength=len(styled.regions))
    areas = (pixels / styled.region_map.size).tolist()
    regions = [
        {
            "label": labels.index(region.label),
            "title": _title(region, sheet),
            "area": round(area, 6),
        }
        for region, area in zip(styled.regions, areas, strict=True)
    ]

    # Labels, with their styles.
    described, colours = [], colours_of(sheet.labels)
    for label in labels:
        painted = label in styled.patches
        note = _note(label, table, painted, differences.get(label), sheet.max_labels)
        described.append(
            {
                "title": _title(Region(label, None), sheet),
                "colour": f"#{colours[label].tobytes().hex()}" if sheet.num_labels else None,
                "note": note,
                "styles": _styles_data(label, table, styled) if label in table.labels else [],
            }
        )

    return {
        "width": width,
        "height": height,
        "runs": run_lengths(styled.region_map),
        "regions": regions,
        "labels": described,
    }


def _styles_data(label: int, table: ClusterTable, styled: StyledMap) -> list[dict]:
    """What the script reads of the styles of a label."""
    found = table.labels[label]
    painted = label in styled.patches
    patches = styled.patches[label] if painted else [None] * len(found.centres)
    styles = []
    for number, patch in enumerate(patches):
        place = None
        if patch:
            place = {"x": patch.x, "y": patch.y, "source": data_uri("jpeg", patch.jpeg)}
        styles.append(
            {
                "count": found.counts[number],
                "spread": found.spread[number],
                "rendered": number == 0 or painted,
                "patch": place,
            }
        )
    return styles


def _note(
    label: int, table: ClusterTable, rendered: bool, difference: float | None, max_labels: int
) -> str:
    """Say what a label's styles are worth."""
    # Without styles to choose from.
    if label not in table.labels:
        return NEVER_SEEN
    found = table.labels[label]
    instances = _count(sum(found.counts), "training instance")
    if found.fallback:
        return (
            "No instance was large enough to be clustered: its one style is the mean of "
            f"{instances}."
        )

    # With several, what they explain and how much they change.
    note = f"{_count(len(found.centres), 'style')} of {instances}"
    if len(found.centres) == 1:
        return f"{note}."
    if found.explained is not None:
        note += f", which explain {found.explained:.0%} of the variance of their features"
    if difference is not None:
        note += (
            f"; pictures of two of them differ on this label by {difference:.1f} of 255 grey "
            "levels on average"
        )
    if not rendered:
        note += (
            f". Not painted here: only the {max_labels} largest labels of a map that have "
            "several styles are"
        )
    return f"{note}."


def _count(number: int, noun: str) -> str:
    """Such as "1 style" and "1,200 training instances"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _title(region: Region, sheet: StyleSheet) -> str:
    """The name of a region; without labels the one label is the picture."""
    if not sheet.num_labels:
        title = "picture"
    elif region.label == IGNORED:
        title = "no label"
    else:
        names = {label.id: label.name for label in sheet.labels}
        title = names.get(region.label, f"label {region.label}")
    return title if region.instance is None else f"{title}, instance {region.instance}"
