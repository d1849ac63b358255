"""OpenVINO, imported without its telemetry.

Import `openvino` from here and nowhere else: on import and on each conversion it would otherwise
send usage data to its makers, unasked, and make a folder in the user's home.
"""

import sys

# Marks the telemetry package as not installed, which OpenVINO provides for.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # documented use of None

import openvino  # noqa: E402 - what stands above must come first

__all__ = ["openvino"]
