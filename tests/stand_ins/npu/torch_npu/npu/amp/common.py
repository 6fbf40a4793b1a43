"""torch_npu.npu.amp.common, which the real GradScaler imports."""


def amp_definitely_not_available() -> bool:
    return False
