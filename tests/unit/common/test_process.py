"""How a process is interrupted, fails and ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headstart.common.errors import InputError
from headstart.common.process import run_to_status
from headstart.common.progress import notify

LINES = {
    signal.SIGINT: "interrupted; what was finished is kept\n",
    signal.SIGTERM: "terminated; what was finished is kept\n",
}


WORK = """
import signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headstart.common.files import atomic_write
from headstart.common.process import run_to_status
from headstart.common.progress import progress

number, half = int(sys.argv[1]), Path(sys.argv[2])


def rows():
    with atomic_write(half):
        yield from range(100)


def work():
    with progress(total=3, desc="Working") as bar, ThreadPoolExecutor(2) as pool:
        for row in rows():
            bar.update(1)
            assert pool.submit(lambda row=row: row).result() == row
            signal.raise_signal(number)
    return 0


before = signal.getsignal(number)
status = run_to_status(work)
assert signal.getsignal(number) is before
sys.exit(status)
"""

TORN_IMPORT = """
import signal, sys

from headstart.common.process import run_to_status


def work():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise ImportError("the import was torn") from error
    return 0


sys.exit(run_to_status(work))
"""


def run(code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a program: libraries that other tests have loaded may have changed signals here."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)


@pytest.mark.parametrize("number", LINES)
def test_an_interruption_is_one_line_and_leaves_no_file(
    number: signal.Signals, tmp_path: Path
) -> None:
    done = run(WORK, number.value, tmp_path / "half")
    assert (done.returncode, done.stderr) == (128 + number, LINES[number])
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_that_a_package_turned_into_its_own_error_is_one() -> None:
    done = run(TORN_IMPORT)
    assert (done.returncode, done.stderr) == (130, LINES[signal.SIGINT])


def test_an_error_shows_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        notify("warning: a\x1b[2J")
        raise InputError("b\x1b[2J:\n  c\udce9")

    assert run_to_status(work) == 1
    assert capsys.readouterr().err == "warning: a\\x1b[2J\nerror: b\\x1b[2J:\n  c\\xe9\n"


def test_what_the_system_refuses_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_to_a_file() -> int:
        (tmp_path / "folder").touch()
        (tmp_path / "folder" / "file").touch()
        return 0

    def fill_the_disk() -> int:
        with Path("/dev/full").open("w") as file:
            file.write("x")
        return 0

    assert run_to_status(write_to_a_file) == 1
    told = capsys.readouterr().err
    assert told == f"error: {tmp_path}/folder/file: Not a directory; move away what lies there\n"
    assert run_to_status(fill_the_disk) == 1
    told = capsys.readouterr().err
    assert told == (
        "error: No space left on device; make room, for example with `headstart cache prune`\n"
    )


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_to_status(lambda: 1 // 0)


def test_work_within_work_tells_its_error_and_the_whole_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def part() -> int:
        raise InputError("of a part")

    assert run_to_status(lambda: 10 + run_to_status(part)) == 11
    assert capsys.readouterr().err == "error: of a part\n"


def test_an_interruption_of_work_within_work_is_that_of_the_whole() -> None:
    kept = TORN_IMPORT.replace("sys.exit(run_to_status(work))", "sys.exit(run_to_status(whole))")
    kept = kept.replace(
        "sys.exit", "def whole():\n    return run_to_status(work) + print('went on')\n\n\nsys.exit"
    )
    lost = kept.replace(" as error:", ":").replace(
        'raise ImportError("the import was torn") from error', "pass"
    )
    for code in (kept, lost):
        done = run(code)
        assert (done.returncode, done.stderr) == (130, LINES[signal.SIGINT])
        assert done.stdout == ""


@pytest.mark.parametrize("number", LINES)
@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("pipeline.train", "pipeline"),
        ("pipeline.train", "numpy"),
        ("headstart.commands.cli", "headstart.commands"),
    ],
)
def test_an_interruption_of_the_imports_is_one_line(
    program: str, module: str, number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-X", "importtime", "-m", program]
    command += ["backbones"] if program.startswith("headstart") else []
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.split("|")[-1].strip() == module:
                break
        process.send_signal(number)
        told = [line for line in process.stderr if not line.startswith("import time:")]
    assert process.returncode == 128 + number
    assert told == [LINES[number]]


@pytest.mark.parametrize("number", LINES)
def test_an_interruption_of_a_command_at_work_is_one_line(
    number: signal.Signals, trained: Path
) -> None:
    code = "import sys; sys.argv[0] = '-m'; import headstart.commands.cli as c; c.main()"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", code, "predict", "-", "--format", "csv", "--no-abstain"],
        cwd=trained, env=environment, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("nothing.jpg\n" * 20)
        process.stderr.readline()
        process.send_signal(number)
        told = process.stderr.read()
    assert process.returncode == 128 + number
    # A line on its way when the signal comes is not ended.
    assert told.endswith(LINES[number])
    assert told.count("what was finished is kept") == 1
    assert "Traceback" not in told
