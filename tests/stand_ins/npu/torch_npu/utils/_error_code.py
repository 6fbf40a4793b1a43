"""torch_npu.utils._error_code, which the real GradScaler imports."""

from enum import Enum


class ErrCode(Enum):
    TYPE = "invalid type"
    VALUE = "invalid value"
    INTERNAL = "internal error"
    NOT_SUPPORT = "feature not supported"


def pta_error(error: ErrCode) -> str:
    return f"\n[ERROR] {error.value}"
