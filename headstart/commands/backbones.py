"""`headstart backbones`: the catalog as a table, or the cuts of one backbone."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from headstart import catalog
from headstart.catalog import onnx
from headstart.catalog.facts import FACTS
from headstart.catalog.onnx.file import OnnxFile, read
from headstart.catalog.spec import BackboneSpec
from headstart.catalog.weights import available_offline
from headstart.commands import onnx_listing
from headstart.commands.tables import Column, fit, output_width
from headstart.common.errors import InputError
from headstart.common.text import printable

_WIDE = 240
"""Characters per line where nothing says how many there are, so that nothing is cut off."""

_DISPENSABLE = (
    "min_size",
    "preprocessing",
    "depth",
    "weights",
    "feature_dim",
    "top5",
    "size_mb",
    "image_size",
    "offline",
    "license",
)
"""Columns left out, in this order, until the table fits a narrow terminal; --json has all."""


class _Column(NamedTuple):
    key: str
    title: str
    text: Callable[[Any], str] = str
    justify: Any = "right"

    def value(self, spec: BackboneSpec) -> Any:
        return FACTS[self.key](spec)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


_COLUMNS = (
    _Column("name", "backbone", justify="left"),
    _Column("size_mb", "size (MB)", lambda size: f"{size:g}"),
    _Column("top1", "top-1", _percent),
    _Column("top5", "top-5", _percent),
    _Column("linear_probe", "probe", _percent),
    _Column("zero_shot", "zero-shot", _percent),
    _Column("parameters", "parameters", _millions),
    _Column("depth", "depth"),
    _Column("image_size", "image size", _size),
    _Column("min_size", "smallest"),
    _Column("feature_dim", "features"),
    _Column("preprocessing", "preprocessing", justify="left"),
    _Column("license", "license", justify="left"),
    _Column("weights", "pretrained weights", justify="left"),
    _Column(
        "offline",
        "offline",
        lambda usable: "yes" if usable else "",
        justify="center",
    ),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "name",
        metavar="BACKBONE",
        nargs="?",
        help="show only backbones whose name contains this, in any case; or what an .onnx file "
        "holds, which is backbone onnx with the file as extract.weights",
    )
    parser.add_argument(
        "--sort",
        choices=[column.key for column in _COLUMNS],
        default="name",
        help="column to sort by (default: %(default)s)",
    )
    parser.add_argument("--descending", action="store_true", help="largest first")
    parser.add_argument(
        "--offline", action="store_true", help="only those whose pretrained weights are here"
    )
    parser.add_argument(
        "--cuts",
        action="store_true",
        help="list where BACKBONE can be cut (extract.layer), with the share of parameters "
        "and multiply-adds below and above each cut; imports TensorFlow. Of an .onnx file: the "
        "tensors that all others depend on; every other one can be named, too",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="with --cuts: one side, or height and width (default: the backbone's own)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print the catalog or one backbone's cuts.

    Raises:
        InputError: no backbone has such a name, the image size is not permitted, or the file
            cannot be used.
    """
    if args.name and args.name.endswith(onnx.SUFFIX):
        _print_file(args)
        return 0
    if args.cuts:
        if not args.name:
            raise InputError(
                "--cuts needs the name of one backbone: headstart backbones BACKBONE --cuts"
            )
        _print_cuts(catalog.get(args.name), args.image_size, as_json=args.json)
        return 0
    if args.image_size:
        raise InputError("--image-size belongs to --cuts; the table is the same for all sizes")
    _print_catalog(_chosen(args), as_json=args.json)
    return 0


def _chosen(args: argparse.Namespace) -> list[BackboneSpec]:
    found = [spec for spec in catalog.specs() if (args.name or "").lower() in spec.name.lower()]
    if not found:
        # This raises an error that suggests similar names.
        catalog.get(args.name)
    if args.offline:
        found = [spec for spec in found if available_offline(spec)]
    value = FACTS[args.sort]
    known = [spec for spec in found if value(spec) is not None]
    unknown = [spec for spec in found if value(spec) is None]
    return sorted(known, key=value, reverse=args.descending) + unknown


def _print_catalog(specs: Sequence[BackboneSpec], *, as_json: bool) -> None:
    if as_json:
        _print_json([{key: of(spec) for key, of in FACTS.items()} for spec in specs])
        return
    console = _console()
    # Of a column of dashes nobody learns anything.
    columns = [
        column for column in _COLUMNS if any(column.value(spec) is not None for spec in specs)
    ]
    left_out = []
    for key in _DISPENSABLE:
        if _fits(_catalog(specs, columns), console):
            break
        left_out += [column.title for column in columns if column.key == key]
        columns = [column for column in columns if column.key != key]
    console.print(_catalog(specs, columns))
    if left_out:
        console.print(f"Left out for want of room: {', '.join(left_out)}", highlight=False)
    for terms in dict.fromkeys(spec.terms for spec in specs if spec.terms):
        console.print(terms, highlight=False)


def _fits(table: Table, console: Console) -> bool:
    return Console(width=_WIDE).measure(table).maximum <= console.width


def _catalog(specs: Sequence[BackboneSpec], columns: Sequence[_Column]) -> Table:
    table = Table(
        caption="Figures: ImageNet, as published; probe: of a linear classifier on frozen "
        "features; zero-shot: from the classes' names alone. offline: pretrained weights are on "
        "this machine. Every backbone also runs with weights: random or a path. --json tells more.",
        caption_justify="left",
    )
    for column in columns:
        table.add_column(column.title, justify=column.justify)
    for spec in specs:
        values = [column.value(spec) for column in columns]
        table.add_row(
            *(
                "-" if value is None else column.text(value)
                for column, value in zip(columns, values, strict=True)
            )
        )
    return table


def _print_cuts(spec: BackboneSpec, image_size: list[int] | None, *, as_json: bool) -> None:
    _check_size(image_size)
    size = spec.image_size("auto" if image_size is None else (image_size * 2)[:2])
    # Here, because importing TensorFlow takes seconds.
    from headstart.catalog.building import build_architecture
    from headstart.catalog.cuts import find_cuts

    cuts = find_cuts(build_architecture(spec, size, seed=0))
    if as_json:
        fields = cuts[0].__slots__
        _print_json([{field: getattr(cut, field) for field in fields} for cut in cuts])
        return
    parameters, multiply_adds = cuts[-1].parameters_below, cuts[-1].multiply_adds_below
    print(
        f"Cuts of {spec.name} at {_size(size)}: {_millions(parameters)} parameters, "
        f"{_millions(multiply_adds)} multiply-adds per image"
    )
    _print_table(
        [
            Column("extract.layer", [cut.name for cut in cuts], right=False),
            Column("shape", [" x ".join(map(str, cut.shape)) for cut in cuts]),
            *(
                Column(
                    f"{what.replace('_', '-')} {where}",
                    [_percent(getattr(cut, f"{what}_{where}") / whole) for cut in cuts],
                    # What lies above is the rest.
                    spare=int(where == "above"),
                )
                for what, whole in (("parameters", parameters), ("multiply_adds", multiply_adds))
                for where in ("below", "above")
            ),
        ]
    )


def _print_file(args: argparse.Namespace) -> None:
    _check_size(args.image_size)
    file = read(Path(args.name))
    if args.cuts:
        _print_tensors(file, args.image_size, as_json=args.json)
    elif args.json:
        _print_json(onnx_listing.facts(file))
    else:
        print(f"{file.path}: {_millions(file.parameters)} parameters; {file.producer}")
        for kind, tensors in (("input", file.inputs), ("output", file.outputs)):
            for tensor in tensors:
                print(f"  {kind} {tensor.name}: {onnx_listing.shape_text(tensor.shape)}")


def _print_tensors(file: OnnxFile, image_size: list[int] | None, *, as_json: bool) -> None:
    cuts = onnx_listing.cuts(file, image_size)
    if as_json:
        _print_json(cuts)
        return
    print(f"Cuts of {file.path}")
    below = ("parameters_below", "multiply_adds_below")
    _print_table(
        [
            Column("extract.layer", [printable(cut["name"]) for cut in cuts], right=False),
            Column("shape", [onnx_listing.shape_text(tuple(cut["shape"])) for cut in cuts]),
            *(
                Column(
                    key.replace("_below", " below").replace("multiply_", "multiply-"),
                    [_millions(cut[key]) for cut in cuts],
                )
                for key in below
            ),
        ]
    )


def _print_table(columns: Sequence[Column]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    table = fit(columns, output_width())
    for line in table.lines:
        console.print(line)
    if table.left_out:
        console.print(f"Left out for want of room: {', '.join(table.left_out)} (--json)")


def _check_size(image_size: list[int] | None) -> None:
    if image_size is not None and len(image_size) > 2:
        raise InputError(
            f"--image-size: expected one side, or height and width, received {image_size}"
        )


def _console() -> Console:
    return Console(file=sys.stdout, width=output_width() or _WIDE)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2))
