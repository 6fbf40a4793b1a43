"""The size that an image is brought to before it is stored; random crops of it are made when it is
trained on."""

import re
from dataclasses import dataclass
from typing import Self

FORMS = "should be HEIGHTxWIDTH, xWIDTH, HEIGHTx, keep, round32 or round32max512, such as 512x1024"


@dataclass(frozen=True)
class Resize:
    """The rule of --size; `str` gives back what `parse` read."""

    height: int | None = None
    width: int | None = None
    multiple: int | None = None
    longest: int | None = None  # side in pixels, with `multiple`

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read --size. Raises ValueError for anything else than FORMS."""
        if text == "keep":
            return cls()
        if found := re.fullmatch(r"round(\d+)(?:max(\d+))?", text):
            longest = int(found[2]) if found[2] else None
            resize = cls(multiple=int(found[1]), longest=longest)
        elif (found := re.fullmatch(r"(\d*)x(\d*)", text)) and text != "x":
            height, width = (int(side) if side else None for side in found.groups())
            resize = cls(height, width)
        else:
            raise ValueError(FORMS)
        if 0 in (resize.height, resize.width, resize.multiple) or (
            resize.longest is not None and resize.longest < resize.multiple
        ):
            raise ValueError(FORMS)
        return resize

    def __str__(self) -> str:
        if self.multiple:
            return f"round{self.multiple}" + (f"max{self.longest}" if self.longest else "")
        return f"{self.height or ''}x{self.width or ''}" if self.height or self.width else "keep"

    @property
    def scales(self) -> bool:
        """Whether a side is given, so that files of one shape get one size."""
        return bool(self.height or self.width)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels of a prepared image, by the arithmetic of pix2pixHD's
        base_dataset.py.

        xWIDTH is its `scale_width`: the height is cut to a whole number. roundN is its `none`:
        Python's round, half to even, of each side, but never to 0. With maxM the longer side is M
        at most before that, the other in proportion.
        """
        if self.multiple:
            scale = min(1, (self.longest or max(height, width)) / max(height, width))
            height, width = height * scale, width * scale
            return tuple(
                max(self.multiple, round(side / self.multiple) * self.multiple)
                for side in (height, width)
            )
        if self.height and self.width:
            return self.height, self.width
        if self.width:
            return max(1, int(self.width * height / width)), self.width
        if self.height:
            return self.height, max(1, int(self.height * width / height))
        return height, width


def have_one_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two (height, width) may be one picture's at two scales: the shorter side is within a
    pixel of what the longer makes of it."""
    small, large = sorted((size, other), key=lambda sides: sides[0] * sides[1])
    longer = 0 if large[0] > large[1] else 1
    expected = large[1 - longer] * small[longer] / large[longer]
    return abs(expected - small[1 - longer]) < 1
