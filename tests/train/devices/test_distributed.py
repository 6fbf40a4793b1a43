"""Two processes with gloo: equal weights, the same as one process on the joined batch; who fails
ends all."""

import copy
import os
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from components.train.data.batches import Batch, batches_of_rank, collate
from components.train.devices import update
from components.train.devices.exchange import broadcast_weights, gathered, mean_over_ranks
from components.train.devices.joined import joined
from components.train.devices.launch import launch
from components.train.devices.meeting import meeting
from components.train.devices.update import GradientSync
from components.train.devices.world import World
from components.train.schedule import ScheduleOptions, learning_rate
from components.train.step import Trainer
from shared.command import StepConfig, execute
from shared.device import pick
from shared.errors import InputError, WorkFailed
from tests import tiny
from tests.training import config, trainer_for

STEPS = 3

# Each trains for STEPS epochs of one step; values are of Architecture, and of TrainConfig where it
# has them.
CASES = {
    "features": dict(netG="global", feat_num=3),
    "freezing": dict(netG="local", epochs_fix_global=1),
    "pix2pix": dict(
        netG="resnet_6blocks", netD="n_layers", lambda_feature_matching=0.0, lambda_L1=100.0
    ),
    "batch norm": dict(netG="global", norm="batch"),
    "bf16": dict(netG="global", feat_num=3),
}


def train(case: str, dataset: Path, world: World, batch_size: int, seed: int) -> dict:
    """Weights by network after each step, the losses of each step, and the pairs of each step."""
    options = CASES[case]
    kinds = ("netG", "netD", "norm", "feat_num")
    architecture = tiny.architecture(**{k: v for k, v in options.items() if k in kinds})
    options = {key: value for key, value in options.items() if key != "feat_num"}
    same = dict(epochs=STEPS, epochs_decay=0, compress_gradients=case == "bf16")
    # In forms whose rounding does not go by the size of a batch.
    options = config(**same, memory_format="nchw", **options)
    trainer = trainer_for(architecture, options, world, seed)
    for group in trainer.update_G.optimizer.param_groups + trainer.update_D.optimizer.param_groups:
        group["eps"] = 1e-2  # else Adam makes whole steps of rounding errors, where a gradient is 0
    broadcast_weights(trainer.networks.trained().values(), world)
    pairs = tiny.pairs(dataset)
    weights, losses, seen = [snapshot(trainer)], [], []
    for epoch in range(1, STEPS + 1):
        trainer.start_epoch(epoch)
        (indices,) = batches_of_rank(7, epoch, len(pairs), batch_size, world)
        batch: Batch = collate([pairs[i] for i in indices])
        losses.append(mean_over_ranks(trainer.step(batch), world))
        weights.append(snapshot(trainer))
        seen.append(indices)
    return {"weights": weights, "losses": losses, "seen": seen}


def snapshot(trainer: Trainer) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, network in trainer.networks.trained().items():
        tensors |= {f"{name}.{key}": value.clone() for key, value in network.state_dict().items()}
    return tensors


def on_two(function, *arguments):
    """What it returns on rank 0 of two."""
    with meeting(World.from_environment(2)) as place:
        return launch(place, function, *arguments)


def train_all(dataset: Path, folder: Path) -> int:
    """On each rank, which starts from weights of its own."""
    update.BUCKET_BYTES = 2000  # several buckets
    world = World.from_environment()
    with meeting(world) as place, joined(place, pick("cpu")):
        own = dict(batch_size=2, seed=3 + world.rank)
        results = {case: train(case, dataset, world, **own) for case in CASES}
        for compress in (False, True):
            results["mean", compress] = mean_gradient(inputs_of(world.rank), world, compress)
            overflow = torch.tensor([1.0, 2.0, float("inf") if world.rank else 4.0])
            results["overflow", compress] = mean_gradient(overflow, world, compress)
        for moves in (False, True):
            results["places", moves] = places_of_gradients(world, moves)
        results["gathered"] = gathered({"rank": world.rank}, world)
        results["is rank"] = world.is_rank
        torch.save(results, folder / f"rank_{world.rank}.pt")
    return 10 + world.rank


def inputs_of(rank: int) -> torch.Tensor:
    return torch.randn(1000, generator=torch.Generator().manual_seed(rank))


def mean_gradient(inputs: torch.Tensor, world: World, compress_bf16: bool) -> torch.Tensor:
    """Over the ranks, of the weights of a sum of inputs: the mean of the inputs."""
    layer = nn.Linear(len(inputs), 1, bias=False)
    sync = GradientSync(layer.parameters(), world, compress_bf16)
    layer(inputs).backward()
    sync.wait()
    return layer.weight.grad[0]


def places_of_gradients(world: World, moves: bool) -> dict[str, list[int]]:
    """By weight where its gradient lies after each of three steps, of convolutions in NHWC of which
    the first thaws in the last; each gradient is bit for bit the mean of those of the ranks."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
    network.to(memory_format=torch.channels_last)
    alone = copy.deepcopy(network)
    sync = GradientSync(network.parameters(), world, moves_gradients=moves)
    places = {name: [] for name, _ in network.named_parameters()}
    for step in range(3):
        photo = inputs_of(2 * step + world.rank)[:300].view(1, 3, 10, 10)
        for one in (network, alone):
            one[0].requires_grad_(step == 2)
            one.zero_grad(set_to_none=moves)
            one(photo).square().sum().backward()
        sync.wait()
        own = dict(alone.named_parameters())
        for name, weight in network.named_parameters():
            if weight.grad is None:
                continue
            wanted = own[name].grad.contiguous()
            dist.all_reduce(wanted)
            assert torch.equal(weight.grad, wanted / world.size), name
            assert weight.grad.stride() == weight.stride()
            places[name].append(weight.grad.data_ptr())
    return places


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder)
    return folder


@pytest.fixture(scope="module")
def ranks(dataset, tmp_path_factory):
    """What each of two ranks had."""
    folder = tmp_path_factory.mktemp("ranks")
    assert on_two(train_all, dataset, folder) == 10  # of rank 0
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_all_weights_are_equal_on_both_ranks_after_every_step(ranks, case):
    for ours, theirs in zip(*(rank[case]["weights"] for rank in ranks), strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            if "running" not in name:  # BatchNorm's statistics are of the pairs that a rank saw
                assert torch.equal(ours[name], theirs[name]), name
    start, *_, end = ranks[0][case]["weights"]
    moved = {name[0] for name in start if not torch.equal(start[name], end[name])}
    assert moved == {name[0] for name in start}


def test_batch_norm_starts_from_one_set_of_statistics(ranks):
    starts = [rank["batch norm"]["weights"][0] for rank in ranks]
    assert any("num_batches_tracked" in name for name in starts[0])
    assert all(torch.equal(value, starts[1][name]) for name, value in starts[0].items())


@pytest.mark.parametrize("case", ["features", "freezing", "pix2pix"])
def test_two_processes_are_one_on_the_joined_batch(ranks, dataset, case):
    alone = train(case, dataset, World(), batch_size=4, seed=3)
    for step in range(STEPS):
        assert sorted(ranks[0][case]["seen"][step] + ranks[1][case]["seen"][step]) == sorted(
            alone["seen"][step]
        )
        for rank in ranks:
            for name, loss in alone["losses"][step].items():
                torch.testing.assert_close(
                    rank[case]["losses"][step][name], loss, rtol=1e-5, atol=1e-6
                )
    for name, weight in alone["weights"][STEPS].items():
        torch.testing.assert_close(
            ranks[0][case]["weights"][STEPS][name], weight, rtol=1e-5, atol=1e-6, msg=name
        )


def test_global_weights_freeze_and_thaw_on_both_ranks(ranks):
    start, frozen, *_, end = ranks[0]["freezing"]["weights"]
    inner = [name for name in start if name.startswith("G.model.") and name.endswith("weight")]
    assert inner
    for name in inner:
        assert torch.equal(start[name], frozen[name])
        assert not torch.equal(start[name], end[name])


def test_gradients_sent_as_bf16_stay_near(ranks):
    one, other = inputs_of(0), inputs_of(1)
    for rank in ranks:
        assert torch.equal(rank["mean", False], (one + other) / 2)
        error = (rank["mean", True] - (one + other) / 2).abs()
        assert error.max() > 0
        assert (
            error <= 2.01 * 2**-8 * (one.abs() + other.abs()) / 2
        ).all()  # of 8 bits: each is rounded, and the sum


@pytest.mark.parametrize("moves", [False, True])
def test_gradients_have_one_place_and_thaw(ranks, moves):
    """In the buckets, where they may move there: nothing is copied back, nothing allocated."""
    for rank in ranks:
        places = rank["places", moves]
        assert [len(places[name]) for name in ("0.weight", "1.weight")] == [1, 3]
        first, second, thawed = places["1.weight"]
        assert first == second
        assert (second == thawed) is not moves  # then the bucket is larger


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_not_finite_on_one_rank_is_not_finite_on_all(ranks, compress):
    for rank in ranks:
        assert rank["overflow", compress].tolist() == [1.0, 2.0, float("inf")]


def test_ranks_tell_each_other_and_start_no_others(ranks):
    for rank in ranks:
        assert rank["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert rank["is rank"] is True


# Who fails.


def refuse_on_rank_1(config: StepConfig) -> dict[str, float]:
    world = World.from_environment(2)
    if not world.is_rank:
        return on_two(refuse_on_rank_1, config)
    if world.rank == 1:
        raise InputError("--dataset nowhere: there is nothing.")
    time.sleep(60)
    return {}


class Config(StepConfig):
    STEP = "train"


def test_a_refusal_on_one_rank_is_the_sentence_of_all_with_exit_code_2(capfd):
    start = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        execute(refuse_on_rank_1, Config, {})
    assert stop.value.code == 2
    assert capfd.readouterr().err == "train refused: the data set nowhere: there is nothing.\n"
    assert time.monotonic() - start < 30


def end_on_rank_1(how: str) -> None:
    world = World.from_environment()
    with meeting(world) as place, joined(place, pick("cpu")):
        mean_over_ranks({"loss": torch.ones(())}, world)
        print("from rank", world.rank, flush=True)
        if world.rank == 1:
            if how == "dies":
                os._exit(3)
            if how == "fails":
                raise WorkFailed("the losses of rank 1 are nan.")
            raise ZeroDivisionError("of rank 1")
        for _ in range(1000):
            dist.barrier()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "dies",
            r"^rank 1 ended with exit code 3 without a message, and all were ended; look for it "
            r"in .*log\.$",
        ),
        (
            "raises",
            r"(?s)^rank 1 failed, and all were ended:\nTraceback .* in end_on_rank_1\n.*of rank "
            r"1\n$",
        ),
        ("fails", r"^the losses of rank 1 are nan\.$"),
    ],
)
def test_a_rank_that_ends_early_ends_all_and_says_why(capfd, how, message):
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=message):
        on_two(end_on_rank_1, how)
    assert time.monotonic() - start < 30
    assert capfd.readouterr().out == "from rank 0\n"  # of the others nothing is printed


# What needs no second process.


@pytest.mark.parametrize(
    ("count", "size", "batch_size"), [(8, 2, 2), (7, 3, 2), (2, 4, 1), (5, 1, 2)]
)
def test_the_ranks_share_out_the_epoch(count, size, batch_size):
    ranks = [batches_of_rank(1, 2, count, batch_size, World(rank, size)) for rank in range(size)]
    indices = sorted(index for batches in ranks for batch in batches for index in batch)
    assert set(indices) == set(range(count))
    assert len(indices) - count == -count % size  # some come twice, so that all have as many
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1
    alone = batches_of_rank(1, 2, count, batch_size * size, World())
    for step, batch in enumerate(alone[: count // (batch_size * size)]):
        assert sorted(index for batches in ranks for index in batches[step]) == sorted(batch)


def test_the_order_follows_from_seed_and_epoch():
    order = batches_of_rank(1, 2, 50, 4, World())
    assert order == batches_of_rank(1, 2, 50, 4, World())
    assert order != batches_of_rank(1, 3, 50, 4, World())
    assert order != batches_of_rank(2, 2, 50, 4, World())


def test_learning_rates_for_16_devices():
    rates = [
        learning_rate(ScheduleOptions(learning_rate=1.0, lr_scaling=scaling), 1, world_size=16)
        for scaling in ("none", "linear", "sqrt")
    ]
    assert rates == [1, 16, 4]


def test_a_world_of_one_synchronises_nothing():
    layer = nn.Linear(2, 1)
    sync = GradientSync(layer.parameters(), World())
    layer(torch.ones(2)).backward()
    gradient = layer.weight.grad.clone()
    with meeting(World()) as place, joined(place, pick("cpu")):
        sync.wait()
        assert not dist.is_initialized()
    assert torch.equal(layer.weight.grad, gradient)
    assert mean_over_ranks({"loss": gradient}, World()) == {"loss": gradient}
    assert gathered(5, World()) == [5]
