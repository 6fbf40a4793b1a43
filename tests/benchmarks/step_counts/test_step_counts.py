"""What is counted of a step without a device: by lines whose work is known, and by a real step."""

import json

import pytest
import torch
import torch.nn.functional as F

from shared.device import pick
from tests.benchmarks.card_check.work import Case
from tests.benchmarks.step_counts import __main__ as step_counts
from tests.benchmarks.step_counts.hollow import Hollow, Work

SIZE = 4 * 2 * 3 * 8 * 8  # bytes of x


@pytest.mark.parametrize(
    "lines, work",
    [
        (torch.relu, [Work("activations", 0, 2 * SIZE)]),
        (lambda x: (x.view(2, -1).detach().t(), torch.empty_like(x)), []),
        (lambda x: x.add_(x[:1]), [Work("sums", 0, SIZE * 5 // 2)]),
        (lambda x: x.bfloat16(), [Work("casts", 0, SIZE * 3 // 2)]),
        (lambda x: x.copy_(x[:1]), [Work("copies", 0, SIZE * 3 // 2)]),
        (lambda x: x.zero_(), [Work("other", 0, SIZE)]),
        (lambda x: x.expand(9, 2, 3, 8, 8).abs(), [Work("losses", 0, 10 * SIZE)]),
        (  # 5 filters of 3 * 3 * 3 numbers, 2 pictures of 6 * 6
            lambda x: F.conv2d(x, torch.empty(5, 3, 3, 3)),
            [Work("convolutions", 2 * 27 * 5 * 72, SIZE + 4 * 27 * 5 + 4 * 5 * 72)],
        ),
    ],
)
def test_what_known_lines_compute_read_and_write(lines, work):
    x = torch.ones(2, 3, 8, 8)
    with Hollow() as found:
        lines(x)
    assert found.works == work
    assert torch.equal(x, torch.ones(2, 3, 8, 8))  # nothing was computed


def test_memory_formats_and_fetches_of_known_lines():
    x = torch.ones(2, 3, 8, 8)
    with Hollow() as found:
        y = F.conv2d(x.contiguous(memory_format=torch.channels_last), torch.empty(5, 3, 3, 3))
        y.bfloat16().contiguous()
        (y.sum() + 1).item()
        torch.tensor(1.0).item()  # the host's
    assert found.conversions == 2 and found.convolutions == {"nhwc": 1}
    assert found.fetches.total() == 1


class Computed(Hollow):
    """Counts the same of what is really computed."""

    def compute(self, function, args, kwargs):
        return function(*args, **kwargs)


@pytest.mark.parametrize(
    "case",
    [
        Case("features", 512, 1024, ngf=64, feat_num=3, vgg=True).small(),
        Case("resnet", 256, 256, ngf=64, netG="resnet_9blocks").small(),  # in NHWC
    ],
)
def test_a_hollow_step_does_what_a_real_one_does(case):
    counts = []
    for counting in (Hollow(), Computed()):
        with counting:
            trainer, batch = case.trainer(pick("cpu", "bf16")), case.batch()
            trainer.step(batch)
            counting.forget()
            trainer.step(batch)
        counts.append(counting)
    hollow, real = counts
    assert len(real.works) > 100 and hollow.works == real.works
    assert hollow.operators == real.operators
    assert hollow.conversions == real.conversions
    assert hollow.convolutions == real.convolutions


def test_the_command_counts_ours_beside_a_plain_step(capsys):
    step_counts.main(["--tiny", "--cases", "512p-features"])
    *lines, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)["steps"]
    assert len(found) == 4 and sum(line.startswith("| 512p-features, ") for line in lines) == 4
    ours, plain = (found[f"512p-features, {who} bf16"] for who in ("ours", "plain"))
    assert ours["teraflops"] < plain["teraflops"]  # D sees the fake once
    assert ours["gigabytes"]["casts"] > 0 and ours["fetches"] == 0
    for name, row in found.items():
        assert sum(row["gigabytes"].values()) > 0
        for time in row["times"].values():
            assert 0 < time["floor"] < time["unfused"], name
    assert found["512p-features, ours fp32"]["times"].keys() == {"H200"}
    loop = json.loads(last)["loops"]["512p-features"]
    assert loop["fetches"] > 10 and loop["operators"] > 10 * loop["fetches"]


# Of D's first convolutions 36 of 39 channels, of each scale: forward once, for the weights once,
# and no gradient of the fake's.
OF_CONDITION = 2 * 36 * 64 * 4 * 4 / 1e12 * 3  # TFLOP, a position
SCALES = [513 * 1025, 257 * 513, 129 * 257]  # positions
# Of G's first one no gradient of the condition beside features.
BESIDE_FEATURES = 2 * 36 * 64 * 7 * 7 / 1e12 * 512 * 1024


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, way, teraflops, floor_ms",
    [
        # Counted before by another program on meta tensors, of NVIDIA's own code and of ours, which
        # did more then.
        ("512p-labels", "plain bf16", 4.654, 7.2),
        ("512p-labels", "ours bf16", 4.492 - OF_CONDITION * sum(SCALES[1:]), 7.0),
        (
            "512p-features",
            "ours bf16",
            4.681 - OF_CONDITION * sum(SCALES[1:]) - BESIDE_FEATURES,
            7.1,
        ),
        ("1024p-labels", "ours bf16", 10.899 - OF_CONDITION * sum(SCALES), 15.3),
        ("resnet_9blocks", "ours bf16", 11.098, 14.4),
    ],
)
def test_counts_at_full_size_equal_those_of_another_program(name, way, teraflops, floor_ms):
    found = step_counts.figures(step_counts.CASES[name], way)
    assert found["teraflops"] == pytest.approx(teraflops, abs=0.0006)
    assert found["times"]["H200"]["floor"] == pytest.approx(floor_ms, abs=0.06)
