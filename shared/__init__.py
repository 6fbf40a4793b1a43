import os

# With torch_npu installed but no CANN on the machine, `import torch` itself fails while torch
# autoloads the back-end. shared/device.py imports torch_npu when it is wanted, so nothing is lost
# by switching the autoload off.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")

# Both send events to their makers unless told otherwise before they are loaded; ONNX Runtime also
# writes an id of the machine into the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
