"""What `--check` tells: for people a line for each kind of thing, for programs everything."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field

from components.prepare.problems import ACCEPTED, REMEDIES, Problem, refused
from shared.contracts.labels import IGNORED, Label
from shared.data.labels import name_of

MOST_LINES = 20  # of one kind of problem


@dataclass
class CheckReport:
    """What was found, pair by pair."""

    layout: str
    notes: list[str]  # what people should know of the source
    pairs: dict[str, int]  # split -> how many
    problems: list[Problem]
    labels: list[Label] = field(default_factory=list)  # with names, as far as they are known
    sizes: Counter[str] = field(default_factory=Counter)
    label_pixels: Counter[int] = field(default_factory=Counter)
    label_images: Counter[int] = field(default_factory=Counter)
    num_instances: int = 0
    num_pixels: int = 0  # of all inputs that were read
    pixels_of: dict[str, int] = field(default_factory=dict)  # of files with a problem of shares

    def add(
        self,
        problems: list[Problem],
        size: tuple[int, int] | None,
        label_pixels: dict[int, int],
        num_instances: int,
    ) -> None:
        """Count one pair; `size` is the (height, width) of its input, None where it is
        unreadable."""
        self.problems += problems
        self.num_instances += num_instances
        self.label_pixels.update(label_pixels)
        self.label_images.update(label_pixels.keys())
        if size:
            height, width = size
            self.sizes[f"{height}x{width}"] += 1
            self.num_pixels += height * width
            self.pixels_of |= {found.file: height * width for found in problems if found.shares}

    def as_json(self) -> str:
        """Everything, problem by problem."""
        report = {
            "layout": self.layout,
            "notes": self.notes,
            **{f"{split}_pairs": count for split, count in self.pairs.items()},
            "sizes": dict(self.sizes.most_common()),
            "labels": {
                label: dict(
                    name=name_of(self.labels, label),
                    pixels=self.label_pixels[label],
                    images=self.label_images[label],
                )
                for label in sorted(self.label_pixels)
            },
            "instances": self.num_instances,
            "accepted": not refused(self.problems),
            "problems": [
                asdict(problem) | dict(remedy=problem.what_to_do, accepted=problem.kind in ACCEPTED)
                for problem in self.problems
            ],
        }
        return json.dumps(report, indent=1)

    def as_text(self) -> str:
        """A table, and a line for each kind of problem."""
        # What there is, the commonest sizes first.
        pairs = ", ".join(f"{count} {split} pairs" for split, count in self.pairs.items())
        sizes = [f"{size} ({count})" for size, count in self.sizes.most_common(8)]
        lines = [
            *self.notes,
            f"{pairs}, {self.num_instances} instances",
            f"sizes: {', '.join(sizes) or 'none'}" + ", ..." * (len(self.sizes) > 8),
            *self._label_table(),
            "",
        ]

        # What is wrong with it, the worst last: it stands where the eye is.
        kinds = [kind for kind in REMEDIES if any(found.kind == kind for found in self.problems)]
        for kind in sorted(kinds, key=lambda kind: kind not in ACCEPTED):
            lines += [*self._lines_of(kind), ""]
        count = len(refused(self.problems))
        if not self.problems:
            lines.append("no problems")
        elif not count:
            lines.append("nothing that prepare refuses")
        else:
            lines.append(f"prepare refuses this: {count} problem{'s' * (count > 1)}")
        return "\n".join(lines)

    def _label_table(self) -> list[str]:
        """The share of each label."""
        if not self.label_pixels:
            return []
        heading = f"{'label':>7}  {'pixels':>8}  {'images':>6}"
        lines = ["", heading + "  name" * bool(self.labels)]
        for label in sorted(self.label_pixels):
            name = "ignored" if label == IGNORED else label
            share = 100 * self.label_pixels[label] / self.num_pixels
            called = name_of(self.labels, label)
            is_named = label != IGNORED and called != str(label)
            line = f"{name:>7}  {share:7.3f}%  {self.label_images[label]:6d}"
            lines.append(line + f"  {called}" * is_named)
        return lines

    def _lines_of(self, kind: str) -> list[str]:
        """The problems of one kind: what to do, and a line for each thing that they are about."""
        of_kind: dict[tuple[str, str], list[Problem]] = {}  # by remedy and what it is about
        pixels: Counter[tuple[str, str]] = Counter()
        for problem in self.problems:
            if problem.kind == kind:
                for about, share in problem.shares or [("", 0)]:
                    key = problem.what_to_do, about
                    of_kind.setdefault(key, []).append(problem)
                    pixels[key] += round(share * self.pixels_of.get(problem.file, 0))

        # The remedy once for all things that have it.
        verdict = "prepare accepts it" if kind in ACCEPTED else "prepare refuses it"
        lines, told = [], ""
        for (remedy, about), found in list(of_kind.items())[:MOST_LINES]:
            if remedy != told:
                lines.append(f"{kind} ({verdict}). What to do: {remedy}.")
                told = remedy
            example = found[0]
            files = f"{len(found)} file{'s' * (len(found) > 1)}"
            if about:
                share = (
                    f"{100 * pixels[remedy, about] / max(self.num_pixels, 1):.3g}% of all pixels"
                )
                lines.append(f"    {about}: {files}, {share}, e.g. {example.file}")
            elif len(found) > 1:
                lines.append(f"    {files}, e.g. {example.file} {example.found}")
            else:
                lines.append(f"    {example.file} {example.found}")
        if len(of_kind) > MOST_LINES:
            lines.append(f"    ... and {len(of_kind) - MOST_LINES} more, all with --check-report")
        return lines
