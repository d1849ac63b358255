"""KerasHub is an extra: without it the catalog stands, and its backbones say what is missing."""

import sys

import pytest

from headstart import catalog
from headstart.catalog import building
from headstart.common.errors import InputError


def test_without_the_extra_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    spec = catalog.get("DeiTTiny")
    with pytest.raises(InputError, match=r"pip install 'headstart\[hub\]'"):
        building.build_architecture(spec, spec.default_size, seed=0)
