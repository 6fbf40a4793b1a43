"""A finished night of seconds: each folder that a step writes, made by the steps themselves."""

from tests import tiny
from tests.asking import as_flags

SIZE = "32x64"
TRAIN = tiny.TRAIN | dict(device="cpu", epochs=2, epochs_decay=0, save_every_steps=1)
MEASURED = dict(batch_sizes=1, runtimes=("torch", "onnxruntime"), precisions="fp32", rounds=1)
MEASURED |= dict(warmup=1, device="cpu", max_pictures=1, max_styled_maps=1, max_styled_labels=1)

# The words of each command, by the folder that it writes; they work in the folder of the night. The
# raw images lie beside it and are never copied: a data set knows them by their times.
RAW = "../raw"
DEMO = ["prepare", "demo", *as_flags(out=RAW, train=4, test=2, size=SIZE)]
PREPARE = ["prepare", *as_flags(raw_data=RAW, dataset="dataset", size=SIZE)]
MODEL = ["train", *as_flags(dataset="dataset", model="model", **TRAIN), "--instance-features"]
CLUSTER = ["cluster", *as_flags(dataset="dataset", model="model", clusters="clusters")]
CLUSTER += ["--device", "cpu"]
FOLDERS = dict(dataset="dataset", model="model", clusters="clusters", exported="exported")
EXPORT = ["export", *as_flags(**FOLDERS)]
BENCHMARK = ["benchmark", *as_flags(**FOLDERS, report="report", **MEASURED)]
STEPS = dict(dataset=PREPARE, model=MODEL, clusters=CLUSTER, exported=EXPORT, report=BENCHMARK)

# A training of the same words that was killed within its second epoch, and goes on.
STOPPED = ["stopped" if word == "model" else word for word in MODEL]
SAVED, SAVES_OF_STOPPED = ".training.pt.partial", 7
