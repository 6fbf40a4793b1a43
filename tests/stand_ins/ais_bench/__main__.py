"""`python -m ais_bench`: files in, files out, a summary."""

import argparse
import json
import math
import os
import re
import sys
import time
from pathlib import Path

import numpy as np

from ais_bench.infer import interface
from ais_bench.infer.checks import check_om, check_path, error
from ais_bench.infer.interface import InferSession

PADDING = "padding_infer_fake_file"
PURE = "pure_infer_data"


def om_path(value: str) -> str:
    try:
        check_om(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"om path:{value} is illegal. Please check.") from None
    return value


def input_paths(value: str) -> str:
    for path in value.split(","):
        try:
            check_path(path)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"input path:{path} is illegal. Please check."
            ) from None
    return value


def output_path(value: str) -> str:
    try:
        path = check_path(value, writes=True)
    except ValueError:
        raise argparse.ArgumentTypeError(f"output path:{value} is illegal. Please check.") from None
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError("output path is not a directory")
    return value


def whole(least: int, most: int):
    def check(value: str) -> int:
        if not value.isdigit():
            raise argparse.ArgumentTypeError(
                f"{value} contains special characters other than numbers."
            )
        if not least <= int(value) <= most:
            raise argparse.ArgumentTypeError(f"{value} is an invalid value")
        return int(value)

    return check


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", "-m", type=om_path, required=True)
    parser.add_argument("--input", "-i", type=input_paths)
    parser.add_argument("--output", "-o", type=output_path)
    parser.add_argument(
        "--output_dirname", type=output_path
    )  # checked as a path from the current folder
    parser.add_argument("--outfmt", default="BIN", choices=["NPY", "BIN", "TXT"])
    parser.add_argument("--loop", "-l", type=whole(1, 100000), default=1)
    parser.add_argument("--device", "-d", type=whole(0, 255), default=0)
    parser.add_argument("--dymBatch", type=whole(1, 4096), default=0)
    parser.add_argument("--batchsize", type=whole(1, 4096))
    parser.add_argument("--pure_data_type", default="zero", choices=["zero", "random"])
    parser.add_argument("--run_mode", default="array", choices=["array", "files", "tensor", "full"])
    parser.add_argument("--display_all_summary", default=False)
    parser.add_argument("--warmup_count", type=whole(0, 10000), default=1)
    return parser.parse_args()


def natural(path: str) -> list:
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"([0-9]+)", path)]


def files_of(folder: str) -> list[str]:
    files = []
    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        try:
            check_path(path)
        except ValueError:
            raise RuntimeError(f"input data:{path} is illegal") from None
        if os.path.isfile(path) and name.endswith((".npy", ".NPY", ".bin", ".BIN")):
            files.append(path)
    if not files:
        error(
            f"{folder} of input args not find valid file,valid file format:[*.npy *.NPY *.bin "
            "*.BIN]"
        )
        raise RuntimeError
    return sorted(files, key=natural)


def content(path: str) -> np.ndarray:
    return np.load(path) if path.lower().endswith(".npy") else np.fromfile(path, np.int8)


def batches_of(folders: list[str], session: InferSession) -> list[list[list[str]]]:
    """[batch][input][file], the last batch filled up."""
    inputs = session.get_inputs()
    if len(folders) != len(inputs):
        error(
            f"Invalid args. args input dir num:{len(folders)} not equal to model inputs "
            f"num:{len(inputs)}"
        )
        raise RuntimeError
    files = [files_of(folder) for folder in folders]
    size, tensor = content(files[0][0]).nbytes, inputs[0].realsize
    if size == 0 or tensor % size:
        error(f"arg0 tensorsize: {tensor} filesize: {size} not match")
        raise RuntimeError
    count = tensor // size
    runs = math.ceil(len(files[0]) / count)
    print(
        f"[INFO] get filesperbatch files0 size:{size} tensor0size:{tensor} filesperbatch:{count} "
        f"runcount:{runs}"
    )
    filled = [paths + [PADDING] * (runs * count - len(paths)) for paths in files]
    return [[paths[i * count : (i + 1) * count] for paths in filled] for i in range(runs)]


def feeds_of(batch: list[list[str]], session: InferSession) -> list[np.ndarray]:
    feeds = []
    for paths, desc in zip(batch, session.get_inputs(), strict=True):
        if paths == [PURE]:
            feeds.append(np.zeros(desc.realsize, np.uint8))
        else:
            feeds.append(
                np.concatenate([content(paths[0] if path == PADDING else path) for path in paths])
            )
    return feeds


def save(
    outputs: list, batch: list[list[str]], number: int, prefix: Path, outfmt: str, filesinfo: dict
) -> None:
    count = len(batch[0])
    for k, tensor in enumerate(outputs):
        array = np.array(tensor)
        if array.shape[0] % count:
            error(
                f"save out files error array shape:{array.shape} filesinfo:{batch} "
                f"files_count_perbatch:{count}"
            )
            raise RuntimeError
        for j, part in enumerate(np.array_split(array, count)):
            sources = [paths[j] for paths in batch]
            if sources[0] == PADDING:
                continue
            file = prefix / f"{os.path.basename(sources[0]).split('.')[0]}_{k}.{outfmt.lower()}"
            info = filesinfo.setdefault(
                str(number * count + j), {"infiles": sources, "outfiles": []}
            )
            info["outfiles"].append(str(file))
            if outfmt == "NPY":
                np.save(file, part)
            elif outfmt == "BIN":
                part.tofile(file)
            else:
                np.savetxt(file, part.reshape(-1, part.shape[-1]), fmt="%f")
            file.chmod(0o640)


def statistics(times: list[float], with_count: bool) -> dict:
    p99 = float(np.percentile(times, 99))
    stats = {
        "min": min(times),
        "max": max(times),
        "mean": float(np.mean(times)),
        "median": float(np.median(times)),
    }
    return stats | {"percentile(99%)": p99} | ({"count": len(times)} if with_count else {})


def main() -> int:
    args = arguments()
    if args.output_dirname and args.output_dirname.startswith("/"):
        raise ValueError("--output_dirname do not support abs path!")
    if args.output_dirname and not args.output:
        error(
            "parameter --output_dirname cann't be used alone. Please use it together with the "
            "parameter --output!\n"
        )
        raise RuntimeError("error bad parameters --output_dirname")

    session = InferSession(args.device, args.model, loop=args.loop)
    if args.dymBatch:
        session.set_dynamic_batchsize(args.dymBatch)
    else:
        session.set_staticbatch()
    if args.batchsize is None:
        args.batchsize = args.dymBatch or session.get_inputs()[0].shape[0]
        print(f"[INFO] try get model batchsize:{args.batchsize}")
    if args.batchsize < 0:
        raise RuntimeError(
            "dynamic batch om model detected, but dymbatch, dymdims or dymshape not set!"
        )

    prefix = None
    if args.output:
        prefix = Path(args.output) / (args.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S"))
        prefix.mkdir(mode=0o750, parents=True, exist_ok=True)
        print(f"[INFO] output path:{prefix}")
    batches = (
        batches_of(args.input.split(","), session)
        if args.input
        else [[[PURE] for _ in session.get_inputs()]]
    )

    session.set_loop_count(1)
    for _ in range(args.warmup_count):
        session.run(feeds_of(batches[0], session), out_array=True)
    session.set_loop_count(args.loop)
    session.reset_summaryinfo()
    interface.H2D.clear()
    interface.D2H.clear()
    print(f"[INFO] warm up {args.warmup_count} done")

    filesinfo: dict = {}
    for number, batch in enumerate(batches):
        outputs = session.run(feeds_of(batch, session))
        session.convert_tensors_to_host(outputs)
        if prefix:
            save(outputs, batch, number, prefix, args.outfmt, filesinfo)
    print(f"Inference array Processing: 100%|###| {len(batches)}/{len(batches)}", file=sys.stderr)

    old = os.environ.get("AIS_STAND_IN_PRINTS") == "2023"
    stats = statistics(session.exec_ms, with_count=not old)
    throughput = 1000 * args.batchsize / stats["mean"]
    text = ", ".join(
        f"{key} = {stats[key]}" for key in ("min", "max", "mean", "median", "percentile(99%)")
    )
    batch_text = f"batchsize({args.batchsize})" if old else f"batchsize.mean({args.batchsize})"
    print("[INFO] -----------------Performance Summary------------------")
    print(f"[INFO] NPU_compute_time (ms): {text}")
    print(
        f"[INFO] throughput 1000*{batch_text}/NPU_compute_time.mean({stats['mean']}): {throughput}"
    )
    print("[INFO] ------------------------------------------------------", flush=True)
    if prefix and os.environ.get("AIS_STAND_IN_SUMMARY") != "0":
        summary = {
            "filesinfo": filesinfo,
            "args": sys.argv,
            "NPU_compute_time": stats,
            "H2D_latency": statistics(interface.H2D, with_count=not old),
            "D2H_latency": statistics(interface.D2H, with_count=not old),
            "npu_compute_time_list": session.exec_ms,
            "throughput": throughput,
            "pid": os.getpid(),
        }
        Path(f"{prefix}_summary.json").write_text(json.dumps(summary))
    session.free_resource()
    InferSession.finalize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
