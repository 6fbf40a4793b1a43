"""What drivers, their libraries and the exchange between processes say when they fail, in the words
of their sources; and what is no fault of theirs."""

import pytest
import torch
import torch.distributed as dist

from components.train.__main__ import main
from components.train.step import Trainer
from shared.errors import InputError, WorkFailed
from shared.files import room
from shared.terminal.device_errors import device_problem
from tests import tiny
from tests.asking import as_flags, one_sentence

# Below each error of CUDA that torch raises.
ASYNCHRONOUS = (
    "\nSearch for `cudaErrorLaunchFailure' in https://docs.nvidia.com/cuda/cuda-runtime-api/ for "
    "more information.\nCUDA kernel errors might be asynchronously reported at some other API call,"
    " so the stacktrace below might be incorrect.\nFor debugging consider passing "
    "CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
GPU = "the GPU fails ({}): look for its fault with `nvidia-smi` and for Xid in the system's log"
EXCHANGE = "the processes of this training cannot exchange tensors ({}): look for what another of "
NPU = "the NPU fails ({}): look for its fault with `npu-smi info` and in ~/ascend/log"
ACL = "call:x.cpp:9 {} function error: {}, error code is {}\n[ERROR] 2026-11-30 ERR00100 PTA call"


@pytest.fixture(autouse=True)
def _as_an_owner_has_it(monkeypatch):
    for name in ("CUDA_LAUNCH_BLOCKING", "ASCEND_LAUNCH_BLOCKING"):
        monkeypatch.delenv(name, raising=False)


def of_cuda(text: str) -> Exception:
    return torch.AcceleratorError(f"CUDA error: {text}{ASYNCHRONOUS}")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        *((of_cuda(text), GPU.format(text)) for text in (
            "unspecified launch failure",
            "an illegal memory access was encountered",
            "uncorrectable ECC error encountered",
            "the launch timed out and was terminated",
            "CUDA-capable device(s) is/are busy or unavailable",
            "unknown error",
            "CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb)`",
        )),
        # torch before 2.8, cuDNN, ONNX Runtime.
        (RuntimeError("CUDA error: unspecified launch failure"),
            GPU.format("unspecified launch failure")),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
            GPU.format("CUDNN_STATUS_INTERNAL_ERROR")),
        (RuntimeError("CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=a ; "),
            GPU.format("unspecified launch failure")),
        (of_cuda("no kernel image is available for execution on the device"),
            "this build of torch has no kernels for the GPU (no kernel image is available"),
        # torch_npu, in both of its forms of output, and aclruntime.
        (RuntimeError(ACL.format("NPU", "aclrtMemcpy(a, b)", 507899)), NPU.format("error 507899: "
            "aclrtMemcpy(a, b)")),
        (RuntimeError(ACL.format("NPU", "HBM MULTI BIT ECC ERROR.\nEZ9999 time is 9", 507053)),
            NPU.format("error 507053: HBM MULTI BIT ECC ERROR")),
        (RuntimeError("call aclnnCat failed, detail:EZ9999: Inner Error!\nEZ9999: 2026"),
            NPU.format("EZ9999: Inner Error!")),
        (RuntimeError("[507015][Error code unknown] Execute model failed."),
            NPU.format("[507015][Error code unknown] Execute model failed")),
        # Between processes.
        (dist.DistBackendError("NCCL error in: /torch/NCCLUtils.cpp:94, unhandled system error "
            "(run with NCCL_DEBUG=INFO for details), NCCL version 2.27.3\nncclSystemError: x"),
            EXCHANGE.format("NCCL: unhandled system error (run with NCCL_DEBUG=INFO for details)")),
        (RuntimeError("[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=8"),
            EXCHANGE.format("one of them did not come to a collective operation in time")),
        (RuntimeError("[/torch/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:9"),
            EXCHANGE.format("gloo: Connection closed by peer")),
        (RuntimeError(ACL.format("HCCL", "HcclBroadcast", 11)),
            EXCHANGE.format("HCCL, HcclBroadcast: error 11")),
        # As told by another process.
        (RuntimeError("rank 1 failed, and all were ended:\nTraceback (most recent call last):\n"
            f"torch.AcceleratorError: CUDA error: unknown error{ASYNCHRONOUS}"),
            GPU.format("unknown error")),
    ],
)  # fmt: skip
def test_a_fault_of_a_device_is_a_sentence(error, sentence):
    with pytest.raises(WorkFailed) as failure, room.said({}):
        raise error
    assert one_sentence(str(failure.value)).startswith(sentence)
    assert str(failure.value).endswith(
        " and say the same command again; what was finished before is kept."
    )


OURS = [
    of_cuda("device-side assert triggered"),  # an index beyond its tensor
    of_cuda("invalid argument"),
    of_cuda("invalid configuration argument"),
    of_cuda("CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm( handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"),
    RuntimeError(ACL.format("NPU", "aclrtSetDevice(0)", 107001)),
    RuntimeError(ACL.format("OPS", "aclnnCat", 161002)),
    RuntimeError(ACL.format("HCCL", "HcclBroadcast", 1)),
    RuntimeError("call aclnnCat failed, detail:EZ1001: dtype of input should be in [DT_FLOAT]"),
    dist.DistBackendError("NCCL error in: /torch/NCCLUtils.cpp:94, invalid argument (run with "),
    RuntimeError("Expected all tensors to be on the same device, but found cuda:0 and cpu!"),
    RuntimeError("step 507015 of an error that we made, error code is 507015"),
    ValueError("an unknown error"),
]


@pytest.mark.parametrize("error", OURS, ids=lambda error: str(error)[:40])
def test_our_own_errors_keep_their_traceback(error):
    with pytest.raises(type(error)) as same, room.said({}):
        raise error
    assert same.value is error


def test_a_line_that_is_asked_for_is_shown(monkeypatch):
    """Without it the traceback is of whatever line asked the device next."""
    error = of_cuda("unspecified launch failure")
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    assert device_problem(error) == ""
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "0")
    assert device_problem(error)


def test_what_fails_while_a_failed_device_is_left_is_looked_through():
    def clean_up_after(first: Exception, second: Exception) -> Exception:
        try:
            try:
                raise first
            finally:
                raise second
        except type(second) as error:
            return error

    profiler = RuntimeError("the profiler was not started")
    assert device_problem(clean_up_after(of_cuda("unknown error"), profiler))
    assert device_problem(clean_up_after(ValueError("a bug"), RuntimeError("another"))) == ""
    # A refusal that quotes a driver is its own sentence.
    assert device_problem(InputError("--device cuda: CUDA error: unknown error")) == ""


def test_a_training_on_a_gpu_that_fails_keeps_what_it_had_saved(tmp_path, monkeypatch, capsys):
    """By the command line; the sixth step meets what torch raises."""
    tiny.dataset(tmp_path / "dataset")
    steps, step = [], Trainer.step

    def failing(self, batch):
        steps.append(batch)
        if len(steps) == 6:
            raise of_cuda("uncorrectable ECC error encountered")
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", failing)
    options = as_flags(**tiny.TRAIN | dict(epochs=2, epochs_decay=0, validate_every_epochs=0))
    words = ["--dataset", tmp_path / "dataset", "--model", tmp_path / "model", *options]
    words = [*map(str, words), "--save-every-steps", "1"]
    with pytest.raises(SystemExit, match="^1$"):
        main(words)
    said = capsys.readouterr()
    assert one_sentence(said.err.strip()).startswith(
        f"train failed: {GPU.format('uncorrectable ECC error encountered')}"
    )
    main(words)
    assert "continues after pair 1 of 4 in epoch 2 of 2" in capsys.readouterr().out
    assert len(steps) == 6 + 3
