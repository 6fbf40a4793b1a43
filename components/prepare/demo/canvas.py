"""A pinhole camera over a street: shapes given in metres are drawn into a photo and into a map of
ids alike."""

import numpy as np
from PIL import Image, ImageDraw

from shared.data import images

Colour = tuple[int, int, int]
# x to the right, y up from the road, z away from the camera; metres
Point = tuple[float, float, float]

# Shapes are drawn at this multiple of the size, then the photo is averaged: soft edges.
SUPERSAMPLING = 2
CAMERA_HEIGHT = 1.4
NEAR = 0.5  # nothing is drawn closer to the camera than this
HAZE = 140.0  # the distance over which colours fade into the sky


class Canvas:
    """A photo and a map of ids that shapes are drawn into, far things first.

    Ids are Cityscapes' instance ids: label * 1000 + k for things, bare labels for stuff.
    """

    def __init__(self, height: int, width: int, horizon: float, camera_x: float, haze: Colour):
        self.height, self.width = height * SUPERSAMPLING, width * SUPERSAMPLING
        self.focal = 0.8 * self.width  # pixels; 64 degrees across
        self.horizon, self.camera_x, self.haze = horizon * self.height, camera_x, np.array(haze)
        self.photo = Image.new("RGB", (self.width, self.height))
        self.ids = Image.new("I", (self.width, self.height))
        self._photo, self._ids = ImageDraw.Draw(self.photo), ImageDraw.Draw(self.ids)

    def at(self, point: Point) -> tuple[float, float]:
        """Pixel (x, y) of a point."""
        x, y, z = point
        scale = self.focal / max(z, NEAR)
        right, down = x - self.camera_x, CAMERA_HEIGHT - y
        return self.width / 2 + right * scale, self.horizon + down * scale

    def polygon(self, points: list[Point], colour: Colour, ident: int | None = None) -> None:
        """Draw a filled shape; without `ident` it is a detail of what is there already, and only
        the photo changes."""
        pixels = [self.at(point) for point in points]
        self._photo.polygon(pixels, fill=self._faded(colour, min(z for _, _, z in points)))
        if ident is not None:
            self._ids.polygon(pixels, fill=ident)

    def panel(self, x: tuple, y: tuple, z: float, colour: Colour, ident: int | None = None) -> None:
        """Draw an upright rectangle that faces the camera."""
        (x0, x1), (y0, y1) = x, y
        self.polygon([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)], colour, ident)

    def wall(self, x: float, y: tuple, z: tuple, colour: Colour, ident: int | None = None) -> None:
        """Draw an upright rectangle along the street."""
        (y0, y1), (z0, z1) = y, z
        self.polygon([(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)], colour, ident)

    def floor(
        self, x: tuple, z: tuple, colour: Colour, ident: int | None = None, y: float = 0.0
    ) -> None:
        """Draw a rectangle that lies on the ground."""
        (x0, x1), (z0, z1) = x, z
        self.polygon([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)], colour, ident)

    def disc(self, centre: Point, radius: float, colour: Colour, ident: int | None = None) -> None:
        """Draw a disc that faces the camera; radius in metres."""
        x, y = self.at(centre)
        r = max(radius * self.focal / max(centre[2], NEAR), 1)
        self._photo.ellipse([x - r, y - r, x + r, y + r], fill=self._faded(colour, centre[2]))
        if ident is not None:
            self._ids.ellipse([x - r, y - r, x + r, y + r], fill=ident)

    def bar(
        self, start: Point, end: Point, thickness: float, colour: Colour, ident: int | None = None
    ) -> None:
        """Draw a straight bar; thickness in metres, at least one pixel."""
        pixels = [self.at(start), self.at(end)]
        thick = max(round(thickness * self.focal / max(start[2], NEAR)), 1)
        self._photo.line(pixels, fill=self._faded(colour, start[2]), width=thick)
        if ident is not None:
            self._ids.line(pixels, fill=ident, width=thick)

    def sky(self, top: Colour, ident: int) -> None:
        """Draw a gradient from `top` to the haze at the horizon, over the whole picture."""
        depth = np.clip(np.arange(self.height) / self.horizon, 0, 1)[:, None]  # (H, 1)
        top, haze = np.array(top)[:, None, None], self.haze[:, None, None]
        rows = top * (1 - depth) + haze * depth  # (3, H, 1)
        gradient = np.broadcast_to(rows, (3, self.height, self.width)).astype(np.uint8)
        self.photo.paste(Image.fromarray(images.to_hwc(gradient)))
        self._ids.rectangle([0, 0, self.width, self.height], fill=ident)

    def _faded(self, colour: Colour, z: float) -> Colour:
        """A colour as it looks through `z` metres of haze."""
        share = np.exp(-max(z, 0) / HAZE)
        return tuple((np.array(colour) * share + self.haze * (1 - share)).astype(int).tolist())

    def develop(
        self, rng: np.random.Generator, roughness: dict[int, float]
    ) -> tuple[np.ndarray, ...]:
        """Photo (3, H, W) uint8, labels (H, W) uint8, instance ids (H, W) uint16.

        `roughness`: grey levels of texture per label; other labels get 3.
        """
        # Ids are picked, the photo is averaged.
        instances = np.asarray(self.ids)[1::SUPERSAMPLING, 1::SUPERSAMPLING].astype(np.uint16)
        labels = np.where(instances < 1000, instances, instances // 1000).astype(np.uint8)
        height, width = labels.shape
        photo = np.asarray(self.photo.reduce(SUPERSAMPLING), np.float32)
        photo = images.to_chw(photo)  # (3, H, W)

        # Texture, coarse and fine.
        amplitude = np.full(256, 3, np.float32)
        amplitude[list(roughness)] = list(roughness.values())
        coarse = rng.integers(0, 256, (1, height // 4 + 1, width // 4 + 1), np.uint8)
        grain = images.resize_picture(coarse, height, width)[0] / 255 * 2 - 1  # (H, W), [-1, 1]
        grain = 0.6 * grain + 0.5 * rng.standard_normal((height, width), np.float32)
        photo += amplitude[labels] * grain

        # A lens is darker towards its corners.
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        photo *= 1 - 0.12 * (x**2 + y**2)
        return photo.clip(0, 255).astype(np.uint8), labels, instances
