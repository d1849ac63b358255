"""Keras' automatic layer names, made independent of what else a process has built."""

import re
from collections import defaultdict
from typing import Any


def snake_case(name: str) -> str:
    """Return the class name as Keras writes it in automatic names.

    Source: keras/src/utils/naming.py, `to_snake_case`.
    """
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def rename_as_in_a_fresh_session(model: Any) -> None:
    """Renumber automatic names ("activation_187"), which count all models of a process.

    Args:
        model: A functional `keras.Model`; its operations are renamed in place.
    """
    groups = defaultdict(list)
    for operation in model.operations:
        prefix = snake_case(type(operation).__name__)
        if number := re.fullmatch(rf"{prefix}(?:_(\d+))?", operation.name):
            groups[prefix].append((int(number[1] or 0), operation))
    for prefix, members in groups.items():
        for index, (_, operation) in enumerate(sorted(members, key=lambda member: member[0])):
            operation.name = f"{prefix}_{index}" if index else prefix
