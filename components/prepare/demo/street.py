"""One street scene of the demo data: what stands where, and how it is drawn.

Labels are Cityscapes' ids, lengths are metres."""

from collections.abc import Callable
from functools import partial

import numpy as np

from components.prepare.demo.canvas import Canvas, Colour

ROAD, SIDEWALK, BUILDING, FENCE, POLE, LIGHT, SIGN = 7, 8, 11, 13, 17, 19, 20
VEGETATION, SKY, PERSON, RIDER, CAR, BICYCLE = 21, 23, 24, 25, 26, 33

# Facades are stuff: all of a scene share one id, so they share one style, and only differ a little
# in brightness.
FACADES = [(196, 176, 142), (156, 92, 74), (132, 144, 156), (214, 204, 184), (178, 140, 86)]
SKIES = [
    ((86, 140, 206), (206, 222, 236)),
    ((168, 174, 182), (206, 208, 210)),
    ((104, 120, 170), (240, 206, 168)),
]
FOLIAGE = [(62, 104, 46), (98, 118, 44), (150, 106, 40)]
PAINTS = [(226, 226, 228), (44, 46, 52), (176, 38, 36), (44, 78, 156), (212, 170, 46)]
SHIRTS = [(188, 48, 52), (48, 88, 164), (230, 226, 214), (60, 120, 76), (60, 52, 62)]
TROUSERS = [(46, 52, 74), (92, 84, 74), (30, 30, 34)]
FRAMES = [(196, 44, 40), (40, 96, 172), (34, 34, 36), (52, 140, 84)]
SIGNS = [(196, 36, 40), (36, 84, 176), (226, 190, 44)]
GLASS, TYRE, SKIN, STEEL = (50, 62, 74), (26, 26, 28), (206, 160, 132), (112, 116, 120)
ASPHALT, PAVING = (104, 102, 106), (166, 152, 150)
PAINT_WHITE, SHADOW = (222, 222, 216), (62, 60, 66)
ROUGHNESS = {ROAD: 5, SIDEWALK: 7, BUILDING: 6, VEGETATION: 26, SKY: 2}

# Half the road, where facades begin, how far one sees.
ROAD_EDGE, HOUSE_LINE, STREET_END = 5.2, 9.0, 110.0


def draw_scene(
    height: int, width: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photo (3, H, W) uint8, labels (H, W) uint8, instance ids (H, W) uint16 of one street."""
    sky, haze = _pick(rng, SKIES)
    horizon, camera_x = rng.uniform(0.44, 0.54), rng.uniform(1.0, 2.2)
    canvas = Canvas(height, width, horizon, camera_x, haze)
    canvas.sky(sky, SKY)
    Street(canvas, rng).draw()
    return canvas.develop(rng, ROUGHNESS)


class Street:
    """What stands in a street, drawn onto a canvas: far things first."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator):
        self.canvas, self.rng = canvas, rng
        self.foliage = _pick(rng, FOLIAGE)
        self.counts = dict.fromkeys((PERSON, RIDER, CAR, BICYCLE), 0)
        self.things: list[tuple[float, partial]] = []  # (distance, how to draw it)

    def draw(self) -> None:
        """Draw the ground, the houses on both sides, and what stands in between."""
        self._ground()
        self._street_end()
        facade = _pick(self.rng, FACADES)
        for side in (-1, 1):
            self._houses(side, facade)

        self._place_things()
        for z, draw in sorted(self.things, key=lambda thing: -thing[0]):
            draw(z)

    def _place_things(self) -> None:
        """Choose where cars, trees, poles, people and bicycles stand."""
        # Along both sides.
        rng, add, ident = self.rng, self._add, self._ident
        for side in (-1, 1):
            for z in _spaced(rng, 7, 70, 6.0, 14.0):
                if rng.random() < 0.6:
                    add(z, self._car, x=side * 4.2, ident=ident(CAR), comes=side < 0)
            for z in _spaced(rng, 10, 80, 9.0, 20.0):
                if rng.random() < 0.6:
                    add(z, self._tree, x=side * rng.uniform(6.8, 7.6))
            for z in _spaced(rng, 9, 60, 12.0, 26.0):
                add(z, self._pole, x=side * 5.6)
            for z in _spaced(rng, 5.5, 45, 3.0, 11.0):
                x = side * rng.uniform(5.8, 8.2)
                add(z, self._person, x=x, y=0.15, ident=ident(PERSON))

        # On the road.
        for z in _spaced(rng, 9, 60, 12.0, 26.0):
            add(z, self._car, x=1.6, ident=ident(CAR), comes=False)
        for z in _spaced(rng, 8, 60, 12.0, 26.0):
            add(z, self._car, x=-1.6, ident=ident(CAR), comes=True)

        # Bicycles on the pavement; perhaps somebody rides across the street.
        for side, near, far in ((1, 8, 11), (-1, 14, 22)):
            z, x = rng.uniform(near, far), side * rng.uniform(5.6, 6.2)
            add(z, self._bicycle, x=x, y=0.15, ident=ident(BICYCLE))
        if rng.random() < 0.5:
            z, x = rng.uniform(8, 16), rng.uniform(-2, 4)
            add(z + 0.1, self._person, x=x, y=0.3, ident=ident(RIDER))
            add(z, self._bicycle, x=x, y=0.0, ident=ident(BICYCLE))

    def _add(self, z: float, draw: Callable[..., None], **how) -> None:
        self.things.append((z, partial(draw, **how)))

    def _ident(self, label: int) -> int:
        """The next instance id: they count up per label, as in Cityscapes."""
        self.counts[label] += 1
        return label * 1000 + self.counts[label] - 1

    def _ground(self) -> None:
        """Draw pavement, road, kerbs, lane marks, and perhaps a zebra crossing."""
        canvas, rng = self.canvas, self.rng
        canvas.floor((-60, 60), (0, 400), PAVING, SIDEWALK)
        canvas.floor((-ROAD_EDGE, ROAD_EDGE), (0, 400), ASPHALT, ROAD)
        for side in (-1, 1):
            kerb = (side * ROAD_EDGE, side * (ROAD_EDGE + 0.25))
            canvas.floor(kerb, (0, 400), (188, 184, 178))
        for z in np.arange(rng.uniform(1, 7), 90, 6.0):
            canvas.floor((-0.08, 0.08), (z, z + 3), PAINT_WHITE)
        if rng.random() < 0.3:  # a zebra crossing
            z = rng.uniform(9, 22)
            for x in np.arange(-4.8, 4.8, 1.0):
                canvas.floor((x, x + 0.5), (z, z + 3), PAINT_WHITE)

    def _street_end(self) -> None:
        """Draw far houses and trees across the end of the street."""
        canvas, rng = self.canvas, self.rng
        for x in np.arange(-45, 45, 9.0):
            if rng.random() < 0.4:
                top = rng.uniform(8, 16)
                canvas.panel((x, x + 9), (0, top), STREET_END, (150, 144, 140), BUILDING)
            for _ in range(3):
                crown = (x + rng.uniform(0, 9), rng.uniform(2, 6), STREET_END - 2)
                canvas.disc(crown, rng.uniform(3, 5), self.foliage, VEGETATION)

    def _houses(self, side: int, facade: Colour) -> None:
        """Draw one side of the street: houses, and gardens between them."""
        lots = [2.0]
        while lots[-1] < STREET_END - 12:
            lots.append(lots[-1] + self.rng.uniform(10, 18))
        for near, far in reversed(list(zip(lots, lots[1:], strict=False))):
            if self.rng.random() < 0.18:
                self._garden(side, near, far)
            else:
                self._house(side, near, far, facade)

    def _house(self, side: int, near: float, far: float, facade: Colour) -> None:
        """Draw a house from `near` to `far` along the street."""
        canvas, rng = self.canvas, self.rng
        floors, tint = int(rng.integers(3, 6)), rng.uniform(0.86, 1.1)
        top, x = floors * 3.0 + 1.2, side * HOUSE_LINE
        canvas.panel((x, x + side * 12), (0, top), near, _shade(facade, 0.72 * tint), BUILDING)
        canvas.wall(x, (0, top), (near, far), _shade(facade, tint), BUILDING)
        canvas.wall(x, (top - 0.5, top), (near, far), _shade(facade, 0.6))  # eaves
        canvas.wall(x, (0, 0.6), (near, far), _shade(facade, 0.65))

        # A window per floor and column.
        columns = np.linspace(near, far, int((far - near) / 2.8) + 1)
        frame = _shade(facade, 1.22 * tint)
        for floor in range(floors):
            for z0, z1 in zip(columns, columns[1:], strict=False):
                left, right = z0 + 0.28 * (z1 - z0), z1 - 0.28 * (z1 - z0)
                sill = floor * 3.0 + (0.7 if floor else 0.1)
                canvas.wall(x, (sill - 0.12, sill + 1.9), (left - 0.15, right + 0.15), frame)
                canvas.wall(x, (sill, sill + 1.75), (left, right), GLASS)

    def _garden(self, side: int, near: float, far: float) -> None:
        """Draw bushes behind a fence."""
        canvas, rng = self.canvas, self.rng
        for z in np.linspace(far, near, 6):
            crown = (side * rng.uniform(11, 14), rng.uniform(2, 4.5), z)
            radius, tint = rng.uniform(1.8, 2.8), rng.uniform(0.8, 1.1)
            canvas.disc(crown, radius, _shade(self.foliage, tint), VEGETATION)
        canvas.wall(side * HOUSE_LINE, (0, 1.4), (near, far), (128, 108, 88), FENCE)
        for z in np.arange(near, far, 0.7):
            canvas.wall(side * HOUSE_LINE, (0, 1.4), (z, z + 0.15), (86, 70, 56))

    def _tree(self, z: float, x: float) -> None:
        """Draw a trunk and nine tufts of leaves."""
        canvas, rng = self.canvas, self.rng
        height = rng.uniform(4.5, 6.5)
        canvas.bar((x, 0, z), (x, height - 1, z), 0.3, (84, 68, 52), VEGETATION)
        for _ in range(9):
            centre = (x + rng.normal(0, 0.7), height + rng.normal(0, 0.7), z)
            radius, tint = rng.uniform(0.7, 1.2), rng.uniform(0.8, 1.2)
            canvas.disc(centre, radius, _shade(self.foliage, tint), VEGETATION)

    def _pole(self, z: float, x: float) -> None:
        """Draw a street lamp, a traffic sign or a traffic light."""
        canvas, rng = self.canvas, self.rng
        kind, towards = rng.random(), -np.sign(x)
        height = 6.0 if kind < 0.4 else 3.0
        canvas.bar((x, 0, z), (x, height, z), 0.14, STEEL, POLE)
        if kind < 0.4:  # a street lamp
            canvas.bar((x, height, z), (x + towards * 1.5, height + 0.2, z), 0.12, STEEL, POLE)
        elif kind < 0.8:
            colour = _pick(rng, SIGNS)
            canvas.disc((x, height, z), 0.42, colour, SIGN)
            canvas.panel((x - 0.26, x + 0.26), (height - 0.08, height + 0.08), z, PAINT_WHITE)
        else:
            canvas.panel((x - 0.2, x + 0.2), (height - 0.6, height + 0.5), z, (32, 34, 36), LIGHT)
            lit = rng.integers(3)
            for lamp, colour in enumerate(((60, 200, 110), (240, 190, 60), (230, 50, 44))):
                shown = colour if lamp == lit else _shade(colour, 0.3)
                canvas.disc((x, height - 0.4 + 0.34 * lamp, z), 0.12, shown)

    def _car(self, z: float, x: float, ident: int, comes: bool) -> None:
        """Draw a box with a cabin on it."""
        canvas, rng = self.canvas, self.rng
        paint, length, waist, roof = _pick(rng, PAINTS), 4.2, 0.97, 1.5
        start, end = (1.6, 3.2) if comes else (1.0, 2.6)  # of the roof, behind the near face
        canvas.floor((x - 1.1, x + 1.1), (z - 0.3, z + length), SHADOW)

        # The flank that the camera sees, with two wheels.
        side = -1 if canvas.camera_x < x else 1
        flank, pillar = x + side * 0.9, x + side * 0.7
        cabin = [
            (flank, waist, z),
            (pillar, roof, z + start),
            (pillar, roof, z + end),
            (flank, waist, z + length),
        ]
        canvas.polygon(cabin, _shade(GLASS, 0.9), ident)
        canvas.wall(flank, (0.3, waist), (z, z + length), _shade(paint, 0.78), ident)
        circle = [(0.32 * np.sin(t), 0.32 * np.cos(t)) for t in np.linspace(0, 2 * np.pi, 14)]
        for axle in (z + 0.8, z + 3.4):
            canvas.polygon([(flank, 0.32 + dy, axle + dz) for dy, dz in circle], TYRE, ident)
            rim = [(flank, 0.32 + 0.55 * dy, axle + 0.55 * dz) for dy, dz in circle]
            canvas.polygon(rim, STEEL)

        # Its front where it comes, else its rear.
        canvas.panel((x - 0.85, x - 0.55), (0, 0.5), z, TYRE, ident)
        canvas.panel((x + 0.85, x + 0.55), (0, 0.5), z, TYRE, ident)
        canvas.panel((x - 0.9, x + 0.9), (0.25, waist), z, paint, ident)
        pane = [
            (x - 0.9, waist, z),
            (x + 0.9, waist, z),
            (x + 0.7, roof, z + start),
            (x - 0.7, roof, z + start),
        ]
        canvas.polygon(pane, paint, ident)
        pane = [(x + 0.86 * (px - x), 1.02 + 0.82 * (py - waist), pz) for px, py, pz in pane]
        canvas.polygon(pane, GLASS)
        lamp = (250, 246, 220) if comes else (206, 30, 30)
        canvas.panel((x - 0.86, x - 0.58), (0.68, 0.86), z, lamp)
        canvas.panel((x + 0.86, x + 0.58), (0.68, 0.86), z, lamp)
        canvas.panel((x - 0.9, x + 0.9), (0.25, 0.4), z, _shade(paint, 0.55))
        canvas.panel((x - 0.26, x + 0.26), (0.45, 0.58), z, PAINT_WHITE)

    def _person(self, z: float, x: float, y: float, ident: int) -> None:
        """Draw legs, arms, a torso and a head; the feet at height `y`."""
        canvas, rng = self.canvas, self.rng
        tall, stride = rng.uniform(0.92, 1.06), rng.uniform(0.05, 0.22)
        shirt, trousers = _pick(rng, SHIRTS), _pick(rng, TROUSERS)
        hip, shoulder = y + 0.85 * tall, y + 1.42 * tall
        for left in (-1, 1):
            canvas.bar((x + left * 0.07, hip, z), (x + left * stride, y, z), 0.17, trousers, ident)
            start, end = (x + left * 0.22, shoulder - 0.06, z), (x + left * 0.3, hip, z)
            canvas.bar(start, end, 0.12, _shade(shirt, 0.85), ident)
        waist = [(x - 0.2, hip - 0.05, z), (x + 0.2, hip - 0.05, z)]
        shoulders = [(x + 0.25, shoulder, z), (x - 0.25, shoulder, z)]
        canvas.polygon(waist + shoulders, shirt, ident)
        canvas.disc((x, shoulder + 0.18, z), 0.14, SKIN, ident)
        canvas.disc((x, shoulder + 0.25, z), 0.12, (58, 42, 32))

    def _bicycle(self, z: float, x: float, y: float, ident: int) -> None:
        """Draw a bicycle from the side, its wheels on height `y`."""
        canvas, rng = self.canvas, self.rng
        frame, radius = _pick(rng, FRAMES), 0.36
        back, front = (x - 0.55, y + radius), (x + 0.55, y + radius)
        saddle, bars = (x - 0.2, y + 0.95), (x + 0.42, y + 1.0)
        for wheel in (back, front):
            canvas.disc((*wheel, z), radius, TYRE, ident)
            canvas.disc((*wheel, z), 0.8 * radius, (150, 148, 146))
            canvas.disc((*wheel, z), 0.12 * radius, TYRE)
        pedal = (x, y + radius)
        rear_tubes = (back, saddle), (saddle, pedal), (pedal, back)
        front_tubes = (pedal, bars), (saddle, bars), (bars, front)
        for start, end in (*rear_tubes, *front_tubes):
            canvas.bar((*start, z), (*end, z), 0.1, frame, ident)
        for (middle, top), behind, before, thick in (
            (saddle, 0.13, 0.13, 0.09),
            (bars, 0.16, 0.06, 0.07),
        ):
            canvas.bar((middle - behind, top, z), (middle + before, top, z), thick, TYRE, ident)


def _spaced(
    rng: np.random.Generator, start: float, end: float, least: float, most: float
) -> list[float]:
    """Distances between `start` and `end`, `least`..`most` metres from one to the next."""
    found = [start + rng.uniform(0, most - least)]
    while found[-1] < end:
        found.append(found[-1] + rng.uniform(least, most))
    return found[:-1]


def _pick(rng: np.random.Generator, choices: list):
    return choices[rng.integers(len(choices))]


def _shade(colour: Colour, factor: float) -> Colour:
    return tuple(min(255, int(channel * factor)) for channel in colour)
