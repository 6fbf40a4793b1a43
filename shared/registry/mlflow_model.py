"""An exported folder as MLflow's ONNX flavour: MLflow loads, serves and shows the file as it is.

Written by hand: MLflow's own `onnx.save_model` needs packages that a step's image does without, and
writes the graph anew."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import numpy as np

from shared.contracts.exported import ExportCard, TensorSpec

MLMODEL = "MLmodel"
EXAMPLE, SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"
LARGEST_EXAMPLE = 5_000_000  # numbers; as JSON some 20 MB


def add_example(folder: Path, example: Mapping[str, np.ndarray]) -> None:
    """Write one input of the file in `folder`, arrays (1, ...) by name, as its input example.

    A file for batches of a fixed size gets that many of it; one that would be too large to look at
    gets none.
    """
    batch = ExportCard.read(folder).inputs[0].shape[0]
    if isinstance(batch, int):
        example = {name: np.repeat(array[:1], batch, axis=0) for name, array in example.items()}
    if sum(array.size for array in example.values()) > LARGEST_EXAMPLE:
        return
    arrays = {name: array.tolist() for name, array in example.items()}
    (folder / EXAMPLE).write_text(json.dumps(arrays))
    (folder / SERVING_EXAMPLE).write_text(json.dumps({"inputs": arrays}))


def write_mlmodel(folder: Path, model_id: str, run_id: str) -> None:
    """Write the files that make an MLflow model of an exported folder.

    Args:
        folder: With export.json, the files that it names and, where there is one, the example.
        model_id: MLflow's id of the model.
        run_id: Of the run that measured it.
    """
    # What it takes to run the file.
    card = ExportCard.read(folder)
    needs = {"mlflow": version("mlflow-skinny")}
    needs |= {name: card.versions.get(name, "") for name in ("onnx", "onnxruntime")}
    pins = [f"{name}=={number}" if number else name for name, number in needs.items()]
    (folder / "requirements.txt").write_text("\n".join([*pins, ""]))
    environment = {"python": python_version(), "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(json.dumps(environment, indent=2))

    # Who loads it, and how: ONNX itself, and MLflow's function of any flavour.
    of_onnx = {
        "data": card.file,
        "code": None,
        "onnx_version": needs["onnx"],
        "onnx_session_options": None,
        "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    }
    of_any = {
        "data": card.file,
        "code": None,
        "loader_module": "mlflow.onnx",
        "python_version": python_version(),
        "env": {"virtualenv": "python_env.yaml"},
    }

    # What it reads and writes.
    inputs, outputs = _schema(card.inputs), _schema(card.outputs)
    model = {
        "flavors": {"onnx": of_onnx, "python_function": of_any},
        "signature": {"inputs": inputs, "outputs": outputs, "params": None},
        "metadata": {spec.name: spec.meaning for spec in (*card.inputs, *card.outputs)},
        "mlflow_version": needs["mlflow"],
        "model_id": model_id,
        "model_uuid": model_id,
        "run_id": run_id,
    }
    if (folder / EXAMPLE).is_file():
        names = {"artifact_path": EXAMPLE, "serving_input_path": SERVING_EXAMPLE}
        model["saved_input_example_info"] = names | {"type": "ndarray"}
    (folder / MLMODEL).write_text(json.dumps(model, indent=2) + "\n")  # JSON is YAML


def _schema(tensors: list[TensorSpec]) -> str:
    """MLflow's JSON of named tensors, in which an axis of any length is -1."""
    return json.dumps(
        [
            {
                "name": tensor.name,
                "type": "tensor",
                "tensor-spec": {
                    "dtype": tensor.dtype,
                    "shape": [axis if isinstance(axis, int) else -1 for axis in tensor.shape],
                },
            }
            for tensor in tensors
        ]
    )
