"""The colours of label maps as a file of labels, ready to be edited."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from components.prepare.reading.pairs import Reading, half
from shared.contracts.labels import IGNORED
from shared.data.colours import OPAQUE, Runs, to_levels
from shared.data.images import read_colours
from shared.errors import InputError

MOST_COLOURS = 256  # as there are ids: more are no labels
MOST_KEPT = 1 << 16  # colours that are counted, of a file and of all
SHOWN = 8  # the commonest, where there are too many


def count_colours(file: str, reading: Reading) -> dict[int, int]:
    """Pixels of each colour of a label map, with alpha, the commonest ones; none of a file that
    cannot be read, which is a problem of its own."""
    try:
        runs = Runs.of(half(read_colours(file), "input", reading))
    except InputError:
        return {}
    most = np.argsort(-runs.pixels, kind="stable")[:MOST_KEPT]
    return dict(zip(runs.codes[most].tolist(), runs.pixels[most].tolist(), strict=True))


@dataclass
class FoundColours:
    """The colours of all label maps."""

    pixels: Counter[int] = field(default_factory=Counter)
    maps: Counter[int] = field(default_factory=Counter)

    def add(self, colours: dict[int, int]) -> None:
        """Add those of one map."""
        if len(self.pixels) < MOST_KEPT:
            self.pixels.update(colours)
            self.maps.update(colours.keys())

    def as_text(self) -> str:
        """A file of labels, or what speaks against one."""
        # The opaque ones, the commonest first; of equally common ones the darker.
        total = sum(self.pixels.values())
        opaque = [code for code in self.pixels if code >> 24 == OPAQUE]
        opaque.sort(key=lambda code: (-self.pixels[code], code))
        levels = to_levels(np.array(opaque, np.int64)).tolist()
        if len(opaque) > MOST_COLOURS:
            some = ", ".join(
                f"{colour} {100 * self.pixels[code] / total:.3g}%"
                for code, colour in zip(opaque[:SHOWN], levels, strict=False)
            )
            return (
                f"colours of the label maps: {len(opaque)}, more than labels can have ({some}, "
                "...): they look like photos, or like maps that were resized with antialiasing or "
                "saved as JPEG once: give the maps as they were drawn"
            )

        # Ids by the way; greys are ids that a tool wrote three times.
        greys = all(len({*colour}) == 1 for colour in levels)
        lines = [
            "# The colours of the label maps, the commonest first. Save this as labels.yaml, give",
            "# names and ids (255: ignored), and say --labels labels.yaml",
            "labels:",
        ]
        for number, (code, colour) in enumerate(zip(opaque, levels, strict=True)):
            label = colour[0] if greys else number if number < IGNORED else IGNORED
            share, maps = 100 * self.pixels[code] / total, self.maps[code]
            lines.append(
                f"  - {{id: {label}, name: label_{label}, colour: {colour}}}"
                f"  # {share:.3g}% of the pixels, in {maps} map{'s' * (maps > 1)}"
            )

        # What is no colour of its own.
        clear = sum(count for code, count in self.pixels.items() if code >> 24 == 0)
        partly = total - clear - sum(self.pixels[code] for code in opaque)
        if clear:
            lines.append(
                f"# {100 * clear / total:.3g}% of the pixels are transparent: say what they mean, "
                "--transparent-label 255 for nothing"
            )
        if partly:
            lines.append(
                f"# {100 * partly / total:.3g}% of the pixels shine through in part, which is no "
                "label: save the maps without transparency"
            )
        return "\n".join(lines)
