import os
import subprocess
import sys
from pathlib import Path

import pytest

from headstart.common.errors import InputError
from headstart.extraction import network_size as module
from headstart.extraction.network_size import NetworkSize, network_size
from headstart.extraction.store import FeatureStore
from tests.feature_files import make_identity

ROOT = Path(__file__).parents[3]

# LeNet-5 by hand. At 32 x 32: 28 x 28 outputs of 6 kernels of 5 x 5, then 10 x 10 of 16 kernels of
# 5 x 5 x 6, then one of 120 kernels of 5 x 5 x 16; each kernel has a bias.
C1, C3, C5 = 28 * 28 * 150, 10 * 10 * 2400, 48_000


@pytest.mark.parametrize(
    ("layer", "side", "multiply_adds", "parameters"),
    [
        ("c5", 32, C1 + C3 + C5, 156 + 2416 + 48_120),
        ("s4", 32, C1 + C3, 156 + 2416),
        ("s4", 64, 60 * 60 * 150 + 26 * 26 * 2400, 156 + 2416),
    ],
)
def test_cut_and_image_size_decide(
    layer: str, side: int, multiply_adds: int, parameters: int, tmp_path: Path
) -> None:
    identity = make_identity(layer=layer, image_size=(side, side))
    found = network_size(identity, FeatureStore(tmp_path))
    assert found == NetworkSize(multiply_adds=multiply_adds, parameters=parameters)


def test_the_second_call_needs_no_tensorflow(tmp_path: Path) -> None:
    first = network_size(make_identity(), FeatureStore(tmp_path))
    code = (
        "import sys; from pathlib import Path;"
        "from headstart.extraction.store import FeatureStore;"
        "from headstart.extraction.network_size import network_size;"
        "from tests.feature_files import make_identity;"
        f"print(network_size(make_identity(), FeatureStore(Path({str(tmp_path)!r}))));"
        "print('tensorflow' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert told.splitlines() == [str(first), "False"]


def test_another_version_counts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = network_size(make_identity(), FeatureStore(tmp_path))
    wrong = NetworkSize(multiply_adds=1, parameters=1)
    monkeypatch.setattr(module, "size_up_to", lambda network, layer: wrong)
    assert network_size(make_identity(), FeatureStore(tmp_path)) == first
    for name in ("version", "digest_of_code"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda _: "another")
            assert network_size(make_identity(), FeatureStore(tmp_path)) == wrong
    assert network_size(make_identity(), FeatureStore(tmp_path)) == first


def test_a_damaged_note_is_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = network_size(make_identity(), FeatureStore(tmp_path))
    (note,) = (tmp_path / "costs").rglob("content.json")
    sound = note.read_bytes()
    note.write_text('{"multiply_adds": 1')
    assert network_size(make_identity(), FeatureStore(tmp_path)) == first
    assert note.read_bytes() == sound
    assert "the checksum of content.json does not fit" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_may_only_be_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        network_size(make_identity(), FeatureStore(tmp_path))
    finally:
        tmp_path.chmod(0o700)


def test_a_layer_that_is_no_cut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layer: there is no layer 'c9'; cuts near it: "):
        network_size(make_identity(layer="c9"), FeatureStore(tmp_path))
