"""The catalog of backbones: one frozen record each, looked up by name. Needs no TensorFlow."""

import difflib
from functools import cache

from headstart.catalog import classics, keras_applications, lite, onnx
from headstart.catalog.hub.entries import specs as hub_specs
from headstart.catalog.spec import BackboneSpec
from headstart.common.errors import InputError

__all__ = ["BackboneSpec", "get", "specs"]


@cache
def specs() -> tuple[BackboneSpec, ...]:
    """Return all entries, sorted by name."""
    entries = (*lite.SPECS, *keras_applications.specs(), *classics.SPECS, *hub_specs())
    return tuple(sorted(entries, key=lambda spec: spec.name.lower()))


def get(name: str) -> BackboneSpec:
    """Return the entry of that name.

    Args:
        name: As `headstart backbones` lists it, for example "EfficientNetB0".

    Raises:
        InputError: there is none, and the message suggests similar names; or it is "onnx", which
            stands for no entry but for files.
    """
    if name == onnx.NAME:
        raise InputError(
            f"backbone: {name} is not one network but that of a file, such as extract.weights: "
            f"model{onnx.SUFFIX}, whose features heads learn from; it cannot be trained, nor had "
            f"without its file. `headstart backbones model{onnx.SUFFIX}` tells what a file holds"
        )
    catalog = {spec.name: spec for spec in specs()}
    if name in catalog:
        return catalog[name]
    folded = {spec.name.lower(): spec.name for spec in specs()}
    plain = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    near = [folded[match] for match in difflib.get_close_matches(plain, folded, n=3, cutoff=0.6)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"backbone: there is no {name!r} in the catalog; {hint}`headstart backbones` lists all "
        f"{len(catalog)}"
    )
