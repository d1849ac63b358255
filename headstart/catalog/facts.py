"""What is known of every backbone, by the names under which it is shown. Needs no TensorFlow."""

from collections.abc import Callable
from typing import Any

from headstart.catalog.spec import BackboneSpec
from headstart.catalog.weights import available_offline, describe_source

FACTS: dict[str, Callable[[BackboneSpec], Any]] = {
    "name": lambda spec: spec.name,
    "family": lambda spec: spec.family,
    "size_mb": lambda spec: spec.size_mb,
    "top1": lambda spec: spec.top1,
    "top5": lambda spec: spec.top5,
    "linear_probe": lambda spec: spec.linear_probe,
    "zero_shot": lambda spec: spec.zero_shot,
    "figure_source": lambda spec: spec.figure_source,
    "parameters": lambda spec: spec.parameters,
    "depth": lambda spec: spec.depth,
    "image_size": lambda spec: spec.default_size,
    "min_size": lambda spec: spec.min_size,
    "feature_dim": lambda spec: spec.feature_dim,
    "preprocessing": lambda spec: spec.preprocessing.name,
    "license": lambda spec: spec.license,
    "terms": lambda spec: spec.terms,
    "weights": describe_source,
    "offline": available_offline,
    "source": lambda spec: spec.source,
}
"""Getters by name; what is not published is None."""
