"""What a report is about, for its title: which network, trained how long, on which data."""

import re
from dataclasses import dataclass
from typing import Self

from components.benchmark.page.table import counted
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard
from shared.contracts.labels import Label
from shared.contracts.measured import BenchmarkReport
from shared.contracts.model import BEST, LATEST, Architecture, ModelCard

NETWORKS = {
    "global": "pix2pixHD, global generator",
    "local": "pix2pixHD, local enhancer",
    "unet_128": "pix2pix, U-Net of 128",
    "unet_256": "pix2pix, U-Net of 256",
    "resnet_6blocks": "pix2pix, ResNet of six blocks",
    "resnet_9blocks": "pix2pix, ResNet of nine blocks",
}


@dataclass(frozen=True)
class Subject:
    """The model that was measured."""

    title: str  # of its run, where it has one
    facts: dict[str, str]  # in words, by what they are about
    export: ExportCard  # of the file that a reader may want to run
    labels: list[Label]  # of the maps

    @classmethod
    def of(
        cls,
        report: BenchmarkReport,
        export: ExportCard,
        card: ModelCard,
        manifest: DatasetManifest,
    ) -> Self:
        """The subject of a report, by the folders that the step was given."""
        network, size = describe(card.architecture), f"{report.height}×{report.width}"
        facts = {
            "network": network,
            "size": f"{size}, the file takes {'this alone' if export.size else 'any'}",
            "training": training(card),
            "data set": f"{manifest.name}: {contents(manifest)}",
            "measured": report.environment.get("measured", ""),
            "commit": short(report.environment.get("commit", "")),
        }
        run = report.environment.get("run") or NETWORKS[card.architecture.netG]
        title = f"{run}, {size}, on {manifest.name}"
        if card.chosen != LATEST:
            title += f", {card.called() if card.chosen == BEST else f'epoch {card.epoch}'}"
        facts = {name: text for name, text in facts.items() if text}
        return cls(title, facts, export, manifest.labels)


def describe(a: Architecture) -> str:
    """The generator, what it reads and makes, in words."""
    words = [f"{NETWORKS[a.netG]}, ngf {a.ngf}"]
    words += ["instance edges"] * a.use_instances
    words += [f"{a.feat_num} instance features"] * (a.feat_num > 0)
    words += ["grey pictures"] * (a.output_nc == 1)
    return ", ".join(words)


def training(card: ModelCard) -> str:
    """How long it was trained, and from what."""
    others = f", weights {card.called()}" if card.chosen != LATEST else ""
    if not card.images_seen:
        return f"weights from elsewhere{others}" if not card.config else f"weights {card.called()}"
    begun = ", begun with another model's weights" if card.parent_digest else ""
    images = f"{card.images_seen:,} image{'s' * (card.images_seen != 1)}"
    return f"{counted(card.epoch, 'epoch')}, {images} seen{begun}{others}"


def short(commit: str) -> str:
    """A commit as git abbreviates it, with what is said of it."""
    return re.sub(r"^([0-9a-f]{10})[0-9a-f]{30}", r"\1", commit)


def contents(manifest: DatasetManifest) -> str:
    """How many pairs a data set has, and of what."""
    tests = counted(len(manifest.test), "test pair")
    of = f"{manifest.num_labels} labels" if manifest.num_labels else "pictures as input"
    return f"{counted(len(manifest.train), 'training pair')}, {tests}, {of}"
