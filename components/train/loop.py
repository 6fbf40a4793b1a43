"""The training loop, from networks to the last checkpoint."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from components.train.config import TrainConfig
from components.train.data.batches import Batch, EpochLoader
from components.train.devices.loss_scale import LossScaler, add_finite, means, start_apex
from components.train.devices.world import (
    ALONE,
    GradientSync,
    World,
    gathered,
    mean_over_ranks,
)
from components.train.ema import Ema
from components.train.losses import Scales, feature_matching_loss, gan_loss, l1_loss, vgg_loss
from components.train.networks.build import Networks
from components.train.networks.memory import stays_nhwc
from components.train.pool import ImagePool
from components.train.progress import Progress
from components.train.schedule import Plateau, learning_rate
from components.train.validation import Best, evaluating
from shared import tracking
from shared.condition import encode_maps, instance_mean, paint, to_signed, to_uint8
from shared.contracts.folder import Write, write_atomically
from shared.contracts.model import Architecture
from shared.data.images import write_picture
from shared.data.pictures import show_inputs, side_by_side
from shared.device import Runtime
from shared.errors import InputError
from shared.networks.checkpoint import load_tensors, save_tensors
from shared.networks.pix2pixhd import LocalEnhancer


class Trainer:
    """Networks, optimisers and their one step; everything that a checkpoint must hold."""

    def __init__(
        self,
        networks: Networks,
        architecture: Architecture,
        config: TrainConfig,
        runtime: Runtime,
        world: World = ALONE,
    ):
        self.networks, self.architecture, self.config = networks, architecture, config
        self.runtime, self.world = runtime, world
        self.epoch = 0  # finished epochs
        self.batches, self.sums = (
            0,
            {},
        )  # of the epoch that is under way: finished batches, and their losses added up
        self.images_seen = 0
        self.memory_format = runtime.memory_format(
            config.memory_format, stays_nhwc(architecture, runtime.name)
        )
        for network in (*networks.trained().values(), networks.vgg):
            if network is not None:
                network.to(runtime.torch_device, memory_format=self.memory_format)
        synthesis = [
            *(networks.E.parameters() if networks.E else ()),
            *networks.G.parameters(),
        ]  # as a step uses them
        adam = dict(
            lr=config.learning_rate, betas=(config.beta1, 0.999), fused=runtime.has_fused_adam
        )
        self.optimizer_G = torch.optim.Adam(synthesis, **adam)
        self.optimizer_D = torch.optim.Adam(networks.D.parameters(), **adam)
        if config.amp_backend == "apex":
            trained, optimizers = (
                list(networks.trained().values()),
                [self.optimizer_G, self.optimizer_D],
            )
            self.scaler_G, self.scaler_D = start_apex(trained, optimizers, config)
        else:
            self.scaler_G, self.scaler_D = (LossScaler(runtime, config) for _ in range(2))
        self.sync_G = GradientSync(synthesis, world, config.compress_gradients)
        self.sync_D = GradientSync(networks.D.parameters(), world, config.compress_gradients)
        self.pool = ImagePool(config.pool_size, config.seed)
        self.ema = Ema(networks.G, config.ema_decay) if config.ema_decay else None
        self.plateau = Plateau(config.learning_rate) if config.lr_policy == "plateau" else None
        self.best = Best(f"val/{config.best_by}")

    def start_epoch(self, epoch: int) -> None:
        """Set the learning rate and the generators of dropout, freeze or thaw the global part of a
        local enhancer."""
        if self.batches == 0:
            torch.manual_seed(
                (self.config.seed * 1_000_003 + epoch) * self.world.size + self.world.rank
            )
        for group in self.optimizer_G.param_groups + self.optimizer_D.param_groups:
            group["lr"] = self.learning_rate_in(epoch)
        if isinstance(self.networks.G, LocalEnhancer):
            fixed = epoch <= self.config.epochs_fix_global
            self.networks.G.requires_grad_(not fixed)
            for parameter in self.networks.G.outermost_enhancer():
                parameter.requires_grad_(True)

    def learning_rate_in(self, epoch: int) -> float:
        """Of all devices together."""
        return learning_rate(self.config, epoch, self.world.size, self.plateau)

    def condition(self, batch: Batch) -> Tensor:
        """(N, channels [+ 1], H, W): one-hot labels or picture, and instance edges."""
        instances = batch.dense_ids if self.architecture.use_instances else None
        maps = encode_maps(batch.inputs, instances, self.architecture.num_labels)
        return maps.contiguous(memory_format=self.memory_format)

    def photo(self, batch: Batch) -> Tensor:
        """(N, 3, H, W) in [-1, 1]."""
        return to_signed(batch.photos).contiguous(memory_format=self.memory_format)

    def synthesise(
        self, batch: Batch, condition: Tensor, photo: Tensor, G: nn.Module | None = None
    ) -> Tensor:
        """(N, 3, H, W) in [-1, 1], with features from the cluster step or from the encoder where G
        takes them."""
        G = G or self.networks.G
        if self.architecture.feat_num == 0:
            return G(condition)
        table = batch.features
        if table is None:
            table = instance_mean(self.networks.E(photo).float(), batch.regions, batch.num_regions)
        return G(torch.cat([condition, paint(table, batch.regions)], dim=1))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of G (with E) and of D. Losses stay on the device."""
        losses = (
            self._step_pix2pix(batch)
            if self.architecture.is_pix2pix
            else self._step_pix2pixHD(batch)
        )
        if self.ema:
            self.ema.update()
        self.images_seen += len(batch) * self.world.size
        return {name: loss.detach() for name, loss in losses.items()}

    def _step_pix2pixHD(self, batch: Batch) -> dict[str, Tensor]:
        """Both against the same D."""
        D, mode = self.networks.D, self.config.gan_mode

        # Forward, each network once. D and VGG see the picture cut off from G: two gradients are
        # taken of one graph.
        photo, condition = self.photo(batch), self.condition(batch)
        with self.runtime.autocast():
            fake = self.synthesise(batch, condition, photo)
            seen = fake.detach().requires_grad_()
            real_scales = D(torch.cat([condition, photo], dim=1))
            fake_scales = D(torch.cat([condition, seen], dim=1))
            shown_scales = fake_scales
            if self.pool.size:
                shown_scales = D(self.pool.query(torch.cat([condition, fake], dim=1)))
            losses_G = self._losses_G(fake_scales, real_scales, seen, photo)
            losses_D = {
                "D_real": gan_loss(real_scales, is_real=True, mode=mode),
                "D_fake": gan_loss(shown_scales, is_real=False, mode=mode),
            }

        # Backward: D's losses to its weights; G's to the picture alone, past D's weights, and from
        # there through G.
        self.optimizer_D.zero_grad(set_to_none=True)
        with self.scaler_D.scaled(0.5 * sum(losses_D.values()), self.optimizer_D) as loss_D:
            loss_D.backward(inputs=list(D.parameters()), retain_graph=True)
            self.sync_D.wait()
        self.optimizer_G.zero_grad(set_to_none=True)
        with self.scaler_G.scaled(sum(losses_G.values()), self.optimizer_G) as loss_G:
            (towards_fake,) = torch.autograd.grad(loss_G, seen)
            fake.backward(towards_fake)
            self.sync_G.wait()
        self.scaler_G.step(self.optimizer_G, self.config.clip_gradient_norm)
        self.scaler_D.step(self.optimizer_D, self.config.clip_gradient_norm)
        return losses_G | losses_D

    def _step_pix2pix(self, batch: Batch) -> dict[str, Tensor]:
        """D first, then G against the new D."""
        D, mode = self.networks.D, self.config.gan_mode
        photo, condition = self.photo(batch), self.condition(batch)
        with self.runtime.autocast():
            fake = self.synthesise(batch, condition, photo)
            shown = self.pool.query(torch.cat([condition, fake], dim=1))
            losses_D = {
                "D_real": gan_loss(
                    D(torch.cat([condition, photo], dim=1)), is_real=True, mode=mode
                ),
                "D_fake": gan_loss(D(shown), is_real=False, mode=mode),
            }
        self.optimizer_D.zero_grad(set_to_none=True)
        with self.scaler_D.scaled(0.5 * sum(losses_D.values()), self.optimizer_D) as loss_D:
            loss_D.backward()
            self.sync_D.wait()
        self.scaler_D.step(self.optimizer_D, self.config.clip_gradient_norm)

        D.requires_grad_(False)
        with self.runtime.autocast():
            real_scales = (
                D(torch.cat([condition, photo], dim=1))
                if self.config.lambda_feature_matching
                else None
            )
            losses_G = self._losses_G(
                D(torch.cat([condition, fake], dim=1)), real_scales, fake, photo
            )
        self.optimizer_G.zero_grad(set_to_none=True)
        with self.scaler_G.scaled(sum(losses_G.values()), self.optimizer_G) as loss_G:
            loss_G.backward()
            self.sync_G.wait()
        self.scaler_G.step(self.optimizer_G, self.config.clip_gradient_norm)
        D.requires_grad_(True)
        return losses_G | losses_D

    def _losses_G(
        self, fake_scales: Scales, real_scales: Scales | None, fake: Tensor, photo: Tensor
    ) -> dict:
        """Fool D, match its features, match VGG's, match the pixels: those that have a weight."""
        config, vgg = self.config, self.networks.vgg
        losses = {"G_GAN": gan_loss(fake_scales, is_real=True, mode=config.gan_mode)}
        if config.lambda_feature_matching:
            matching = feature_matching_loss(fake_scales, real_scales)
            losses["G_GAN_Feat"] = config.lambda_feature_matching * matching
        if vgg is not None:
            losses["G_VGG"] = config.lambda_vgg * vgg_loss(vgg, fake, photo)
        if config.lambda_L1:
            losses["G_L1"] = config.lambda_L1 * l1_loss(fake, photo)
        return losses

    def check_updates(self) -> int:
        """Updates skipped since the last call. Raises FloatingPointError where nothing but such
        came lately."""
        scalers, limit = {"G": self.scaler_G, "D": self.scaler_D}, self.config.max_skipped_updates
        return sum(scaler.check(name, limit) for name, scaler in scalers.items())

    def published(self) -> dict[str, nn.Module]:
        """The networks that are saved: of G its moving average, where there is one."""
        return self.networks.trained() | ({"G": self.ema.network} if self.ema else {})

    def save(self, path: Path, metrics: dict[str, float], write: Write = write_atomically) -> None:
        """Everything that training needs to go on as if it had never stopped, in one atomic file.
        All ranks call it."""
        state = {name: part.state_dict() for name, part in self._stateful().items()}
        progress = {"epoch": self.epoch, "images_seen": self.images_seen, "metrics": metrics}
        self.sums = mean_over_ranks(
            self.sums, self.world
        )  # on all ranks, so that resuming goes on from the same
        progress |= {"batches": self.batches, "sums": self.sums}
        progress |= {
            "random": gathered(self.runtime.random_state(), self.world),
            "best": self.best.state_dict(),
        }
        if self.world.is_main:
            save_tensors(
                path, state | progress | {"architecture": self.architecture.model_dump()}, write
            )

    def load(self, path: Path) -> dict[str, float]:
        """Go on from a saved state; returns its metrics. Raises InputError when it is of other
        networks."""
        state = load_tensors(path)
        for name, wanted in self.architecture.model_dump().items():
            if (found := state["architecture"].get(name)) != wanted:
                raise InputError(
                    f"--model {path.parent.parent} holds a training with {name} {found}, but "
                    f"{wanted} is asked for: "
                    "give an empty folder, or the same options to continue."
                )
        for name, part in self._stateful().items():
            if name not in state:
                raise InputError(
                    f"--model {path.parent.parent} holds a training without {name}: "
                    "give an empty folder, or the same options to continue."
                )
            part.load_state_dict(state[name])
        for optimizer in (self.optimizer_G, self.optimizer_D):
            _lay_out_as_weights(optimizer)
        self.epoch, self.images_seen, self.batches = (
            state["epoch"],
            state["images_seen"],
            state["batches"],
        )
        self.sums = {
            name: total.to(self.runtime.torch_device) for name, total in state["sums"].items()
        }
        if "best" in state:
            self.best.load_state_dict(state["best"])
        if self.batches:
            if len(state["random"]) != self.world.size:
                raise InputError(
                    f"--model {path.parent.parent} was stopped within an epoch on "
                    f"{len(state['random'])} devices but "
                    f"goes on with {self.world.size}: give as many, at least to the end of this "
                    "epoch."
                )
            self.runtime.set_random_state(state["random"][self.world.rank])
        return state["metrics"]

    def _stateful(self) -> dict[str, object]:
        optimizers = {"optimizer_G": self.optimizer_G, "optimizer_D": self.optimizer_D}
        others = {"scaler_G": self.scaler_G, "scaler_D": self.scaler_D, "pool": self.pool}
        some = {"ema": self.ema, "plateau": self.plateau}
        return (
            self.networks.trained()
            | optimizers
            | others
            | {name: part for name, part in some.items() if part}
        )


def _lay_out_as_weights(optimizer: torch.optim.Optimizer) -> None:
    """Fused Adam pairs weights and moments by their place in memory, but files hold moments in
    NCHW."""
    for weight, moments in optimizer.state.items():
        for name, moment in moments.items():
            if moment.shape == weight.shape:  # not the number of steps
                moments[name] = torch.empty_like(weight, dtype=moment.dtype).copy_(moment)


def train(
    trainer: Trainer,
    loader: EpochLoader,
    samples: Batch,
    model: Path,
    save: Callable[[dict[str, float]], None],
    save_state: Callable[[dict[str, float]], None],
    validate: Callable[[], dict[str, float]],
) -> dict[str, float]:
    """Train to the last epoch and return the mean losses of that epoch and the images per second
    over all.

    samples: the pairs of the sample pictures. `save(metrics)` writes the model folder; it runs
    every `save_every_epochs`, after the best and after the last. `save_state(metrics)` writes what
    resuming needs, within epochs. `validate()` measures the test pairs."""
    config, device = trainer.config, trainer.runtime.torch_device
    metrics: dict[str, float] = {}
    busy_seconds, busy_images = 0.0, 0
    is_main = trainer.world.is_main
    progress = Progress(config.total_epochs, len(loader), quiet=not is_main)
    for epoch in range(trainer.epoch + 1, config.total_epochs + 1):
        # One epoch: losses are fetched from the device every `log_every_steps` steps only.
        trainer.start_epoch(epoch)
        seen_before, start = trainer.images_seen, time.perf_counter()
        batches = progress.epoch(
            epoch, loader.epoch(epoch, trainer.batches), trainer.batches, trainer.images_seen
        )
        for step, batch in enumerate(batches, trainer.batches + 1):
            losses = trainer.step(batch.to(device))
            trainer.batches = step
            trainer.sums = add_finite(trainer.sums, losses)
            if (
                config.save_every_steps
                and step % config.save_every_steps == 0
                and step < len(loader)
            ):
                save_state(metrics)
            if step % config.log_every_steps == 0:
                fetched = {
                    name: loss.item()
                    for name, loss in mean_over_ranks(losses, trainer.world).items()
                }
                rates = progress.measure(trainer.images_seen)
                progress.show(fetched, trainer.learning_rate_in(epoch), rates)
                curves = {f"loss/{name}": loss for name, loss in fetched.items()}
                curves["data_wait_share"] = rates.data_wait_share
                curves["skipped_updates"] = trainer.check_updates()
                tracking.log_metrics(curves, trainer.images_seen)
        trainer.check_updates()
        trainer.runtime.synchronize()
        seconds, images = time.perf_counter() - start, trainer.images_seen - seen_before
        busy_seconds, busy_images = busy_seconds + seconds, busy_images + images
        sums, trainer.epoch, trainer.batches, trainer.sums = trainer.sums, epoch, 0, {}

        # Pictures of the same pairs, and how far they are from the photos.
        metrics = means(mean_over_ranks(sums, trainer.world))
        if not np.isfinite(list(metrics.values())).all():
            raise FloatingPointError(
                f"losses are no longer finite in epoch {epoch}: {metrics}; lower --learning-rate."
            )
        if trainer.plateau:
            trainer.plateau.step(
                sum(value for name, value in metrics.items() if name.startswith("G_"))
            )
        last = epoch == config.total_epochs
        if is_main and (last or epoch % config.sample_every_epochs == 0):
            picture, metrics["sample_L1"] = sample_picture(trainer, samples)
            write_picture(model / "samples" / f"epoch_{epoch:04d}.png", picture)
            tracking.log_picture("input_synthesised_real", picture, trainer.images_seen)

        # Test pairs, and whether they were never done better.
        improved = False
        if config.validate_every_epochs and (last or epoch % config.validate_every_epochs == 0):
            metrics |= gathered(validate() if is_main else {}, trainer.world)[0]
            improved = trainer.best.update(metrics, epoch)

        # A line for people, a point for each curve, a checkpoint.
        fps, remaining = images / seconds, (config.total_epochs - epoch) * seconds
        figures = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        print(
            f"epoch {epoch}/{config.total_epochs}  {figures}  {fps:.1f} images/s  {remaining:.0f} "
            "s left",
            flush=True,
        )
        curves = {
            name if name.startswith("val/") else f"epoch_loss/{name}": value
            for name, value in metrics.items()
        }
        curves |= {
            "learning_rate": trainer.learning_rate_in(epoch),
            "images_per_second": fps,
            "epoch": epoch,
        }
        tracking.log_metrics(curves, trainer.images_seen)
        if last or improved or epoch % config.save_every_epochs == 0:
            save(metrics)
    return metrics | {"mean_images_per_second": busy_images / busy_seconds}


@torch.inference_mode()
def sample_picture(trainer: Trainer, samples: Batch) -> tuple[np.ndarray, float]:
    """Rows of input | synthesised | real: (3, N * H, 3 * W) uint8, and the mean distance to real in
    [0, 2]."""
    batch, networks = samples.to(trainer.runtime.torch_device), trainer.published()
    with evaluating(*networks.values()), trainer.runtime.autocast():
        fake = trainer.synthesise(
            batch, trainer.condition(batch), to_signed(batch.photos), networks["G"]
        )
    distance = (fake.float() - to_signed(batch.photos)).abs().mean().item()
    synthesised = to_uint8(fake).cpu().numpy()  # (N, 3, H, W)
    shown = [
        show_inputs(inputs, trainer.architecture.num_labels) for inputs in samples.inputs.numpy()
    ]
    rows = zip(shown, synthesised, samples.photos.numpy(), strict=True)
    return np.concatenate([side_by_side(list(row)) for row in rows], axis=1), distance
