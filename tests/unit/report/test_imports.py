"""What takes seconds to import is imported by the stages that need it alone."""

import subprocess
import sys

import pytest

HEAVY = ("cv2", "keras", "openvino", "pandas", "plotly", "scipy", "sklearn", "tensorflow")


@pytest.mark.parametrize(
    ("stage", "allowed"), [("evaluate", set()), ("report", {"cv2"})], ids=["evaluate", "report"]
)
def test_the_last_stages_start_without_heavy_libraries(stage: str, allowed: set[str]) -> None:
    program = f"import sys, pipeline.{stage}; print(*(m for m in {HEAVY} if m in sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(answer.stdout.split()) <= allowed
