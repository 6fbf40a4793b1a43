"""A step that is fed: from the device, by this process, and by two others."""

from functools import partial
from itertools import islice
from time import perf_counter

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from components.train.data.batches import collate
from shared.device import pick
from tests.benchmarks.card_check.speed import CASES
from tests.benchmarks.card_check.work import Case
from tests.benchmarks.street import street

PAIRS = 16
STEPS = 60
WAIT_SECONDS = 30  # for a batch
WORKERS = {"by this process": 0, "by two processes": 2}


class Streets(Dataset):
    """Pairs in memory, as a cache gives them; each as often as is asked for."""

    def __init__(self, case: Case, length: int):
        rng = np.random.default_rng(0)
        self.pairs = [street(rng, case.height, case.width) for _ in range(PAIRS)]
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        one = self.pairs[index % PAIRS]
        arrays = {"inputs": one.inputs, "photos": one.photo, "dense_ids": one.dense_ids}
        arrays["num_regions"] = np.array(len(one.ids))
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def run(given) -> None:
    case = CASES["512p_features"].small() if given.tiny else CASES["512p_features"]
    steps = 3 if given.tiny else STEPS
    runtime = pick(given.device)
    trainer, batch = case.trainer(runtime), case.batch().to(runtime.torch_device)
    for _ in range(3):
        trainer.step(batch)
    timed = partial(images_per_second, trainer, runtime)
    given.say(
        f"{case.title}, {runtime.precision}, fed from the device", timed([batch] * steps), "img/s"
    )
    for name, workers in WORKERS.items():
        with given.attempt(f"{case.title}, fed {name}"):
            loader = DataLoader(
                Streets(case, 2 + steps),
                num_workers=workers,
                collate_fn=collate,
                pin_memory=runtime.pins_memory,
                timeout=WAIT_SECONDS if workers else 0,
            )
            batches = iter(loader)
            for one in islice(batches, 2):  # the processes start
                trainer.step(one.to(runtime.torch_device))
            rate = timed(batches)
            given.say(f"{case.title}, {runtime.precision}, fed {name}", rate, "img/s")


def images_per_second(trainer, runtime, batches) -> float:
    runtime.synchronize()
    start, images = perf_counter(), 0
    for batch in batches:
        trainer.step(batch.to(runtime.torch_device))
        images += len(batch)
    runtime.synchronize()
    return images / (perf_counter() - start)
