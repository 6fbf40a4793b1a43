import os

# With torch_npu installed but no CANN on the machine, `import torch` itself fails while torch
# autoloads the back-end. shared/device.py imports torch_npu when it is wanted, so nothing is lost
# by switching the autoload off.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
