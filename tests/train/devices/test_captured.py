"""Captured steps: on a stand-in of CUDA's graphs the same to the bit as eager ones; on a GPU for
real."""

import copy
import inspect
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from components.train.checks import check_runtime, check_world
from components.train.data.batches import Batch, collate
from components.train.devices.captured import MOST_GRAPHS, WARM_UP
from components.train.devices.world import ALONE, World
from components.train.step import Trainer
from shared.device import Runtime, pick
from shared.errors import InputError, WorkFailed
from tests import tiny
from tests.stand_ins.cuda_graphs import NOT_PERMITTED, CUDAGraph, Stream, Streams
from tests.training import config, different, networks_for, trainer_for

RATE = 2.0**-12  # float32 has it, and half of it, exactly: as the device reads it and the host


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder, train=6)
    return tiny.pairs(folder)


def batch_of(pairs, *indices: int) -> Batch:
    return collate([pairs[index] for index in indices])


def captured(trainer: Trainer, monkeypatch) -> Streams:
    """Have its steps captured, on the stand-in."""
    streams = Streams()
    monkeypatch.setattr(Runtime, "streams", lambda runtime: streams)
    trainer.capture()
    return streams


# The stand-in.


def test_the_stand_in_computes_nothing_in_a_capture_and_the_same_again_in_a_replay():
    streams, weight, x, number = Streams(), torch.ones(2), torch.tensor([1.0, 2.0]), 3.0
    graph = streams.CUDAGraph()
    with streams.graph(graph, (0, 1), streams.Stream(), "global"):
        weight += number * x.view(2, 1).sum(1)
        y = weight.clone()
    assert weight.tolist() == [1, 1]
    x.copy_(torch.tensor([0.0, 10.0]))
    number = 5.0
    for times in (1, 2):
        graph.replay()
        assert weight.tolist() == y.tolist() == [1, 1 + 30 * times]


@pytest.mark.parametrize(
    "line", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x * torch.tensor([1.0, 2.0])]
)
def test_the_stand_in_captures_no_line_that_the_host_waits_for_or_sends_with(line):
    streams = Streams()
    with pytest.raises(RuntimeError, match=NOT_PERMITTED):
        with streams.graph(streams.CUDAGraph(), (0, 1), streams.Stream(), "global"):
            line(torch.ones(2))


def test_the_stand_in_has_the_names_and_parameters_of_torch():
    ours = [name for name in vars(Streams) if not name.startswith("_")]
    assert len(ours) >= 7 and [name for name in ours if not hasattr(torch.cuda, name)] == []
    for own, theirs in (
        (Streams.graph, torch.cuda.graph.__init__),
        (Streams.stream, torch.cuda.stream),
        (Stream.wait_stream, torch.cuda.Stream.wait_stream),
        (CUDAGraph.replay, torch.cuda.CUDAGraph.replay),
    ):
        names = list(inspect.signature(own).parameters)[1:]  # without self
        assert set(names[own is Streams.graph :]) <= set(inspect.signature(theirs).parameters)


# A step.

PIX2PIX = dict(netD="n_layers", num_D=1, norm="batch", dropout=True)
OPTIONS = dict(lambda_L1=9.0, lambda_feature_matching=0.0)
KINDS = {
    "labels": (dict(), dict(ema_decay=0.5, clip_gradient_norm=1.0)),
    "features": (dict(feat_num=3), dict(gan_mode="vanilla")),
    "bf16": (dict(feat_num=3), dict(precision="bf16", memory_format="nhwc")),
    "local": (dict(netG="local", norm="batch"), dict(epochs_fix_global=1)),
    "unet": (PIX2PIX | dict(netG="unet_128"), OPTIONS | dict(ema_decay=0.5)),
    "resnet": (PIX2PIX | dict(netG="resnet_6blocks"), OPTIONS),
}
ORDER = [(0, 1), (2, 3), (1, 4), (5, 0), (3, 2), (4,)]  # pairs of the batches of an epoch


def two_trainers(networks: dict, options: dict) -> tuple[Trainer, Trainer]:
    """Of layers in torch's own form, which a GPU has: auto takes others on a CPU."""
    given = dict(epochs=1, epochs_decay=2, learning_rate=RATE, memory_format="nchw") | options
    architecture, options = tiny.architecture(**networks), config(**given)
    return tuple(trainer_for(architecture, options, precision=options.precision) for _ in "ab")


def both_step(eager: Trainer, other: Trainer, batch: Batch, seed: int) -> None:
    """A step of each on the same numbers of dropout; losses are equal to the bit."""
    found = []
    for trainer in (eager, other):
        torch.manual_seed(seed)
        found.append(trainer.step(batch))
        trainer.count(found[-1], len(batch))
    wanted, losses = ({name: loss.item() for name, loss in one.items()} for one in found)
    assert losses == wanted


def tensors(trainer: Trainer) -> Iterator[torch.Tensor]:
    """What a step reads of the step before."""
    for network in (*trainer.networks.trained().values(), *trainer.published().values()):
        yield from network.state_dict().values()
    for update in (trainer.update_G, trainer.update_D):
        yield from (update.optimizer.rate, update.scaler.counts)
        yield from (update.scaler.scaler._scale, update.scaler.scaler._growth_tracker)
        for moments in update.optimizer.state.values():
            yield from moments.values()


@pytest.mark.parametrize("kind", KINDS)
def test_captured_steps_are_the_eager_ones_to_the_bit(kind, pairs, monkeypatch):
    """Over batches and learning rates that change, a thaw, and a last batch of another size:
    weights, moments, averages, statistics, counts and sums of losses."""
    eager, other = two_trainers(*KINDS[kind])
    streams = captured(other, monkeypatch)
    seed = 0
    for epoch in (1, 2, 3):
        for trainer in (eager, other):
            trainer.start_epoch(epoch)
        for indices in ORDER:
            both_step(eager, other, batch_of(pairs, *indices), seed := seed + 1)
        assert different(eager.state_dict(), other.state_dict()) == []
        for trainer in (eager, other):
            trainer.finish_epoch(epoch)
    assert eager.learning_rate == other.learning_rate == RATE / 2

    # What lasts from step to step lies in no memory of a graph, where others would write over it.
    lasting = {one.untyped_storage().data_ptr() for one in tensors(other)}
    assert len(lasting) > 40
    assert not [graph for graph in streams.graphs if lasting & graph.memory.keys()]

    # Steps that were launched kernel by kernel: the first of full batches, all of smaller ones.
    # What thaws after the first epoch is captured anew.
    anew = 1 + (kind == "local")
    assert streams.log.count("capture") == anew
    assert streams.log.count("replay") == 3 * 5 - anew * WARM_UP


@pytest.mark.parametrize("hysteresis", [1, 2])
def test_an_overflow_is_left_out_and_the_scale_adapts(hysteresis, pairs, monkeypatch):
    """As on a GPU in fp16: scales and counts of skipped updates change within a replay."""
    monkeypatch.setattr(Runtime, "scales_losses", True)
    options = dict(loss_scale_growth_interval=2, loss_scale_hysteresis=hysteresis)
    eager, other = two_trainers({}, options | dict(loss_scale_initial=2.0**10))
    streams = captured(other, monkeypatch)
    for number in range(10):
        if number in (5, 6, 8):  # more than any scale: overflow
            for trainer in (eager, other):
                trainer.update_D.scaler.scaler.update(float("inf"))
        both_step(eager, other, batch_of(pairs, number % 6), number)
        if number in (5, 6, 8):
            for trainer in (eager, other):
                trainer.update_D.scaler.scaler.update(2.0**9)
    assert streams.log.count("replay") == 10 - WARM_UP
    assert different(eager.state_dict(), other.state_dict()) == []
    for trainer in (eager, other):
        assert trainer.update_D.scaler.state_dict()["skipped"] == 3
        assert trainer.check_updates() == 3
    scales = [update.scaler.scaler.get_scale() for update in (other.update_D, other.update_G)]
    assert scales[0] == eager.update_D.scaler.scaler.get_scale()
    assert scales[1] == eager.update_G.scaler.scaler.get_scale() == 2.0**15


def test_a_training_goes_on_bit_for_bit(pairs, monkeypatch):
    """From a state of an eager one or its own, with any learning rate: the number that a device
    reads is the same in every step."""
    rate = dict(learning_rate=1e-4)  # float32 has it not
    whole, first = two_trainers({}, rate)
    second, _ = two_trainers({}, rate)
    for trainer in (whole, first, second):
        captured(trainer, monkeypatch)
        trainer.start_epoch(1)
    batches = [batch_of(pairs, number % 6) for number in range(12)]
    for number, batch in enumerate(batches):
        whole.step(batch)
        if number < 6:
            first.step(batch)
    state = copy.deepcopy(first.state_dict())
    assert state["optimizer_G"]["param_groups"][0]["lr"] == 1e-4
    assert state["optimizer_G"]["param_groups"][0]["capturable"] is False

    # Into one that has captured steps already, whose moments are replaced.
    for batch in batches[:5]:
        second.step(batch)
    second.load_state_dict(state)
    for batch in batches[6:]:
        second.step(batch)
    assert different(whole.state_dict(), second.state_dict()) == []


def test_losses_of_a_step_stay_while_the_next_runs(pairs, monkeypatch):
    trainer, _ = two_trainers({}, {})
    captured(trainer, monkeypatch)
    losses = [trainer.step(batch_of(pairs, 0)) for _ in range(WARM_UP + 3)]
    assert len({one["G_GAN"].item() for one in losses}) == len(losses)


def test_each_form_of_batch_has_a_graph_up_to_a_number(pairs, monkeypatch):
    """Of the same sizes, but other widths of ids or numbers of regions."""
    trainer, _ = two_trainers(dict(feat_num=3), {})
    streams = captured(trainer, monkeypatch)
    batch = batch_of(pairs, 0)
    wide = batch.dense_ids.int()
    forms = [batch, replace(batch, dense_ids=wide, regions=wide)]
    forms += [replace(batch, num_regions=32 * number) for number in range(2, MOST_GRAPHS + 1)]
    for one in forms:
        for _ in range(WARM_UP + 2):
            trainer.step(one)
    assert len({one.form() for one in forms}) == len(forms) == MOST_GRAPHS + 1
    assert streams.log.count("capture") == MOST_GRAPHS
    assert streams.log.count("replay") == 2 * MOST_GRAPHS


def test_a_batch_is_copied_beside_the_step_before(pairs, monkeypatch):
    """Nothing makes the stream of the copies wait for the one that computes; that waits for them
    before it reads."""
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    trainer, _ = two_trainers({}, {})
    streams = captured(trainer, monkeypatch)
    carrier = trainer.carrier
    carrier.streams, carrier.stream = streams, streams.Stream()
    batch = batch_of(pairs, 0)
    elsewhere = replace(batch, inputs=batch.inputs.to("meta"))
    monkeypatch.setattr(Batch, "to", lambda self, device: streams.log.append("copy") or batch)
    for _ in range(WARM_UP + 3):
        trainer.step(carrier.carry(elsewhere))
    name = carrier.stream.name
    a_step = ["copy", f"computing waits for {name}", "replay"]
    assert streams.log[-6:] == 2 * a_step
    assert not [line for line in streams.log if line.startswith(f"{name} waits")]


# What cannot be captured.


def test_a_step_that_fetches_is_refused_in_a_sentence(pairs, monkeypatch):
    trainer, _ = two_trainers({}, {})
    learn = trainer._learn
    trainer._learn = lambda batch: {name: one / one.item() for name, one in learn(batch).items()}
    captured(trainer, monkeypatch)
    for _ in range(WARM_UP):
        trainer.step(batch_of(pairs, 0))
    with pytest.raises(WorkFailed) as refusal:
        trainer.step(batch_of(pairs, 0))
    assert str(refusal.value) == (
        f"--cuda-graph: the step cannot be captured ({NOT_PERMITTED}): leave it out."
    )


@pytest.mark.parametrize(
    "flags, said",
    [
        (dict(pool_size=3), "--pool-size 3"),
        (dict(adam="foreach"), "--adam foreach"),
        (dict(activation_checkpointing=True), "--activation-checkpointing"),
        (dict(amp_backend="apex"), "--amp-backend apex"),
        (dict(devices=2), "--devices 2"),
        (dict(nodes=2), "--nodes 2"),
        (dict(profile=3), "--profile 3"),
    ],
)
def test_what_the_host_decides_is_not_captured(flags, said):
    assert config(cuda_graph=True).cuda_graph  # alone
    with pytest.raises(InputError, match=f"--cuda-graph does not go with {said}: leave one out"):
        config(cuda_graph=True, **flags)


def test_without_a_gpu_or_beside_others_it_is_refused():
    with pytest.raises(InputError) as refusal:
        check_runtime(config(cuda_graph=True))
    assert str(refusal.value) == (
        "--cuda-graph is for NVIDIA GPUs, but the device is cpu: leave it out."
    )
    world = World(rank=0, size=2, local_size=2)
    check_world(config(), world), check_world(config(cuda_graph=True), ALONE)
    for flag, one in {
        "--cuda-graph": config(cuda_graph=True),
        "--pool-size 3": config(pool_size=3),
    }.items():
        with pytest.raises(InputError) as refusal:
            check_world(one, world)
        assert str(refusal.value) == f"{flag} works on one device only: leave it out."


# On a GPU.

APART = 0.02  # of a loss: sums in another order, which GANs enlarge
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


def trainers_on(device: str, kind: str) -> tuple[Trainer, Trainer]:
    networks, options = KINDS[kind]
    architecture, given = tiny.architecture(**networks), dict(learning_rate=RATE, epochs_decay=2)
    options = config(**given | options | dict(device=device))
    runtime = pick(device, options.precision)
    return tuple(Trainer(networks_for(architecture), architecture, options, runtime) for _ in "ab")


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_gpu_captured_steps_learn_what_eager_ones_do(kind, pairs):
    """Also what dropout draws: the graph asks the generator of the device, which is seeded."""
    eager, other = trainers_on("cuda", kind)
    other.capture()
    for epoch in (1, 2, 3):
        for trainer in (eager, other):
            trainer.start_epoch(epoch)
        for indices in ORDER:
            batch = batch_of(pairs, *indices)
            found = []
            for trainer in (eager, other):
                torch.manual_seed(epoch)
                found.append(trainer.step(trainer.carrier.carry(batch)))
            wanted, losses = ({name: loss.item() for name, loss in one.items()} for one in found)
            assert losses == pytest.approx(wanted, rel=APART, abs=APART)
    assert len(other.captured.graphs) == 1
    states = [trainer.update_D.scaler.state_dict() for trainer in (eager, other)]
    assert states[0] == states[1] and states[0]["updates"] == 3 * len(ORDER)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("kind", ["labels", "features", "unet"])
def test_gpu_a_captured_step_never_waits_for_the_device(kind, pairs):
    _, trainer = trainers_on("cuda", kind)
    trainer.capture()
    trainer.start_epoch(1)
    batch = batch_of(pairs, 0, 1).to(trainer.runtime.torch_device)
    for _ in range(WARM_UP + 1):
        trainer.step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [trainer.step(batch)["D_real"] for _ in range(3)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len({loss.item() for loss in losses}) == 3
