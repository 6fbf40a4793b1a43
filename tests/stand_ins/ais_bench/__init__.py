"""Stand-in for Ascend's ais_bench: own work, from the facts in its documentation; no NPU, no CANN,
no line of its code.

Put the folder above on PYTHONPATH. An .om is an ONNX file under another name, run by ONNX Runtime
on the CPU; its metadata may name `dynamic_batch_size` ("1,2,4": gears for a first axis without
size) and `soc_version`. Times are made up, so that tests know them: executions take 10, 11, 12, ...
ms, a copy to the device 0.5 ms, one back 0.25 ms.

What is around it is said by environment variables:
  AIS_STAND_IN_DEVICES   number of NPUs, default 1 AIS_STAND_IN_MEMORY    bytes of one: loading
  fails where the inputs are larger, running where outputs do not fit too AIS_STAND_IN_SOC       its
  chip, default Ascend310P3 AIS_STAND_IN_PRINTS    2025 (default), or 2023: "batchsize(N)", no
  `count` in the summary AIS_STAND_IN_SUMMARY   0: the summary's file is not written
"""
