"""Line charts as inline SVG. The page's style sheet colours them: class `s0`, `s1` ... is the look
of one line.

By hand, since matplotlib's SVG has its colours inside (no dark mode), no words under the mouse and
addresses of other sites, and is six to nine times as long."""

import itertools
import math
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 460, 250  # of the drawing; a page scales it
LEFT, RIGHT, TOP, BOTTOM = 62, 440, 12, 208  # of the plot inside it
LOOKS = 8  # lines that the style sheet can tell apart
MOST_DOTS = 40  # of a line; a longer one is drawn without


@dataclass(frozen=True)
class Line:
    """A line of a chart, and its name in the legend."""

    name: str
    points: list[tuple[float, float]]  # by rising x; one that is not finite leaves a gap


@dataclass(frozen=True)
class Plot:
    """Brings values to places in the drawing."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        """From the left; the middle where all values are one."""
        low, high = self.x_range
        share = (value - low) / (high - low) if high > low else 0.5
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def y(self, value: float) -> float:
        """From the top."""
        low, high = self.y_range
        return round(BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP), 1)


def line_chart(
    title: str,
    lines: list[Line],
    x_label: str,
    y_label: str,
    x_ticks: dict[float, str] | None = None,
    y_includes: tuple[float, ...] = (),
) -> Markup:
    """Draw lines as a <figure> of title, chart and, where the title does not say it, legend.

    Args:
        x_ticks: Text at places on the x axis; None = round numbers.
        y_includes: What the y axis covers beside the points, such as zero.
    """
    # The ranges of both axes.
    finite = [point for line in lines for point in line.points if all(map(math.isfinite, point))]
    xs, ys = zip(*finite or [(0.0, 0.0)], strict=True)
    y_ticks = round_numbers(min(ys + y_includes), max(ys + y_includes))
    plot = Plot((min(xs), max(xs)), (y_ticks[0], y_ticks[-1]))
    if x_ticks is None:
        numbers = round_numbers(*plot.x_range)
        x_ticks = {
            x: written(x, numbers) for x in numbers if plot.x_range[0] <= x <= plot.x_range[1]
        }

    # Axes.
    parts = []
    for y in y_ticks:
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, plot.y(y), RIGHT))
        parts.append(_text(LEFT - 8, plot.y(y) + 4, "end", written(y, y_ticks)))
    parts += [_text(plot.x(x), BOTTOM + 18, "middle", text) for x, text in x_ticks.items()]
    parts.append(_text((LEFT + RIGHT) / 2, HEIGHT - 4, "middle", x_label))

    # Lines and their names.
    swatch = Markup('<span class="{}"><svg viewBox="0 0 28 10"><path d="M0 5H28"/></svg>{}</span>')
    names = Markup("")
    for number, line in enumerate(lines):
        look = f"s{number % LOOKS}"
        if len(line.points) > MOST_DOTS:
            look += " dense"
        parts.append(_draw(look, line, plot, x_ticks, y_label))
        if line.points:
            names += swatch.format(look, line.name)
    legend = Markup('<div class="legend">{}</div>').format(names)
    if [line.name for line in lines] == [title]:
        legend = ""

    return Markup(
        '<figure class="chart"><figcaption>{}</figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>{}</figure>'
    ).format(title, WIDTH, HEIGHT, title, Markup("").join(parts), legend)


def _text(x: float, y: float, anchor: str, text: str) -> Markup:
    """Words at a place of the drawing; they start, end or have their middle there."""
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _draw(look: str, line: Line, plot: Plot, x_ticks: dict[float, str], y_label: str) -> Markup:
    """Draw a path with its gaps, and a dot on each point that says under the mouse what it is."""
    path, dots, joined = [], [], False
    for x, y in line.points:
        if not (math.isfinite(x) and math.isfinite(y)):
            joined = False
            continue
        path.append(f"{'L' if joined else 'M'}{plot.x(x)} {plot.y(y)}")
        joined = True
        tip = f"{line.name}, {x_ticks.get(x, f'{x:g}')}: {y:.4g} {y_label}".rstrip()
        dot = Markup('<circle cx="{}" cy="{}" r="3.5"><title>{}</title></circle>')
        dots.append(dot.format(plot.x(x), plot.y(y), tip))
    dots = Markup("").join(dots if len(dots) <= MOST_DOTS else [])
    return Markup('<g class="{}"><path d="{}"/>{}</g>').format(look, "".join(path), dots)


def round_numbers(low: float, high: float) -> list[float]:
    """Choose about five ticks that enclose low .. high: multiples of 1, 2, 2.5 or 5 times a power
    of ten."""
    # What they have to cover.
    span, size = high - low, max(abs(low), abs(high))
    if span <= 1e-9 * size:  # ticks so close to each other are not worth their digits
        span = size
    if span <= 1e-100:  # its powers of ten are no numbers any more
        span = 1.0

    # The smallest round step that is a fifth of it or more.
    fifth = span / 5
    power = 10.0 ** math.floor(math.log10(fifth))
    steps = [factor * power for factor in (1, 2, 2.5, 5, 10)]
    step = next(step for step in steps if step >= fifth * (1 - 1e-9))

    # Those that enclose the range, two or more.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def written(value: float, ticks: list[float]) -> str:
    """Write a tick with as many decimals as tell the ticks apart."""
    step = ticks[1] - ticks[0]
    decimals = next(d for d in itertools.count() if abs(round(step, d) - step) < step * 1e-6)
    return f"{value:,.{decimals}f}"
