"""What is compared: sets of changes to params.yaml, each with a name to show and to run under."""

import difflib
import itertools
import re
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from headstart import catalog
from headstart.catalog.spec import BackboneSpec
from headstart.common.errors import InputError
from headstart.common.files import digest_of
from headstart.common.params import PARAMS_FILE
from headstart.configuration.params import Params, check_params
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.heads import require_start
from headstart.heads.finetuned_card import NAME as FINETUNED

BACKBONE, WEIGHTS = "extract.backbone", "extract.weights"

UNFREEZE = "finetune.unfreeze"
STRATEGIES = (UNFREEZE, ("none", "last_block", "all", "scratch"))
"""How much of the network learns: its head alone, its last block too, all of it from the pretrained
weights, all of it from random ones."""

# What a fit of the head alone depends on as well.
_OF_THE_HEAD = (UNFREEZE, "finetune.head")

_LAST_WORDS = {"extract.pooling": "pooling", "extract.image_size": "image_size"}
"""What a backbone may not be able to take of params.yaml, and its short name."""

Override = tuple[str, Any]


@dataclass(frozen=True)
class Candidate:
    """One set of params.

    Attributes:
        label: What sets it apart, for people: "EfficientNetLite0, layer=block_3".
        overrides: Dotted keys of params.yaml and their values.
        content: The whole of params.yaml with them, comments kept.
    """

    label: str
    overrides: tuple[Override, ...]
    content: dict[str, Any]

    def experiment(self, baseline: str) -> str:
        """Return the name of its DVC experiment.

        Args:
            baseline: What the changes are made to, such as the digest of the project's tree;
                another baseline, another name, so that no earlier result is replaced.
        """
        words = re.sub(r"[^A-Za-z0-9.]+", "-", self.label).strip("-.")
        # Git allows no two dots in a row in a name, and file systems no long ones.
        plain = re.sub(r"\.{2,}", ".", words)[:60].rstrip("-.")
        return f"compare-{plain}-{digest_of([baseline, *self.overrides])[:6]}"

    @cached_property
    def params(self) -> Params:
        """The content, checked.

        Raises:
            InputError: params.yaml cannot have these values.
        """
        return check_params(self.content, f"{PARAMS_FILE} with {self.label}")

    @property
    def model(self) -> str | None:
        """Name of the model that is scored; None for the one that its own evaluation selects.

        Where fine-tuning is what is compared, that is the fine-tuned model even where a head did
        better, and the head that it starts from where nothing is unfrozen.
        """
        if not any(_is_of_fine_tuning(key) for key, _ in self.overrides):
            return None
        finetune = self.params.finetune
        return finetune.head if finetune.start is None else FINETUNED

    def check(self) -> None:
        """Check what can be checked before anything runs.

        Raises:
            InputError: params.yaml cannot have these values, see `bottleneck`, or the head that
                fine-tuning starts from is not trained.
        """
        _ = self.bottleneck
        if self.model is not None:
            require_start(self.params.finetune.head, list(self.params.train.heads))

    @cached_property
    def bottleneck(self) -> Bottleneck:
        """What computes its features.

        Raises:
            InputError: see `headstart.extraction.bottleneck.identify`.
        """
        extract = self.params.extract
        return identify(
            extract, engines.resolve(extract.engine, extract.precision, extract.backbone)
        )


def _apply(overrides: Iterable[Override], params: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the content of params.yaml with the changes made.

    Raises:
        InputError: a key is not in params.yaml.
    """
    content = deepcopy(params)
    for key, value in overrides:
        *sections, last = key.split(".")
        place: Any = content
        for number, name in enumerate([*sections, last], start=1):
            if not isinstance(place, dict) or name not in place:
                raise InputError(_unknown_key(key, ".".join(key.split(".")[:number]), place))
            if number <= len(sections):
                place = place[name]
        place[last] = value
    return content


def _unknown_key(key: str, part: str, place: Any) -> str:
    names = [str(name) for name in place] if isinstance(place, dict) else []
    near = difflib.get_close_matches(part.rpartition(".")[2], names, n=1)
    above = part.rpartition(".")[0]
    prefix = f"{above}." if above else ""
    hint = f"did you mean {prefix}{near[0]}?" if near else f"there is {', '.join(names) or 'none'}"
    return f"--over {key}: params.yaml has no key {part}; {hint}"


def parse_over(text: str) -> tuple[str, list[Any]]:
    """Read `key=value,value,...`.

    Args:
        text: A dotted key of params.yaml and YAML values, such as `extract.layer=block_3,auto` or
            `extract.image_size=[96,128],160`.

    Returns:
        The key and its values.

    Raises:
        InputError: it has another form.
    """
    key, equals, values = text.partition("=")
    problem = ""
    parsed: Any = None
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", key):
        problem = "expected KEY=VALUE,VALUE,... such as extract.layer=auto,block_3"
    else:
        try:
            parsed = YAML(typ="safe").load(f"[{values}]")
        except YAMLError as error:
            problem = f"the values are not valid YAML ({str(error).splitlines()[0]})"
        else:
            if not parsed:
                problem = "expected at least one value after the ="
            elif len({digest_of(value) for value in parsed}) < len(parsed):
                problem = "a value is named twice"
    if problem:
        raise InputError(f"--over {text}: {problem}")
    return key, list(parsed)


def make_candidates(
    names: Sequence[str], grid: Sequence[tuple[str, Sequence[Any]]], params: dict[str, Any]
) -> list[Candidate]:
    """Combine backbones and the values of a grid, each with each.

    A cut and a weights file belong to one backbone. Where params.yaml names such for its own
    backbone, the others are run with `layer: auto` and `weights: pretrained`; those that have not
    its pooling or cannot take its image size, with `pooling: avg` and `image_size: auto`, which
    their labels say.

    Args:
        names: Backbones, each with or without weights (`LeNet5:random`); none means that of
            params.yaml.
        grid: Keys and their values.
        params: Content of params.yaml, as ruamel.yaml loads it with its comments.

    Raises:
        InputError: a backbone or key is named twice, a key is not in params.yaml, or there are
            fewer than two candidates.
    """
    axes = [key for key, _ in grid]
    keys = axes + [BACKBONE] * bool(names) + [WEIGHTS] * any(":" in name for name in names)
    for what, chosen in (("backbone", names), ("key", keys)):
        twice = sorted({name for name in chosen if chosen.count(name) > 1})
        if twice:
            raise InputError(f"compare: the {what} {twice[0]} is named twice; name it once")
    short = _short_names(axes)
    candidates: dict[str, Candidate] = {}
    for name in names or [""]:
        own = _of_backbone(name, params, axes) if name else []
        for combination in itertools.product(*(values for _, values in grid)):
            chosen_values = list(zip(axes, combination, strict=True))
            content = _apply([*own, *chosen_values], params)
            if _is_frozen(content):
                # How the rest would learn decides nothing where it does not.
                chosen_values = [
                    (key, value)
                    for key, value in chosen_values
                    if key in _OF_THE_HEAD or not _is_of_fine_tuning(key)
                ]
                content = _apply([*own, *chosen_values], params)
            words = [name] if name else []
            # What it cannot take of params.yaml makes it another candidate than its name says.
            words += [_phrase(key, value, _LAST_WORDS) for key, value in own if key in _LAST_WORDS]
            words += [_phrase(key, value, short) for key, value in chosen_values]
            label = ", ".join(words)
            # Several that are frozen may be left the same.
            candidates.setdefault(label, Candidate(label, (*own, *chosen_values), content))
    _check_learning(axes, params)
    if len(candidates) < 2:
        raise InputError(
            "compare: expected at least two candidates, received "
            f"{next(iter(candidates)) or 'none'}; name backbones (`headstart backbones` lists "
            "them), --strategies, --all-offline, or --over KEY=VALUE,VALUE"
        )
    return list(candidates.values())


def _check_learning(axes: Sequence[str], params: dict[str, Any]) -> None:
    """Check that what a grid says of fine-tuning changes something.

    Raises:
        InputError: nothing is unfrozen.
    """
    idle = [key for key in axes if _is_of_fine_tuning(key) and key not in _OF_THE_HEAD]
    if idle and UNFREEZE not in axes and _is_frozen(params):
        raise InputError(
            f"--over {idle[0]}: expected something to fine-tune, but {UNFREEZE} in params.yaml is "
            f"none: say what, such as --over {UNFREEZE}=last_block"
        )


def _is_of_fine_tuning(key: str) -> bool:
    return key.startswith("finetune.")


def _is_frozen(content: dict[str, Any]) -> bool:
    return bool(content.get("finetune", {}).get("unfreeze") == "none")


def _phrase(key: str, value: Any, short: dict[str, str]) -> str:
    """Say what a value is: in words for how much of the network learns, else by its key."""
    if key != UNFREEZE:
        return f"{short[key]}={_word(value)}"
    words = {"none": "frozen", "scratch": "from scratch"}
    return words.get(value, f"fine-tuned: {_word(value)}")


def _of_backbone(name: str, params: dict[str, Any], axes: Sequence[str]) -> list[Override]:
    """Return what must change for another backbone than that of params.yaml."""
    extract = params["extract"]
    name, _, weights = name.partition(":")
    overrides: list[Override] = [(BACKBONE, name)]
    if weights:
        overrides.append((WEIGHTS, weights))
    if name != extract["backbone"]:
        if "extract.layer" not in axes and extract["layer"] != "auto":
            overrides.append(("extract.layer", "auto"))
        its_own = extract["weights"] not in ("pretrained", "random")
        if its_own and not weights and WEIGHTS not in axes:
            overrides.append((WEIGHTS, "pretrained"))
        spec = catalog.get(name)
        if extract["pooling"] not in spec.poolings and "extract.pooling" not in axes:
            overrides.append(("extract.pooling", "avg"))
        if not _takes(spec, extract["image_size"]) and "extract.image_size" not in axes:
            overrides.append(("extract.image_size", "auto"))
    return overrides


def _takes(spec: BackboneSpec, image_size: Any) -> bool:
    try:
        spec.image_size(image_size)
    except InputError:
        return False
    return True


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Shorten each key to its last word, where that is unambiguous."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)
    }


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return "x".join(_word(part) for part in value)
    return str(value)
