"""One step of the training: an update of G, with E, and of D."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from components.train.config import LossOptions, TrainConfig
from components.train.data.batches import Batch
from components.train.data.carrying import Carrier
from components.train.devices.captured import CapturedStep
from components.train.devices.exchange import gathered, mean_over_ranks
from components.train.devices.loss_scale import add_finite, means, start_apex
from components.train.devices.update import Update, update_all
from components.train.devices.world import ALONE, World
from components.train.losses import (
    D_total,
    G_total,
    discriminator_losses,
    generator_losses,
    losses_and_gradients,
    losses_of_pictures,
)
from components.train.networks.build import Networks
from components.train.networks.ema import Ema
from components.train.networks.fast_layers import learn_fast
from components.train.networks.memory import gains_by_nhwc
from components.train.plateau import Plateau
from components.train.pool import ImagePool
from components.train.schedule import ScheduleOptions, learning_rate
from shared.condition import encode_maps, instance_mean, paint, to_signed
from shared.contracts.model import Architecture
from shared.device import Runtime
from shared.errors import WorkFailed
from shared.networks.layers import is_nhwc
from shared.networks.pix2pixhd import LocalEnhancer


class Trainer:
    """The networks, an update for each of the two players, and all that must be remembered to go on
    as if training had never stopped."""

    def __init__(
        self,
        networks: Networks,
        architecture: Architecture,
        config: TrainConfig,
        runtime: Runtime,
        world: World = ALONE,
    ):
        self.networks, self.architecture = networks, architecture
        self.runtime, self.world = runtime, world
        self.loss_options: LossOptions = config
        self.schedule: ScheduleOptions = config
        self.seed, self.max_skipped_updates = config.seed, config.max_skipped_updates

        # How far it is.
        self.epoch = 0  # finished epochs
        self.images_seen = 0
        self.pairs = 0  # of the epoch that is under way, in its order; of all ranks
        self.sums: dict[str, Tensor] = {}  # of the losses of these

        # Networks on the device, in the memory format that it likes.
        self.memory_format = runtime.memory_format(
            config.memory_format, gains_by_nhwc(architecture, runtime)
        )
        for network in networks.trained().values():
            network.to(runtime.torch_device, memory_format=self.memory_format)
            learn_fast(network, in_any_form=config.memory_format == "auto")
        # What convolutions and ReLUs alone see gains by NHWC everywhere.
        self.simple_format = runtime.memory_format(config.memory_format, gains=True)
        if networks.vgg:  # frozen, so cast once
            networks.vgg.to(runtime.torch_device, runtime.dtype, memory_format=self.simple_format)

        # Two players.
        encoder = networks.E.parameters() if networks.E else ()
        same = dict(schedule=config, precision=config, runtime=runtime, world=world)
        self.update_G = Update((*encoder, *networks.G.parameters()), **same)
        self.update_D = Update(networks.D.parameters(), **same)
        if config.amp_backend == "apex":
            trained = list(networks.trained().values())
            optimizers = [self.update_G.optimizer, self.update_D.optimizer]
            self.update_G.scaler, self.update_D.scaler = start_apex(trained, optimizers, config)

        # What has a memory beside them.
        self.pool = ImagePool(config.pool_size, config.seed)
        self.ema = Ema(networks.G, config.ema_decay) if config.ema_decay else None
        self.plateau = Plateau(config.learning_rate) if config.lr_policy == "plateau" else None
        self.carrier = Carrier(runtime)
        self.after_step: Callable[[], object] | None = None  # a profiler's
        self.is_compiled = False
        self.compiled_losses: Callable | None = None  # and gradients, of pix2pixHD
        self.captured: CapturedStep | None = None

    def compile(self) -> None:
        """torch.compile what a step runs, without breaks; keys of checkpoints stay. Each shape of a
        batch has graphs of its own."""
        self.is_compiled, networks = True, [self.networks.G, self.networks.E]
        if self.architecture.is_pix2pix:
            networks += [self.networks.D, self.networks.vgg]
        else:
            import torch._dynamo  # seconds, which nobody else is to wait for

            torch._dynamo.config.trace_autograd_ops = True  # gradients are taken inside
            self.compiled_losses = torch.compile(losses_and_gradients, dynamic=False)
        for network in networks:
            if network is not None:
                network.compile(dynamic=False)

    def capture(self) -> None:
        """Have the device launch the kernels of a step by itself; see `--cuda-graph`."""
        optimizers = [self.update_G.optimizer, self.update_D.optimizer]
        self.captured = CapturedStep(self._learn, optimizers, self.runtime.streams())

    # An epoch.

    def start_epoch(self, epoch: int) -> None:
        """Set the learning rate and the generators of dropout, freeze or thaw the global part of a
        local enhancer."""
        # Dropout, unless its generators go on within the epoch.
        if self.pairs == 0:
            torch.manual_seed((self.seed * 1_000_003 + epoch) * self.world.size + self.world.rank)

        # The learning rate.
        reduced = self.plateau.learning_rate if self.plateau else None
        rate = learning_rate(self.schedule, epoch, self.world.size, reduced)
        for update in (self.update_G, self.update_D):
            for group in update.optimizer.param_groups:
                group["lr"] = rate

        # What learns of a local enhancer: all of it, or at first its outermost part.
        if isinstance(self.networks.G, LocalEnhancer):
            fixed = epoch <= self.schedule.epochs_fix_global
            self.networks.G.requires_grad_(not fixed)
            for parameter in self.networks.G.outermost_enhancer():
                parameter.requires_grad_(True)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the epoch under way, of all devices together."""
        return self.update_G.optimizer.param_groups[0]["lr"]

    def count(self, losses: dict[str, Tensor], batch_size: int) -> None:
        """Add a step's pairs and losses to those of the epoch, on the device."""
        pairs = batch_size * self.world.size
        self.pairs += pairs
        self.sums = add_finite(self.sums, losses, pairs)

    def finish_epoch(self, epoch: int) -> dict[str, float]:
        """The mean losses of its pairs, on all ranks. Raises WorkFailed where one is not
        finite."""
        losses = means(mean_over_ranks(self.sums, self.world))
        self.epoch, self.pairs, self.sums = epoch, 0, {}
        if not np.isfinite(list(losses.values())).all():
            raise WorkFailed(
                f"losses are no longer finite in epoch {epoch}: {losses}; lower --learning-rate."
            )
        if self.plateau:
            of_G = (value for name, value in losses.items() if name.startswith("G_"))
            self.plateau.step(sum(of_G))
        return losses

    def place(self, count: int) -> str:
        """How far it is, in words; count: pairs of an epoch."""
        total = self.schedule.total_epochs
        if self.pairs == 0:
            return f"epoch {self.epoch} of {total}"
        return f"pair {self.pairs} of {count} in epoch {self.epoch + 1} of {total}"

    def check_updates(self) -> int:
        """Updates skipped since the last call. Raises WorkFailed where nothing but such
        came lately."""
        players = {"G": self.update_G, "D": self.update_D}
        limit = self.max_skipped_updates
        return sum(update.scaler.check(name, limit) for name, update in players.items())

    # A step.

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of G (with E) and of D. Losses stay on the device."""
        losses = self.captured(batch) if self.captured else self._learn(batch)
        self.images_seen += len(batch) * self.world.size
        if self.after_step:
            self.after_step()
        return losses

    def _learn(self, batch: Batch) -> dict[str, Tensor]:
        """What the device does of a step; nothing is counted on the host, and where Adam is fused
        nothing is fetched."""
        if self.architecture.is_pix2pix:
            losses = self._step_pix2pix(batch)
        else:
            losses = self._step_pix2pixHD(batch)
        if self.ema:
            self.ema.update()
        return {name: loss.detach() for name, loss in losses.items()}

    def _step_pix2pixHD(self, batch: Batch) -> dict[str, Tensor]:
        """Update both against the same D."""
        D = self.networks.D

        # Forward, each network once. D and VGG see the picture cut off from G: two gradients are
        # taken of one graph.
        photo, condition = self.photo(batch), self.condition(batch)
        with self.runtime.autocast():
            fake = self.synthesise(batch, condition, photo)  # (N, output_nc, H, W) in [-1, 1]
            seen, shown = fake.detach().requires_grad_(), None
            if self.pool.size:
                shown = self.pool.query(torch.cat([condition, fake], dim=1)).detach()
            judged = (self.loss_options, D, self.networks.vgg, condition, photo, seen, shown)
            if self.compiled_losses is None:
                losses_D, losses_G = losses_of_pictures(*judged)

        # Backward: D's losses to its weights; G's to the picture alone, past D's weights, and from
        # there through G.
        if self.compiled_losses is None:
            with self.update_D.gradients(D_total(losses_D)) as loss_D:
                loss_D.backward(inputs=list(D.parameters()), retain_graph=True)
            with self.update_G.gradients(G_total(losses_G)) as loss_G:
                (towards_fake,) = torch.autograd.grad(loss_G, seen)
                fake.backward(towards_fake)
        else:
            one = torch.ones((), device=fake.device)
            with (
                self.update_D.gradients(one) as scale_D,
                self.update_G.gradients(one) as scale_G,
            ):
                with self.runtime.autocast():
                    found = self.compiled_losses(*judged, scale_D, scale_G)
                losses_D, losses_G, towards_weights, towards_fake = found
                torch.autograd.backward(list(D.parameters()), towards_weights)
                fake.backward(towards_fake)

        # Update, once nobody reads the old weights any more.
        update_all(self.update_G, self.update_D)
        return losses_G | losses_D

    def _step_pix2pix(self, batch: Batch) -> dict[str, Tensor]:
        """Update D first, then G against the new D."""
        D = self.networks.D
        photo, condition = self.photo(batch), self.condition(batch)
        real = torch.cat([condition, photo], dim=1)

        # D learns from the photo and from a fake, this one or an earlier one.
        with self.runtime.autocast():
            fake = self.synthesise(batch, condition, photo)  # (N, output_nc, H, W) in [-1, 1]
            shown = self.pool.query(torch.cat([condition, fake], dim=1))
            losses_D = discriminator_losses(self.loss_options, D(real), D(shown))
        with self.update_D.gradients(D_total(losses_D)) as loss_D:
            loss_D.backward()
        self.update_D.step_ahead()

        # G learns from the new D, whose weights get no gradient from it.
        D.requires_grad_(False)
        with self.runtime.autocast():
            real_scales = D(real) if self.loss_options.lambda_feature_matching else None
            fake_scales = D(torch.cat([condition, fake], dim=1))
            losses_G = generator_losses(
                self.loss_options, self.networks.vgg, fake_scales, real_scales, fake, photo
            )
        with self.update_G.gradients(G_total(losses_G)) as loss_G:
            loss_G.backward()
        update_all(self.update_G, ahead=self.update_D)
        D.requires_grad_(True)
        return losses_G | losses_D

    # What the networks see and make.

    def condition(self, batch: Batch) -> Tensor:
        """(N, channels [+ 1], H, W): one-hot labels or picture, and instance edges."""
        instances = batch.dense_ids if self.architecture.use_instances else None
        a, num_labels = self.architecture, self.architecture.num_labels
        nhwc = self.simple_format if num_labels and not a.is_pix2pix else self.memory_format
        maps = encode_maps(batch.inputs, instances, num_labels, nhwc == torch.channels_last)
        return maps.to(self.runtime.dtype) if num_labels else maps  # 0 and 1 are exact in 16 bits

    def photo(self, batch: Batch) -> Tensor:
        """(N, output_nc, H, W) in [-1, 1]."""
        return to_signed(batch.photos).contiguous(memory_format=self.memory_format)

    def synthesise(
        self, batch: Batch, condition: Tensor, photo: Tensor, G: nn.Module | None = None
    ) -> Tensor:
        """(N, output_nc, H, W) in [-1, 1], with features from the cluster step or from the encoder
        where G takes them."""
        G = G or self.networks.G
        if self.architecture.feat_num == 0:
            return G(condition)
        table = batch.features  # (N, F, K)
        if table is None:
            table = instance_mean(self.networks.E(photo).float(), batch.regions, batch.num_regions)
        painted = paint(table, batch.regions)
        if painted.requires_grad:
            return G((condition, painted.contiguous(memory_format=self.memory_format)))
        format_ = torch.channels_last if is_nhwc(condition) else torch.contiguous_format
        painted = painted.to(condition.dtype, memory_format=format_)
        return G(torch.cat([condition, painted], dim=1))

    @torch.inference_mode()
    def show(self, batch: Batch) -> Tensor:
        """(N, output_nc, H, W) float32 in [-1, 1] of the networks as they are saved, in evaluation
        mode."""
        batch, networks = batch.to(self.runtime.torch_device), self.published()
        # What is shown now and then, in its own size, is not worth a compilation.
        eager = torch.compiler.set_stance("force_eager") if self.is_compiled else nullcontext()
        with eager, evaluating(*networks.values()), self.runtime.autocast():
            condition, photo = self.condition(batch), self.photo(batch)
            return self.synthesise(batch, condition, photo, networks["G"]).float()

    def published(self) -> dict[str, nn.Module]:
        """The networks that are saved: of G its moving average, where there is one."""
        return self.networks.trained() | ({"G": self.ema.network} if self.ema else {})

    # All that goes on.

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` goes on from, bit for bit. All ranks call it."""
        # On all ranks the same sums, so that a resumed run goes on from these.
        self.sums = mean_over_ranks(self.sums, self.world)
        position = {
            "epoch": self.epoch,
            "images_seen": self.images_seen,
            "pairs": self.pairs,
            "sums": self.sums,
            "random": gathered(self.runtime.random_state(), self.world),
        }
        return {name: part.state_dict() for name, part in self.parts().items()} | position

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state that has all `parts`, of any number of ranks."""
        # Networks, optimisers and what else has a state of its own.
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        for update in (self.update_G, self.update_D):
            update.lay_out_as_weights()
        if self.captured:
            self.captured.forget()  # moments and averages are others

        # The place among the epochs, pairs and random numbers.
        self.epoch, self.images_seen = state["epoch"], state["images_seen"]
        self.pairs = state["pairs"]
        device = self.runtime.torch_device
        self.sums = {name: total.to(device) for name, total in state["sums"].items()}
        if self.pairs and self.draws_on(state):
            self.runtime.set_random_state(state["random"][self.world.rank])
        elif self.pairs:  # from what follows from the place alone
            place = (self.seed, self.epoch, self.pairs, self.world.size, self.world.rank)
            torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))

    def draws_on(self, state: dict) -> bool:
        """Whether dropout goes on within an epoch from the generators of a state: those of as many
        ranks, on the same kind of device."""
        states = state["random"]
        return len(states) == self.world.size and self.runtime.name in states[0]

    def parts(self) -> dict[str, object]:
        """What has a state of its own, under the names that checkpoints have for it."""
        parts = self.networks.trained() | {
            "optimizer_G": self.update_G.optimizer,
            "optimizer_D": self.update_D.optimizer,
            "scaler_G": self.update_G.scaler,
            "scaler_D": self.update_D.scaler,
            "pool": self.pool,
        }
        if self.ema:
            parts["ema"] = self.ema
        if self.plateau:
            parts["plateau"] = self.plateau
        return parts


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that each had."""
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)
