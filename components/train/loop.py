"""The training loop: epochs of steps, and what is seen, measured and saved after each."""

import time

import torch

from components.train.config import SavingOptions
from components.train.data.batches import Batch, EpochLoader
from components.train.devices.exchange import fetched_means, gathered
from components.train.figures import EpochFigures
from components.train.progress import Progress
from components.train.saved.folder import ModelFolder
from components.train.step import Trainer
from components.train.validation import Validation, sample_picture
from shared import tracking
from shared.data.images import write_picture
from shared.data.labels import colours_of
from shared.tracking.thinning import is_kept


class Curves:
    """What MLflow gets of the steps: some points, and always the last."""

    def __init__(self, steps_per_epoch: int, every_steps: int, total_epochs: int):
        self.every_steps, self.per_epoch = every_steps, steps_per_epoch // every_steps
        self.last = self.per_epoch * total_epochs
        self.skipped = 0  # updates since the last point

    def log(self, epoch: int, step: int, figures: dict[str, float], images_seen: int) -> None:
        """Log a point of an epoch's step, or leave it out."""
        point = (epoch - 1) * self.per_epoch + step // self.every_steps  # from 1
        if is_kept(point) or point == self.last:
            tracking.log_metrics(figures | {"skipped_updates": self.skipped}, images_seen)
            self.skipped = 0


class Clock:
    """Tells whether so many minutes are over since something was done."""

    def __init__(self, minutes: float):
        self.seconds = 60 * minutes
        self.begin()

    def begin(self) -> None:
        self.begun = time.monotonic()

    def is_over(self) -> bool:
        return time.monotonic() - self.begun >= self.seconds


def train(
    trainer: Trainer,
    loader: EpochLoader,
    samples: Batch,
    validation: Validation,
    folder: ModelFolder,
    options: SavingOptions,
) -> tuple[EpochFigures, float]:
    """Train from the epoch after the trainer's to the last one.

    samples: the pairs of the sample pictures. Returns the figures of the last epoch and the images
    per second over all epochs."""
    is_main, total = trainer.world.is_main, trainer.schedule.total_epochs
    since_save, since_sample = (
        Clock(options.save_every_minutes),
        Clock(options.sample_every_minutes),
    )
    progress = Progress(total, loader.steps(), quiet=not is_main)
    curves = Curves(loader.steps(), options.log_every_steps, total)
    all_images, all_seconds = 0, 0.0
    if is_main and trainer.images_seen == 0:  # the series begins where the curves do
        show_samples(trainer, samples, folder, epoch=0)
    for epoch in range(trainer.epoch + 1, total + 1):
        # The steps of the epoch.
        seen_before, start = trainer.images_seen, time.perf_counter()
        train_epoch(trainer, loader, folder, progress, curves, epoch, since_save, options)
        seconds, images = time.perf_counter() - start, trainer.images_seen - seen_before
        all_seconds, all_images = all_seconds + seconds, all_images + images
        figures = EpochFigures(trainer.finish_epoch(epoch))

        # Pictures of the sample pairs, and how far they are from the photos.
        is_due = epoch % options.sample_every_epochs == 0 and since_sample.is_over()
        if is_main and (epoch == total or is_due):
            since_sample.begin()
            figures.sample_l1 = show_samples(trainer, samples, folder, epoch)

        # Test pairs, and whether they were never done better.
        improved = False
        if validation.is_due(epoch):
            measured = validation.measure() if is_main else {}
            figures.validation = gathered(measured, trainer.world)[0]
            improved = folder.best.update(figures.validation, epoch)

        # A line for people, a point for each curve.
        fps = images / seconds
        print(
            f"epoch {epoch}/{total}  {figures.line()}  {fps:.1f} images/s  "
            f"{(total - epoch) * seconds:.0f} s left",
            flush=True,
        )
        pace = {"learning_rate": trainer.learning_rate, "images_per_second": fps, "epoch": epoch}
        tracking.log_metrics(figures.curves() | pace, trainer.images_seen)

        # A checkpoint.
        folder.metrics = figures.metrics()
        is_due = options.keep_checkpoints or any(gathered(since_save.is_over(), trainer.world))
        is_due = is_due and epoch % options.save_every_epochs == 0
        if epoch == total or improved or is_due:
            folder.save(goes_on=epoch < total)
            since_save.begin()
    return figures, all_images / all_seconds


def show_samples(trainer: Trainer, samples: Batch, folder: ModelFolder, epoch: int) -> float:
    """Write and log a picture of the sample pairs; return how far it is from the photos, L1 in
    [0, 1]."""
    picture, distance = sample_picture(trainer, samples, colours_of(folder.card.labels))
    write_picture(folder.path / "samples" / f"epoch_{epoch:04d}.png", picture)
    tracking.log_picture("input_synthesised_real", picture, trainer.images_seen)
    return distance


def train_epoch(
    trainer: Trainer,
    loader: EpochLoader,
    folder: ModelFolder,
    progress: Progress,
    curves: Curves,
    epoch: int,
    since_save: Clock,
    options: SavingOptions,
) -> None:
    """The steps of an epoch that are not done yet; at the end the device is idle."""
    trainer.start_epoch(epoch)
    device, steps = trainer.runtime.torch_device, loader.steps()
    # Counted from the end: those that were done may have been of another size.
    done = steps - loader.steps(trainer.pairs)
    left = loader.epoch(epoch, trainer.pairs)
    batches = progress.epoch(epoch, left, done, trainer.images_seen)
    for step, batch in enumerate(batches, done + 1):
        losses = trainer.step(trainer.carrier.carry(batch))
        trainer.count(losses, len(batch))

        # Curves: losses are fetched from the device only now.
        is_due = options.save_every_steps and step % options.save_every_steps == 0
        if step % options.log_every_steps == 0:
            is_over = bool(options.save_every_minutes) and since_save.is_over()
            if trainer.world.size > 1:  # who save together
                losses = losses | {"is_over": torch.tensor(float(is_over), device=device)}
            fetched = fetched_means(losses, trainer.world)
            is_due = is_due or fetched.pop("is_over", is_over) > 0
            rates = progress.measure(trainer.images_seen)
            progress.show(fetched, trainer.learning_rate, rates)
            points = {f"loss/{name}": loss for name, loss in fetched.items()}
            points["data_wait_share"] = rates.data_wait_share
            curves.skipped += trainer.check_updates()
            curves.log(epoch, step, points, trainer.images_seen)

        # The state, so that a kill costs little; the next steps do not wait for the disk.
        if is_due and step < steps:
            folder.save_state()
            since_save.begin()
    curves.skipped += trainer.check_updates()
    trainer.runtime.synchronize()
