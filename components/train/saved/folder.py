"""The model folder that a training fills: weights, card, the state to continue from, the best
weights, copies of earlier ones."""

import contextlib
import math
from collections.abc import Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor, nn

from components.train.config import TrainConfig
from components.train.continuing import Facts
from components.train.networks.ema import Ema
from components.train.saved.fitting import misfit
from components.train.saved.snapshot import snapshot
from components.train.saved.state import (
    FORMAT,
    L1_RANGE,
    count_pairs,
    halve_old_l1,
    state_before,
    state_file,
)
from components.train.step import Trainer
from components.train.validation import Best
from shared.contracts.model import BEST, LATEST, ModelCard, SavedWeights
from shared.errors import InputError, WorkFailed, repeat
from shared.files.digests import sha256_of
from shared.files.writing import Write, written_together
from shared.networks.checkpoint import save_tensors, save_weights
from shared.networks.chosen import digest_of, record_of, weights_in
from shared.networks.foreign import in_layout_of
from shared.networks.weight_file import load_tensors, not_finite


class ModelFolder:
    """What a training leaves in its model folder, and finds there when it goes on."""

    def __init__(
        self,
        path: Path,
        trainer: Trainer,
        card: ModelCard,
        best_by: str,
        keep_checkpoints: int = 0,
        encoder: bytes | None = None,
        facts: Facts | None = None,
    ):
        """card: what does not change while training. best_by: figure of the validation whose best
        epoch's weights are kept. keep_checkpoints: number of latest weights that are kept under
        their epoch too. encoder: file of weights that belong to the model though they are not
        trained, as it was read; None = there is no such. facts: of the training, for whoever goes
        on with it."""
        self.path, self.trainer, self.card, self.facts = path, trainer, card, facts or {}
        self.keep_checkpoints, self.encoder = keep_checkpoints, encoder
        self.best = Best(f"val/{best_by}")
        self.metrics: dict[str, float] = {}  # of the last finished epoch
        self.weights: dict[str, SavedWeights] = {}  # that the folder's card names
        self.state = state_file(path)
        self.is_state_whole = True  # else it is not to become the one before
        self.writing: Future | None = None  # of a checkpoint, while training goes on

    # The state to continue from.

    def load(self, file: Path, anew: Set[str] = frozenset(), reduction: float = 1.0) -> None:
        """Go on from a saved state.

        Args:
            file: That has it.
            anew: Memories that begin again: see `continuing.TABLE`.
            reduction: What policy plateau has made of the learning rate so far, a factor.
        """
        state, trainer = load_tensors(file), self.trainer
        self.is_state_whole = file == self.state

        # What the state may not have, or have in another form.
        if isinstance(state["D"], dict) and all(isinstance(key, str) for key in state["D"]):
            state["D"] = in_layout_of(trainer.networks.D.state_dict(), state["D"])
        if trainer.ema:
            state.setdefault("ema", state["G"])
        if trainer.plateau:
            state.setdefault("plateau", trainer.plateau.state_dict())
            if state.get("facts"):  # else nobody knows what the rate was reduced from
                state["plateau"]["learning_rate"] = trainer.schedule.learning_rate * reduction
        for name in trainer.parts():
            if name not in state:
                raise InputError(
                    f"--model {self.path} holds a training without {name}: give an empty folder, "
                    "or the same options to continue."
                )

        # It is that of these networks.
        if found := misfit(state, trainer, self.best):
            raise InputError(
                f"--model {self.path}: {file.name} is not of this training, as {found}: put its "
                "own back, or give an empty folder."
            )
        if found := _not_finite({name: state[name] for name in self._networks()}):
            raise InputError(f"{file} is broken, as {found}: give an empty folder.")

        # What earlier versions counted otherwise.
        halve_old_l1(state)
        count_pairs(state, self.card.config["batch_size"])
        if state["pairs"] and trainer.architecture.dropout and not trainer.draws_on(state):
            print("dropout draws other elements from here on: the devices are others", flush=True)

        # What begins again.
        if "pool" in anew:
            state["pool"]["images"] = []
        if "sums" in anew:
            state["sums"] = {}
        if "plateau" in anew and trainer.plateau:
            state["plateau"] |= {"best": math.inf, "bad_epochs": 0}
        if "best" in state and "best" not in anew:
            self.best.load_state_dict(state["best"])
        trainer.load_state_dict(state)
        self.metrics = state["metrics"]
        self._read_weights()

    def _read_weights(self) -> None:
        """Of the weights that the folder holds, those that stay there while it goes on."""
        with contextlib.suppress(InputError):  # a card is written anew
            self.weights = ModelCard.read(self.path).weights
        if not self.weights:  # of an earlier version, which told nothing of them
            self.weights = {name: record_of(self.path, name) for name in weights_in(self.path)}
            if best := self.weights.get(BEST):
                self.weights[BEST] = best.model_copy(update={"epoch": self.best.epoch})

        # Nothing is the best without its weights, but where it is the state that has them.
        best, is_last = self.weights.get(BEST), self.best.epoch == self.trainer.epoch
        is_in_state = is_last and self.trainer.pairs == 0
        is_kept = best and best.epoch == self.best.epoch and self._is_there(best)
        if self.best.epoch and not is_in_state and not is_kept:
            if self.trainer.world.is_main:
                print(
                    f"the best weights, of epoch {self.best.epoch}, are gone: the best is chosen "
                    "among the epochs to come",
                    flush=True,
                )
            self.best.forget()
            self.weights.pop(BEST, None)

    def is_trained(self, total_epochs: int) -> bool:
        """Whether nothing is left to train, of a training that goes on. All ranks call it.

        A checkpoint that a kill cut short is written again. Raises InputError where the epochs end
        within one that is under way, whose last checkpoint is not there."""
        trainer = self.trainer
        is_over = trainer.epoch >= total_epochs
        is_whole = not (is_over and self._forget_spoiled()) and self.has_this_epoch()
        if trainer.pairs == 0 and not is_whole:
            self.save()
        elif is_over and not is_whole:
            raise InputError(
                f"--model {self.path} stands within epoch {trainer.epoch + 1}, but --epochs ends "
                f"training after {total_epochs}: raise it."
            )
        return is_over

    def _forget_spoiled(self) -> list[str]:
        """The names of weights whose files are not what was written, which the card is to name no
        more; all of them are read."""
        spoiled = [
            name
            for name, saved in self.weights.items()
            if not self._is_there(saved)
            or any(sha256_of(self.path / file).hex() != sha for file, sha in saved.files.items())
        ]
        for name in spoiled:
            del self.weights[name]
        if BEST in spoiled and self.best.epoch != self.trainer.epoch:
            self.best.forget()
        if spoiled and self.trainer.world.is_main:
            names = ", ".join(spoiled)
            print(f"--model {self.path}: weights {names} are not what was written", flush=True)
        return spoiled

    def kept(self) -> str:
        """For people: what there is to go on from."""
        if not self.state.is_file():
            return "nothing was saved yet"
        return f"the last checkpoint in {self.path} is kept, and {repeat()} goes on from it"

    def has_this_epoch(self) -> bool:
        """Whether the model beside the state is that of its last finished epoch; a kill between
        two files may have left the one before."""
        names = [LATEST] + [BEST] * (self.best.epoch == self.trainer.epoch)
        saved = [self.weights.get(name) for name in names]
        here = all(one and one.epoch == self.trainer.epoch and self._is_there(one) for one in saved)
        return here and (self.path / ModelCard.FILE).is_file()

    # Checkpoints.

    def save_state(self) -> None:
        """Write what resuming needs, within an epoch, beside the steps that follow: see `written`.
        All ranks call it."""
        self._save({}, goes_on=True)

    def save(self, goes_on: bool = False) -> None:
        """Write a complete model folder of the last finished epoch. All ranks call it.

        goes_on: Whether training does meanwhile: see `written`."""
        networks = {name: one.state_dict() for name, one in self.trainer.published().items()}
        self._save(networks | ({"E": self.encoder} if self.encoder else {}), goes_on)

    @contextlib.contextmanager
    def finished(self) -> Iterator[None]:
        """After the block nothing is being written any more, however it ends."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # what ended it is told
                self.written()
            raise
        self.written()

    def written(self) -> None:
        """Wait until the last checkpoint is on the disk. Raises OSError where that does not take
        it."""
        writing, self.writing = self.writing, None
        if writing:
            writing.result()

    def _save(self, networks: dict[str, dict[str, Tensor] | bytes], goes_on: bool) -> None:
        self._refuse_broken_networks()
        self.written()

        # All that is written follows from it.
        state = self.trainer.state_dict()
        state |= {"metrics": self.metrics, "best": self.best.state_dict(), L1_RANGE: 1.0}
        state |= {"format": FORMAT, "facts": self.facts}
        state["architecture"] = self.trainer.architecture.model_dump()
        if not self.trainer.world.is_main:
            return

        # From a copy where the next steps change it.
        if not goes_on:
            self._write(state, networks)
            return
        pool = ThreadPoolExecutor(1, "checkpoint")
        self.writing = pool.submit(self._write, *snapshot([state, networks]))
        pool.shutdown(wait=False)

    def _write(self, state: dict, networks: dict[str, dict[str, Tensor] | bytes]) -> None:
        with written_together() as write:
            # First: a kill in between leaves a state, from which the model is written again.
            if self.state.is_file() and self.is_state_whole:
                write(state_before(self.path), self.state)
            save_tensors(self.state, state, write)
            if networks:
                self._write_model(state, networks, write)
        self.is_state_whole = True
        if networks:
            self._remove_copies(state["epoch"])

    def _write_model(
        self, state: dict, networks: dict[str, dict[str, Tensor] | bytes], write: Write
    ) -> None:
        # The files, under each name that these weights get.
        epoch, names = state["epoch"], [LATEST]
        names += [BEST] * (state["best"]["epoch"] == epoch)
        names += [str(epoch)] * (self.keep_checkpoints > 0)
        files = save_weights(self.path, networks, write, tuple(names))
        saved = SavedWeights(
            epoch=epoch,
            images_seen=state["images_seen"],
            digest=digest_of(files),
            files=files,
            metrics=state["metrics"],
        )

        # The card: these, and of those before what is there and stays.
        before = {name: one for name, one in self.weights.items() if self._is_there(one)}
        self.weights = before | {name: saved.under(name) for name in names}
        kept = sorted(filter(str.isdecimal, self.weights), key=int)
        order = [LATEST, BEST, *(kept[-self.keep_checkpoints :] if self.keep_checkpoints else kept)]
        self.weights = {name: self.weights[name] for name in order if name in self.weights}
        self.card.model_copy(update={"weights": self.weights}).of(LATEST).write(self.path, write)

    def _refuse_broken_networks(self) -> None:
        """Raises WorkFailed before networks that are not finite replace a checkpoint: an update by
        such gradients is skipped, but what BatchNorm took in on the way stays."""
        networks = {name: part.state_dict() for name, part in self._networks().items()}
        if found := _not_finite(networks):
            raise WorkFailed(
                f"--model {self.path} is left as it was at its last checkpoint, as {found}: give a "
                f"lower --learning-rate or another --precision, and say {repeat()}."
            )

    def _networks(self) -> dict[str, nn.Module | Ema]:
        trainer = self.trainer
        return trainer.networks.trained() | ({"ema": trainer.ema} if trainer.ema else {})

    def _is_there(self, saved: SavedWeights) -> bool:
        files = [self.path / file for file in saved.files]
        return all(file.is_file() and file.stat().st_size for file in files)

    def _remove_copies(self, epoch: int) -> None:
        """Remove the copies of epochs that the card does not name any more."""
        for path in self.path.glob("[0-9]*_net_*.pth") if self.keep_checkpoints else ():
            name = path.name.partition("_")[0]
            if name.isdecimal() and name not in self.weights and int(name) < epoch:
                path.unlink()


def _not_finite(networks: dict[str, dict[str, Tensor]]) -> str:
    """See `not_finite`; of several state dicts by name."""
    states = networks.items()
    return not_finite(
        {f"{name}.{key}": one for name, state in states for key, one in state.items()}
    )


def weights_to_come(config: TrainConfig, tested: int) -> dict[str, SavedWeights]:
    """The weights that a whole training is sure to leave, by name; of the best the epoch is not
    known.

    tested: Number of test pairs that its validations can measure, 0 = there is no validation."""
    # An epoch that is the best so far gets a checkpoint too, and may push out another.
    total, every = config.total_epochs, config.validate_every_epochs
    sure = {*range(config.save_every_epochs, total, config.save_every_epochs), total}
    may_be = sure | ({*range(every, total, every)} if every and tested else set())
    kept = sorted(may_be)[-config.keep_checkpoints :] if config.keep_checkpoints else []
    epochs = {LATEST: total} | {str(epoch): epoch for epoch in kept if epoch in sure}
    if every and tested >= (2 if config.best_by == "fid" else 1):
        epochs[BEST] = 0
    return {
        name: SavedWeights(epoch=epoch, images_seen=0, digest=name, files={}, metrics={})
        for name, epoch in epochs.items()
    }
