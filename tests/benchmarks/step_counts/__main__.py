"""`python -m tests.benchmarks.step_counts`: what a training step asks of a device, counted at full
size without one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from tabulate import tabulate

from shared.command import command_line
from shared.device import pick
from tests.benchmarks import plain_step
from tests.benchmarks.card_check.counts import counted
from tests.benchmarks.card_check.work import Case
from tests.benchmarks.step_counts.steps import count

CaseName = Literal["512p-labels", "512p-features", "1024p-labels", "resnet_9blocks", "unet_256"]
CASES = {
    case.name: case
    for case in (
        Case("512p-labels", 512, 1024, ngf=64, vgg=True),
        Case("512p-features", 512, 1024, ngf=64, vgg=True, feat_num=3),
        Case("1024p-labels", 1024, 2048, ngf=32, netG="local", vgg=True),
        Case("resnet_9blocks", 256, 256, ngf=64, netG="resnet_9blocks", batch_size=32),
        Case("unet_256", 256, 256, ngf=64, netG="unet_256"),
    )
}
WAYS = ("plain fp32", "ours fp32", "plain bf16", "ours bf16")
COLUMNS = ("convolutions", "optimiser", "casts", "losses", "activations", "norms", "pads")


@dataclass(frozen=True)
class Device:
    """What it computes and moves in a second."""

    name: str
    flops: dict[str, float]  # by precision
    bandwidth: float  # bytes


# Of an H200 in 16 bits: what dense products reach of the published 989 TFLOP/s, and copies of the
# 4.8 TB/s; fp32 as published, without TF32. Of a 910: the two figures that Huawei gives for fp16.
DEVICES = [
    Device("H200", {"bf16": 790e12, "fp32": 67e12}, 4.3e12),
    Device("910, 256 T", {"bf16": 256e12}, 1.2e12),
    Device("910, 320 T", {"bf16": 320e12}, 1.2e12),
]


# What is counted.


def loop_over_instances(case: Case) -> dict[str, int]:
    """What the loop adds to the plain step, forward and backward; "fetches" are indices that the
    host waits for."""
    features = torch.randn(1, case.feat_num, case.height, case.width, requires_grad=True)
    ids = case.batch().dense_ids
    with counted("cpu") as found:
        plain_step.pooling_loop(features, ids).sum().backward()
    fetches = found.operators["aten::nonzero"]
    return {"operators": found.operators.total(), "fetches": fetches}


def breaks_of(case: Case) -> list[str]:
    """Where torch.compile cannot go on in a whole step of ours, with its backward passes and
    updates. They do not depend on sizes."""
    trainer, batch = case.small().trainer(pick("cpu", "bf16")), case.small().batch()
    torch._dynamo.reset()
    found = torch._dynamo.explain(trainer.step)(batch)
    return [reason.reason.splitlines()[0] for reason in found.break_reasons]


# What it comes to.


def figures(case: Case, way: str) -> dict[str, object]:
    """Of one step. Times in milliseconds: `floor`, where convolutions and one pass of Adam alone
    touch memory, and `unfused`, where every operator reads its inputs and writes its results."""
    who, precision = way.split()
    found, times = count(case, who, precision), {}
    for device in DEVICES:
        if precision in device.flops:
            speed = device.flops[precision], device.bandwidth
            floor, unfused = found.floor_seconds(*speed), found.seconds(*speed)
            times[device.name] = {"floor": 1000 * floor, "unfused": 1000 * unfused}
            times[device.name]["floor_images_per_second"] = case.batch_size / floor
    return {
        "operators": found.operators.total(),
        "fetches": found.fetches.total(),
        "conversions": found.conversions,
        "convolutions": dict(found.convolutions),
        "teraflops": found.teraflops(),
        "gigabytes": found.gigabytes(),
        "times": times,
    }


def table(rows: dict[str, dict]) -> str:
    """For people, in Markdown: gigabytes by what they are for, and of each device floor / unfused
    in milliseconds."""
    lines = []
    for name, row in rows.items():
        of_kinds = row["gigabytes"]
        total, shown = sum(of_kinds.values()), [of_kinds.get(kind, 0) for kind in COLUMNS]
        line = {"step": name, "operators": row["operators"], "TFLOP": f"{row['teraflops']:.3f}"}
        line |= {"GB": f"{total:.1f}"}
        line |= {kind: f"{value:.1f}" for kind, value in zip(COLUMNS, shown, strict=True)}
        line |= {"rest": f"{total - sum(shown):.1f}"}
        for device in DEVICES:
            time = row["times"].get(device.name)
            line[device.name] = f"{time['floor']:.1f} / {time['unfused']:.1f}" if time else ""
        lines.append(line)
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)


def step_counts(
    cases: Sequence[CaseName] = (
        "512p-labels",
        "512p-features",
        "1024p-labels",
        "resnet_9blocks",
        "unet_256",
    ),
    breaks: bool = False,
    tiny: bool = False,
) -> None:
    """Count what a training step asks of a device, without one: ours beside a plain one.

    Operators, gigabytes that they read and write, FLOP, and the least time that these take: a
    table, and a line of JSON that also has layout conversions, numbers that the host waits for, and
    convolutions by the memory format of their input.

    Args:
        cases: Which.
        breaks: Count breaks of torch.compile in the whole step too; a minute for each.
        tiny: Of next to no networks and pictures, to try it.

    Example:
        python -m tests.benchmarks.step_counts --cases 512p-labels
    """
    found = {"torch": torch.__version__, "steps": {}, "loops": {}, "breaks": {}}
    for name in cases:
        case = CASES[name].small() if tiny else CASES[name]
        for way in WAYS:
            found["steps"][f"{name}, {way}"] = figures(case, way)
        if case.feat_num:
            found["loops"][name] = loop_over_instances(case)
        if breaks:
            found["breaks"][name] = breaks_of(case)

    print(table(found["steps"]))
    for name, loop in found["loops"].items():
        print(f"{name}, plain: and {loop['operators']} operators of its loop over instances")
    for name, reasons in found["breaks"].items():
        print(f"{name}, ours: {len(reasons)} breaks of torch.compile: {'; '.join(reasons)}")
    print(json.dumps(found))


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.step_counts", step_counts, {}, argv)


if __name__ == "__main__":
    main()
