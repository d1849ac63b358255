"""The scripts that measure GPUs run to their end on stand-ins, though no test sees a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / script), "--gpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_extraction() -> None:
    before = (ROOT / "bench" / "RESULTS.md").read_bytes()
    answer = run("extract.py", "--dry-run", "--repeat", "1")
    assert answer.returncode == 0, answer.stderr
    rows = [line.split(" | ") for line in answer.stdout.splitlines() if "LeNet5" in line]
    assert [row[1] for row in rows] == ["float32", "bfloat16"]
    differences = [float(row[10]) for row in rows]
    assert differences[0] < 1e-5 < differences[1] < 0.05
    assert (ROOT / "bench" / "RESULTS.md").read_bytes() == before


@pytest.mark.slow
def test_without_a_gpu() -> None:
    answer = run("extract.py")
    assert answer.returncode == 1
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("--gpu: TensorFlow sees no GPU on this machine")


@pytest.mark.slow
def test_fine_tuning() -> None:
    answer = run("finetune.py", "--dry-run", "--repetitions", "1")
    assert answer.returncode == 0, answer.stderr
    rows = [line.split(" | ") for line in answer.stdout.splitlines() if "LeNet5" in line]
    assert [row[1] for row in rows] == ["float32", "mixed"]
    assert all(float(row[3]) > 0 and float(row[4]) > 0 for row in rows)
