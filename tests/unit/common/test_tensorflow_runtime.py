"""TensorFlow's start: what it leaves out in programs of this project, and only there."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("program", [True, False])
def test_what_keras_could_do_without_is_left_out_of_programs_alone(
    program: bool, tmp_path: Path
) -> None:
    script = tmp_path / "headstart"
    script.write_text(
        "import sys\n"
        + ("from headstart.common.interruption import guard; guard()\n" if program else "")
        + "from headstart.common.tensorflow_runtime import keras, tf\n"
        "print([n for n in ('matplotlib', 'pandas', 'scipy', 'sklearn') if n in sys.modules])\n"
        "import pandas, scipy.special, sklearn\n"
        "layer = keras.layers.Dense(2)\n"
        "print(layer(tf.ones((1, 3))).shape)\n"
    )
    finished = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    found, shape = finished.stdout.splitlines() or [finished.stderr, ""]
    assert shape == "(1, 2)"
    assert ("sklearn" in found) == (not program)
    assert (found == "[]") == program
