"""What a training step costs an NPU, and that it learns what the CPU learns; on a stand-in of the
device."""

import json
import sys

import pytest

from tests.on_npu import run

# Most kernels of a step in fp32. With Adam weight by weight the same networks take 693, 878, 724
# and 765.
KERNELS = {"global": 520, "features": 625, "local": 580, "pix2pix": 375}


def stepped(chip: str) -> dict:
    done = run([sys.executable, "-m", "tests.train.devices.stepping"], timeout=300, chip=chip)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def on_a2() -> dict:
    return stepped("910B")


@pytest.fixture(scope="module")
def on_910() -> dict:
    return stepped("910")


def test_weights_and_moments_are_the_cpus_with_adam_in_the_same_form(on_a2):
    different = {name: case.get("different") for name, case in on_a2["steps"].items()}
    assert different == dict.fromkeys(KERNELS, []) | {
        "global fp16": None,
        "pix2pix fp16": None,
        "global bf16": None,
        "global npu-fused": None,
    }


def test_a_step_launches_no_kernel_for_each_weight(on_a2):
    for name, kernels in KERNELS.items():
        assert on_a2["steps"][name]["kernels"] <= kernels, name


@pytest.mark.parametrize("chip", ["on_a2", pytest.param("on_910", marks=pytest.mark.slow)])
def test_a_step_fetches_one_number_where_a_loss_is_scaled_and_else_none(chip, request):
    """Also where torch_npu's own scaler would fetch the hardware's flag for each player."""
    for name, case in request.getfixturevalue(chip)["steps"].items():
        assert case["fetches"] == name.endswith(("fp16", "npu-fused")), name


@pytest.mark.parametrize("chip", ["on_a2", pytest.param("on_910", marks=pytest.mark.slow)])
def test_nothing_is_sent_but_the_batch_on_a_stream_of_its_own(chip, request):
    """Its four maps, which the device's first stream waits for, and whose memory it holds. Where
    overflow saturates torch_npu's own scaler clears the flag by a copy too."""
    for name, case in request.getfixturevalue(chip)["steps"].items():
        own = case["streams"][0].split()[0]
        sent = [f"{own} cpu->npu"] * 4
        of_scaler = {"0 cpu->npu"} if chip == "on_910" else set()
        streams = [line for line in case["streams"] if line not in of_scaler]
        assert own != "0"
        assert streams == [*sent, f"0 waits for {own}", *["0 reads"] * 4] * 2, name


@pytest.mark.parametrize("chip", ["on_a2", pytest.param("on_910", marks=pytest.mark.slow)])
def test_an_update_by_overflow_leaves_weights_moments_and_counts_alone(chip, request):
    """Of the player whose gradients overflow; D of pix2pix is updated before G has gradients."""
    for name, case in request.getfixturevalue(chip)["overflows"].items():
        if name == "fp32":  # where nobody tells the host, who counts steps
            case["changed"] = [key for key in case["changed"] if not key.endswith(".step")]
        players = name.rpartition(" ")[2] if " " in name else "GD"
        assert case["changed"] == [], name
        assert case["skipped"] == {"G": "G" in players, "D": "D" in players}, name
        assert case["fetches"] == (name != "fp32"), name
        assert case["moved"] == ["D", "G"], name  # by the good step after it
