"""Figures of a performance run on a clock whose time is known; what recomputing and compiling leave
as it was."""

import copy
import itertools
import json
import time
import types
from functools import partial

import numpy as np
import pytest
import torch
from torch._dynamo.backends.common import aot_autograd

from components.train import performance
from components.train.data.batches import EpochLoader, collate
from components.train.networks import memory
from components.train.networks.init import init_weights
from components.train.networks.memory import (
    check_compiles,
    checkpoint_activations,
    compiles,
)
from components.train.performance import PerformanceReport, performance_run, publish
from components.train.schedule import learning_rate
from components.train.step import Trainer
from shared.device import Runtime, pick
from shared.errors import InputError
from shared.networks.build import build_generator
from tests import tiny
from tests.training import config, different, trainer_for


@pytest.fixture
def loader(tmp_path):
    """Three pairs in batches of two: the last batch of an epoch has one image."""
    tiny.dataset(tmp_path / "dataset", train=3)
    return EpochLoader(tiny.pairs(tmp_path / "dataset"), batch_size=2, workers=0, pin_memory=False)


class Clock:
    """A training whose steps and images take known times on a clock of its own."""

    def __init__(self, monkeypatch, step_seconds, read_seconds):
        self.now, self.images_trained = 0.0, []
        durations = iter(step_seconds)
        read = EpochLoader.epoch

        def step(trainer, batch):
            self.now += next(durations)
            self.images_trained.append(len(batch))

        def epoch(loader, *args):
            for batch in read(loader, *args):
                self.now += read_seconds * len(batch)
                yield batch

        monkeypatch.setattr(performance, "perf_counter", lambda: self.now)
        monkeypatch.setattr(Trainer, "step", step)
        monkeypatch.setattr(EpochLoader, "epoch", epoch)


# The measurement.


def test_rates_and_wait_of_known_times(loader, monkeypatch):
    """Steps of 0.3 s; reading takes 0.1 s an image. Every second batch of the loader has one image
    instead of two."""
    clock = Clock(monkeypatch, itertools.repeat(0.3), read_seconds=0.1)
    report = performance_run(trainer_for(tiny.architecture(), config()), loader, steps=6, warmup=2)
    assert report.images_per_second_without_loading == pytest.approx(3 / 0.6)
    assert report.images_per_second == pytest.approx(3 / (0.6 + 0.3))
    assert report.data_wait_share == pytest.approx(0.3 / 0.9)
    assert (report.step_ms_p50, report.step_ms_p99) == (pytest.approx(300), pytest.approx(300))
    # three passes, and a warm-up of two of them in each round
    assert len(clock.images_trained) == 3 * 6 + 2 * 3 * 2


def test_rates_are_medians_and_warm_up_is_not_timed(loader, monkeypatch):
    """Warm-up takes an hour, one round of three is ten times slower than the others; steps 4 = 1 +
    1 + 2."""
    hour, rounds = 3600.0, []
    for number, share in enumerate((1, 1, 2)):
        slow = 10 if number == 1 else 1
        rounds += [hour, *[0.1 * slow] * share, *[0.2 * slow] * share, hour, *[0.4 * slow] * share]
    Clock(monkeypatch, rounds, read_seconds=0.0)
    loader.order.batch_size = 3
    report = performance_run(trainer_for(tiny.architecture(), config()), loader, steps=4, warmup=1)
    assert report.images_per_second_without_loading == pytest.approx(3 / 0.1)
    assert report.images_per_second == pytest.approx(3 / 0.4)
    latencies_ms = [200, 2000, 200, 200]
    measured = report.step_ms_p50, report.step_ms_p90, report.step_ms_p99
    assert measured == pytest.approx(tuple(np.percentile(latencies_ms, (50, 90, 99))))


def test_the_device_is_waited_for_around_each_clock_and_not_within(loader, monkeypatch):
    calls = []
    monkeypatch.setattr(Runtime, "synchronize", lambda runtime: calls.append("wait"))
    monkeypatch.setattr(Trainer, "step", lambda trainer, batch: calls.append("step"))
    performance_run(trainer_for(tiny.architecture(), config()), loader, steps=3, warmup=2)
    warm_up, one_step = ["wait", "step", "step", "wait"], ["wait", "step", "wait"]
    assert calls == 3 * [*warm_up, *one_step, *one_step, *warm_up, *one_step]


def test_a_slow_data_set_is_seen(loader, monkeypatch):
    """On the real clock: reading takes 50 ms an image, two images a step at most; a step is much
    faster."""
    frame = loader.pairs._frame
    monkeypatch.setattr(loader.pairs, "_frame", lambda index: (time.sleep(0.05), frame(index))[1])
    trainer = trainer_for(tiny.architecture(n_downsample_global=1), config())
    report = performance_run(trainer, loader, steps=3, warmup=1)
    assert report.images_per_second < 1 / 0.05
    assert report.images_per_second < report.images_per_second_without_loading
    assert 0.3 < report.data_wait_share < 1
    assert 0 < report.step_ms_p50 <= report.step_ms_p90 <= report.step_ms_p99
    assert report.peak_memory_mb > 10


def test_nothing_is_written_and_the_training_is_where_it_was(loader, tmp_path, capsys):
    """Reading goes through epochs of two batches, and beyond the last one of the schedule."""
    trainer = trainer_for(tiny.architecture(), config(learning_rate=1e-3))
    trainer.epoch = 2  # finished
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    report = performance_run(trainer, loader, steps=5, warmup=1)
    figures = publish(report)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert (trainer.epoch, trainer.pairs, trainer.sums) == (2, 0, {})
    assert trainer.learning_rate == pytest.approx(learning_rate(trainer.schedule, 2))

    *table, line = capsys.readouterr().out.splitlines()
    assert PerformanceReport(**json.loads(line)) == report
    assert (report.batch_size, report.world_size, report.steps, report.warmup) == (2, 1, 5, 1)
    assert (report.precision, report.device) == ("fp32", pick("cpu", "fp32").describe())
    assert any(row.split()[-1] == f"{report.images_per_second:.2f}" for row in table)
    assert figures == {
        f"performance/{name}": getattr(report, name)
        for name in (
            "images_per_second", "images_per_second_without_loading",
            "step_ms_p50", "step_ms_p90", "step_ms_p99",
            "data_wait_share", "peak_memory_mb",
        )
    }  # fmt: skip


# Activation checkpointing.


def forward_and_backward(network, x, dtype):
    """(output, gradients, buffers, bytes that are kept for the backward pass besides weights and
    input)."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    torch.manual_seed(1)  # of dropout
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype, enabled=dtype is not None),
    ):
        y = network(x)
    given = {tensor.untyped_storage().data_ptr() for tensor in (x, *network.parameters())}
    size = sum(tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in given)
    y.float().square().sum().backward()
    return y, [weight.grad for weight in network.parameters()], list(network.buffers()), size


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(netG="local", n_local_enhancers=2),
        dict(netG="resnet_6blocks", norm="batch", dropout=True),
    ],
)
def test_recomputing_changes_memory_alone(changes, dtype):
    """Output, gradients, statistics of BatchNorm and keys stay, bit for bit; also in a copy, as the
    EMA makes one."""
    architecture = tiny.architecture(**changes)
    torch.manual_seed(0)
    plain = build_generator(architecture).apply(init_weights)
    frugal = copy.deepcopy(plain)
    checkpoint_activations(frugal)
    frugal = copy.deepcopy(frugal)
    assert list(frugal.state_dict()) == list(plain.state_dict())

    x = torch.randn(2, architecture.condition_channels, 64, 64)
    y, gradients, buffers, size = forward_and_backward(plain, x, dtype)
    same_y, same_gradients, same_buffers, smaller = forward_and_backward(frugal, x, dtype)
    assert torch.equal(y, same_y)
    assert all(map(torch.equal, gradients, same_gradients))
    assert all(map(torch.equal, buffers, same_buffers))
    assert smaller < 0.3 * size


def test_a_step_that_recomputes_equals_one_that_does_not(loader):
    plain, frugal = (trainer_for(tiny.architecture(feat_num=3), config()) for _ in range(2))
    checkpoint_activations(frugal.networks.G)
    checkpoint_activations(frugal.networks.E)
    batch = collate([loader.pairs[i] for i in range(2)])
    for _ in range(2):
        losses, same = plain.step(batch), frugal.step(batch)
        assert all(torch.equal(losses[name], same[name]) for name in losses)
    for name, network in plain.networks.trained().items():
        weights = frugal.networks.trained()[name].state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())


# Compilation.


@pytest.fixture
def traced(monkeypatch):
    """torch.compile without a compiler at its end: graphs are captured and run as they are; breaks
    are errors. Returns the graphs."""
    graphs = []

    def backend(graph, examples):
        graphs.append(graph)
        return graph

    compiler = partial(torch.compile, backend=backend, fullgraph=True)
    monkeypatch.setattr(torch, "compile", compiler)
    torch._dynamo.reset()
    yield graphs
    torch._dynamo.reset()


PIX2PIX = dict(netD="n_layers", num_D=1, norm="batch", dropout=True)
OPTIONS = dict(lambda_L1=9.0, lambda_feature_matching=0.0)
KINDS = {
    "features": (dict(feat_num=3), dict(), 3),  # networks, options, graphs of a step
    "local": (dict(netG="local", norm="batch"), dict(precision="bf16", epochs_fix_global=1), 2),
    "pool": (dict(num_D=3), dict(pool_size=2, gan_mode="vanilla"), 2),
    "unet": (PIX2PIX | dict(netG="unet_128"), OPTIONS, 3),
    "resnet": (PIX2PIX | dict(netG="resnet_6blocks"), OPTIONS, 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_compiled_without_breaks_and_is_the_eager_one(loader, traced, kind):
    """To the bit, BatchNorm's statistics and moments too, over two steps, of which the second
    captures nothing; sample pictures are made without."""
    networks, options, graphs = KINDS[kind]
    eager, compiled = (trainer_for(tiny.architecture(**networks), config(**options)) for _ in "ab")
    compiled.compile()
    batch = collate([loader.pairs[i] for i in range(2)])
    for trainer in (eager, compiled):
        trainer.start_epoch(1)
    for _ in range(2):
        torch.manual_seed(0)  # of dropout
        wanted = eager.step(batch)
        torch.manual_seed(0)
        losses = compiled.step(batch)
        assert {name: loss.item() for name, loss in losses.items()} == {
            name: loss.item() for name, loss in wanted.items()
        }
        assert len(traced) == graphs
    assert different(eager.state_dict(), compiled.state_dict()) == []
    compiled.show(batch)
    assert len(traced) == graphs


def test_a_compiled_step_makes_no_gradient_that_nobody_takes(loader, monkeypatch):
    """D has 2 scales of 4 convolutions and judges 2 pictures once, which share what the first of
    each scale makes of the condition; backward from its own losses through both for its weights,
    from G's through the fake for the picture alone."""
    masks = []

    def look(graph, examples):
        nodes = [node for node in graph.graph.nodes if "aten.convolution" in str(node.target)]
        masks.append([node.args[-1] for node in nodes if "backward" in str(node.target)])
        masks[-1] += ["forward"] * (len(nodes) - len(masks[-1]))
        return graph

    backend = aot_autograd(fw_compiler=look)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend, fullgraph=True))
    torch._dynamo.reset()
    trainer = trainer_for(tiny.architecture(), config())
    trainer.compile()
    trainer.step(collate([loader.pairs[0]]))
    of_losses = masks[-1] if len(masks[-1]) > 30 else masks[-2]
    assert of_losses.count("forward") == 2 * (1 + 2 * 4)
    assert of_losses.count([True, False, False]) == 8
    assert sum(mask[1] is True for mask in of_losses if mask != "forward") == 18


def test_recomputing_goes_with_compiling(loader, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    eager, frugal = (trainer_for(tiny.architecture(norm="batch"), config()) for _ in "ab")
    checkpoint_activations(frugal.networks.G)
    frugal.compile()
    batch = collate([loader.pairs[i] for i in range(2)])
    wanted, losses = eager.step(batch), frugal.step(batch)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(wanted[name].item(), rel=1e-5)
    assert (
        different(dict(eager.networks.G.named_buffers()), dict(frugal.networks.G.named_buffers()))
        == []
    )


@pytest.mark.slow
def test_the_real_compiler_gives_the_same_training(loader):
    small = dict(ngf=2, n_downsample_global=0, n_blocks_global=0)
    eager, compiled = (trainer_for(tiny.architecture(**small), config()) for _ in "ab")
    torch._dynamo.reset()
    try:
        check_compiles(config(), compiled.runtime)
    except InputError as refusal:
        pytest.skip(str(refusal))
    compiled.compile()
    batch = collate([loader.pairs[0]])
    for _ in range(5):
        losses, same = eager.step(batch), compiled.step(batch)
        for name, loss in losses.items():
            assert same[name].item() == pytest.approx(loss.item(), rel=1e-4)
    for name, network in eager.networks.trained().items():
        others = compiled.networks.trained()[name].parameters()
        for weight, close in zip(network.parameters(), others, strict=True):
            assert torch.allclose(weight.grad, close.grad, rtol=1e-3, atol=1e-4), name


CPU, CUDA = Runtime(torch.device("cpu"), "bf16"), Runtime(torch.device("cuda"), "bf16")
NPU = Runtime(types.SimpleNamespace(type="npu"), "fp16")
LONG = dict(sizes=[(512, 1024)], images=200 * 2975)


def test_auto_compiles_what_is_long_enough_on_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(memory, "find_spec", lambda name: name)
    auto = config(ngf=64)
    assert auto.compile == "auto" and compiles(auto, CUDA, **LONG)
    # 36,000 pictures gain the three minutes.
    assert compiles(auto, CUDA, [(512, 1024)], images=37_000)
    assert not compiles(auto, CUDA, [(512, 1024)], images=35_000)
    assert not compiles(auto, CUDA, [(256, 512)], images=4 * 35_000)
    assert not compiles(config(ngf=32), CUDA, [(512, 1024)], images=2 * 35_000)
    assert not compiles(auto, CUDA, [(512, 1024), (512, 512)], images=10**9)
    assert not compiles(auto, CPU, **LONG) and not compiles(auto, NPU, **LONG)
    assert not compiles(config(ngf=64, compile="off"), CUDA, **LONG)
    assert capsys.readouterr().out == ""


def test_on_a_cpu_it_is_said_that_compiling_is_slower(capsys):
    assert compiles(config(compile="on"), CPU, [(32, 64)], images=1)
    assert capsys.readouterr().out == (
        "--compile on: on a CPU steps in bf16 took 1.2 times as long with it\n"
    )


def test_without_a_compiler_auto_does_without_and_on_is_refused(monkeypatch, capsys):
    on, auto = config(compile="on", ngf=64), config(ngf=64)
    no_triton = (
        "--compile needs Triton on a GPU, which is not installed: install triton, or leave it out."
    )
    no_gcc = (
        "--compile needs a C++ compiler, but PATH has no g++ or clang++: install one, or leave it "
        "out."
    )
    for refusal in (no_triton, no_gcc):
        with pytest.raises(InputError) as refused:
            compiles(on, CUDA, **LONG)
        assert str(refused.value) == refusal
        assert not compiles(auto, CUDA, **LONG)
        assert capsys.readouterr().out == f"--compile auto takes off: {refusal}\n"
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError) as refused:
        compiles(on, NPU, **LONG)
    assert (
        str(refused.value) == "--compile is for GPUs and CPUs, but the device is npu: leave it out."
    )
    with pytest.raises(InputError, match="--compile does not go with --amp-backend apex"):
        compiles(config(compile="on", amp_backend="apex"), CUDA, **LONG)


def test_the_switch_of_earlier_versions_is_understood():
    assert config(compile=True).compile == "on" and config(compile=False).compile == "off"
