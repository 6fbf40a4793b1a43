"""A generator exported, compiled by atc and run by ais_bench, with one of the two forms of
InstanceNorm: `om_precise`, `om_native`."""

import time

from tests.benchmarks.card_check.work import Case

# As large as compiles in two minutes, it is hoped: nobody has measured atc yet.
CASE = Case("generator", 256, 512, ngf=32)
LOOP = 50
PARITY_LIMIT = {"precise": "0", "native": "0.005"}  # of the ONNX file against PyTorch, in fp32


def run(given) -> None:
    import torch

    from components.benchmark.ais_bench.tool import AisBench
    from components.export.__main__ import main as export
    from components.train.__main__ import main as train
    from shared.contracts.exported import ExportCard
    from shared.networks.build import build_generator
    from shared.networks.checkpoint import save_weights

    # A model of random weights.
    form = given.name.removeprefix("om_")
    case = CASE.small() if given.tiny else CASE
    model, exported = given.work / "model", given.work / "exported"
    torch.manual_seed(0)
    save_weights(model, {"G": build_generator(case.architecture())})
    size = f"{case.height}x{case.width}"
    labels = ["--num-labels", "35", "--use-instances"]
    train(["adopt", "--model", str(model), "--size", size, *labels])

    # The integer inputs; where atc refuses them, the seed's floats.
    started = time.monotonic()
    words = ["--model", model, "--exported", exported, "--instance-norm", form, "--format", "om"]
    words += ["--parity-limit", PARITY_LIMIT[form], "--parity-samples", 1]
    words += ["--om-fallback", "onehot"]
    export([str(word) for word in words])
    given.say("export, proof and atc", time.monotonic() - started, "s")

    # What it is.
    card = ExportCard.read(exported)
    om = exported / card.om[0].file
    given.say("chip", card.om[0].soc_version)
    given.say("inputs that atc took", card.graph.form, "", "maps", card.graph.form == "maps")
    given.say("file", om.stat().st_size / 2**20, "MiB")
    for one in card.parity:
        given.say(f"{one.runtime} against PyTorch, largest error", one.max_abs_error)

    # How fast it is.
    found = AisBench(om, 1).pure(LOOP).figures()
    for name in ("device_images_per_second", "images_per_second", "compute_ms_p50"):
        given.say(f"ais_bench, {name}", found[name])
