"""`make npu-check` and `make gpu-check`: what an owner of a card runs once.

    python -m tests.benchmarks.card_check --device npu|cuda|cpu [--tiny] [--out DIR] [--only PART]

Ten minutes at most. Exit code 0: every part ran, and what was promised held; 1: not; 2: misuse.
`--device cpu` and `--tiny` try the check itself."""

import argparse
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.card_check import frame
from tests.benchmarks.card_check.frame import Part

TOTAL_S = {"npu": 600, "cuda": 480, "cpu": 1920}
OF_TORCH = (
    "torch",
    "numpy",
    "psutil",
    "pydantic",
    "tyro",
    "yaml",
    "tabulate",
    "imagecodecs",
    "PIL",
)
OF_EXPORT = (*OF_TORCH, "onnx", "onnxruntime", "scipy", "skimage", "jinja2", "mlflow")
REPORT = Part("report", "the device, its driver and what is installed", 60)
STEP = Part("step", "a training step against the CPU", 150, OF_TORCH, may_fall_back=False)
COUNTS = Part("counts", "kernels and fetches of a step", 90, OF_TORCH)
SPEED = Part("speed", "images a second", 150, OF_TORCH)
# What matters most comes first: parts that the time of all does not reach are left out.
ON_GPU = [
    Part("report", "the device, its driver and what is installed", 40),
    Part("step", "a training step against the CPU", 75, OF_TORCH),
    *(
        Part(f"speed_{name}", f"images a second, {name.replace('_', ' ')}", limit_s, OF_TORCH)
        for name, limit_s in {
            "512p_labels": 75,
            "512p_features": 75,
            "1024p_labels": 90,
            "resnet_9blocks": 60,
            "unet_256": 40,
            "generator_1024p": 45,
        }.items()
    ),
    Part("feeding", "a step fed by two processes", 45, OF_TORCH),
    Part("graph_512p_labels", "captured, 512p labels", 60, OF_TORCH),
    Part("graph_unet_256", "captured, unet 256", 40, OF_TORCH),
    Part("compiled_512p_labels", "compiled, 512p labels", 150, OF_TORCH),
    Part("both_512p_labels", "compiled and captured, 512p labels", 150, OF_TORCH),
    Part("runtimes", "the generator as an ONNX file", 90, OF_EXPORT),
    *(
        Part(f"compiled_{name}", f"compiled, {name.replace('_', ' ')}", limit_s, OF_TORCH)
        for name, limit_s in {
            "generator_1024p": 75,
            "resnet_9blocks": 90,
            "1024p_labels": 150,
            "512p_features": 150,
            "unet_256": 75,
        }.items()
    ),
    COUNTS,
]
PARTS = {
    "npu": [
        REPORT,
        STEP,
        COUNTS,
        SPEED,
        Part("om_precise", "export `precise`, atc, ais_bench", 150, OF_EXPORT),
        Part("om_native", "export `native`, atc, ais_bench", 150, OF_EXPORT),
    ],
    "cuda": ON_GPU,
    "cpu": [replace(part, limit_s=4 * part.limit_s) for part in ON_GPU],  # to try it
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.card_check", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--device", choices=sorted(PARTS), required=True)
    parser.add_argument("--out", type=Path, help="folder to write; default: runs/<device>-check")
    parser.add_argument("--tiny", action="store_true", help="networks and pictures of seconds")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts alone")
    given = parser.parse_args(argv)

    name = f"{'gpu' if given.device == 'cuda' else given.device}-check"
    parts = PARTS[given.device]
    if unknown := set(given.only or ()) - {part.name for part in parts}:
        names = ", ".join(part.name for part in parts)
        parser.error(f"--only {' '.join(sorted(unknown))}: choose among {names}")
    parts = [part for part in parts if not given.only or part.name in given.only]

    # Where it goes.
    out = (given.out or Path("runs", name)).resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".here").touch()
        (out / ".here").unlink()
    except OSError as error:
        parser.error(f"--out {out} cannot be written ({error.strerror}): name another folder")

    # The parts; what was found is written after each, and however they end.
    flags = ["--device", given.device, *(["--tiny"] if given.tiny else [])]
    command = ["python", "-m", "tests.benchmarks.card_check", *(argv or sys.argv[1:])]
    started, outcomes, code = time.monotonic(), [], 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for outcome in frame.run_parts(name, parts, out, flags, TOTAL_S[given.device]):
            outcomes.append(outcome)
            frame.write(name, outcomes, out, time.monotonic() - started, command)
    except KeyboardInterrupt:
        code = 130
    finally:
        frame.write(name, outcomes, out, time.monotonic() - started, command)
        frame.say_all(name, outcomes, out)
    return code or int(not all(outcome.is_well for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
