"""Draws the figures of the course, docs/pictures/zoo-*.svg: `python -m docs.make figures`.

A figure is 360 units wide, about as wide as a telephone shows a page, so that text of 11 units is
legible there. It brings its own light ground, since an image knows nothing of the page's colors.
"""

import math
from collections.abc import Callable, Iterable
from html import escape
from typing import Literal

from docs.sandbox import ROOT

PICTURES = ROOT / "docs" / "pictures"
WIDTH = 360
SHOWN = 600
"""Pixels that a figure is wide where there is room."""

Kind = Literal["tensor", "conv", "pool", "dense", "merge"]
Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]

INK, QUIET, ACCENT = "#1f2933", "#52606d", "#c2410c"
COLORS: dict[Kind, tuple[str, str]] = {
    "tensor": ("#ffffff", "#7b8794"),
    "conv": ("#d8e8f8", "#2b6cb0"),
    "pool": ("#fdebd0", "#b7791f"),
    "dense": ("#dcf0e0", "#2f855a"),
    "merge": ("#eadff7", "#6b46c1"),
}
"""Fill and line of each kind of block."""

ORIGINS = ("#7b8794", "#2b6cb0", "#b7791f", "#2f855a", "#6b46c1")
"""What tells channels, patches and the like apart by where they come from."""


class Figure:
    """An SVG that grows by what is drawn on it.

    Attributes:
        title: What a screen reader says where the file is opened by itself.
        height: In units, of which the figure is 360 wide.
    """

    def __init__(self, title: str, height: float) -> None:
        self.title = title
        self.height = height
        self._parts: list[str] = []

    def text(
        self, at: Point, text: str, *, size: float = 11.5, color: str = INK,
        anchor: Anchor = "middle", bold: bool = False,
    ) -> None:  # fmt: skip
        """Write lines of text, all of which are centered on a point's height."""
        weight = ' font-weight="bold"' if bold else ""
        lines = text.split("\n")
        for index, line in enumerate(lines):
            y = at[1] + 14 * (index - (len(lines) - 1) / 2) + size * 0.36
            self._parts.append(
                f'<text x="{at[0]:g}" y="{y:g}" font-size="{size:g}" fill="{color}" '
                f'text-anchor="{anchor}"{weight}>{escape(line)}</text>'
            )

    def block(self, at: Point, size: Point, text: str = "", kind: Kind = "tensor") -> None:
        """Draw a rectangle around a point, with text in it."""
        (x, y), (width, height), (fill, line) = at, size, COLORS[kind]
        self._parts.append(
            f'<rect x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" '
            f'height="{height:g}" rx="3" fill="{fill}" stroke="{line}"/>'
        )
        if text:
            self.text(at, text)

    def circle(self, at: Point, radius: float, text: str, kind: Kind = "merge") -> None:
        """Draw a circle around a point, with text in it."""
        fill, line = COLORS[kind]
        self._parts.append(
            f'<circle cx="{at[0]:g}" cy="{at[1]:g}" r="{radius:g}" fill="{fill}" stroke="{line}"/>'
        )
        self.text(at, text)

    def maps(self, at: Point, side: float, count: int, kind: Kind = "conv") -> None:
        """Draw square maps, one behind the other, around a point."""
        fill, line = COLORS[kind]
        for index in reversed(range(count)):
            shift = 3 * (index - (count - 1) / 2)
            self._parts.append(
                f'<rect x="{at[0] + shift - side / 2:g}" y="{at[1] - shift - side / 2:g}" '
                f'width="{side:g}" height="{side:g}" fill="{fill}" stroke="{line}"/>'
            )

    def grid(
        self, at: Point, cells: int, cell: float, marked: Iterable[tuple[int, int]] = (), *,
        color: str = COLORS["conv"][1], mark: str | None = None,
    ) -> None:  # fmt: skip
        """Draw a square of cells around a point, of which those marked are filled."""
        filled = set(marked)
        for row in range(cells):
            for column in range(cells):
                x = at[0] + cell * (column - cells / 2)
                y = at[1] + cell * (row - cells / 2)
                fill = (mark or color) if (row, column) in filled else "#ffffff"
                tint = ' fill-opacity="0.4"' if (row, column) in filled else ""
                self._parts.append(
                    f'<rect x="{x:g}" y="{y:g}" width="{cell:g}" height="{cell:g}" '
                    f'fill="{fill}"{tint} stroke="{color}"/>'
                )

    def bar(self, corner: Point, size: Point, color: str) -> None:
        """Draw a filled rectangle from its upper left corner."""
        self._parts.append(
            f'<rect x="{corner[0]:g}" y="{corner[1]:g}" width="{size[0]:g}" height="{size[1]:g}" '
            f'fill="{color}" fill-opacity="0.5" stroke="{color}"/>'
        )

    def frame(self, corner: Point, size: Point) -> None:
        """Draw a dashed rectangle around what belongs together."""
        self._parts.append(
            f'<rect x="{corner[0]:g}" y="{corner[1]:g}" width="{size[0]:g}" height="{size[1]:g}" '
            f'rx="6" fill="none" stroke="{QUIET}" stroke-dasharray="4 3"/>'
        )

    def arrow(self, *points: Point, color: str = INK) -> None:
        """Draw an arrow along points."""
        path = " ".join(f"{'L' if i else 'M'}{x:g},{y:g}" for i, (x, y) in enumerate(points))
        self.curve(path, color=color)

    def curve(self, path: str, *, color: str = INK, head: bool = True, width: float = 1.4) -> None:
        """Draw along an SVG path, with an arrow's head at its end."""
        end = f' marker-end="url(#{"accent" if color == ACCENT else "ink"})"' if head else ""
        self._parts.append(
            f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"{end}/>'
        )

    def svg(self) -> str:
        """Return the file's text."""
        heads = "".join(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" '
            f'markerHeight="6" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{color}"/></marker>'
            for name, color in (("ink", INK), ("accent", ACCENT))
        )
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:g}" '
            f'width="{SHOWN}" height="{self.height * SHOWN / WIDTH:g}" role="img" '
            "font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">",
            f"<title>{escape(self.title)}</title>",
            f"<defs>{heads}</defs>",
            f'<rect width="{WIDTH}" height="{self.height:g}" rx="8" fill="#fbfcfd"/>',
            *self._parts,
            "</svg>",
            "",
        ])  # fmt: skip


def lenet() -> Figure:
    """Maps get smaller and more: convolve, pool, convolve, pool."""
    figure = Figure("LeNet-5: convolutions and poolings in turn, then dense layers", 284)
    stages: tuple[tuple[str, str, float, int, Kind, str], ...] = (
        ("input", "32×32×1", 50, 1, "tensor", "conv 5×5"),
        ("C1", "28×28×6", 44, 4, "conv", "pool 2×2"),
        ("S2", "14×14×6", 26, 4, "pool", "conv 5×5"),
        ("C3", "10×10×16", 22, 7, "conv", "pool 2×2"),
        ("S4", "5×5×16", 14, 7, "pool", "conv 5×5"),
        ("C5", "1×1×120", 6, 11, "conv", "dense"),
        ("F6", "84", 12, 0, "dense", "dense"),
        ("output", "10", 12, 0, "dense", ""),
    )
    for index, (name, size, side, count, kind, operation) in enumerate(stages):
        x, y = 42.0 + 92 * (index % 4), 54.0 if index < 4 else 202.0
        if count:
            figure.maps((x, y), side, count, kind)
        else:
            figure.block((x, y), (side, 60 if name == "F6" else 24), kind=kind)
        figure.text((x, y + 43), name, bold=True)
        figure.text((x, y + 58), size, color=QUIET)
        if operation and index != 3:
            figure.arrow((x + 34, y), (x + 60, y))
            figure.text((x + 47, y - 38), operation, size=11)
    figure.arrow((318, 122), (318, 144), (42, 144), (42, 180))
    figure.text((180, 135), "pool 2×2", size=11)
    return figure


def alexnet() -> Figure:
    """Eight layers deep, and an activation whose gradient does not vanish."""
    figure = Figure("AlexNet: five convolutions, three dense layers, ReLU", 362)
    layers: tuple[tuple[str, str, Kind], ...] = (
        ("input", "227×227×3", "tensor"),
        ("conv 11×11 / 4", "55×55×96", "conv"),
        ("max pool", "27×27×96", "pool"),
        ("conv 5×5", "27×27×256", "conv"),
        ("max pool", "13×13×256", "pool"),
        ("conv 3×3", "13×13×384", "conv"),
        ("conv 3×3", "13×13×384", "conv"),
        ("conv 3×3", "13×13×256", "conv"),
        ("max pool", "6×6×256", "pool"),
        ("dense", "4096", "dense"),
        ("dense", "4096", "dense"),
        ("dense", "1000", "dense"),
    )
    for index, (name, size, kind) in enumerate(layers):
        y = 22 + 29.0 * index
        figure.block((62, y), (96, 20), name, kind)
        figure.text((118, y), size, color=QUIET, anchor="start")
        if index:
            figure.arrow((62, y - 19), (62, y - 10.5))
    figure.curve("M194,42 H200 V262 H194", color=QUIET, head=False)
    figure.text((208, 206), "2.3 M\nparameters", color=QUIET, anchor="start")
    figure.curve("M194,275 H200 V349 H194", color=QUIET, head=False)
    figure.text((208, 312), "58.6 M\nparameters", color=QUIET, anchor="start")
    x, y = 284.0, 106.0
    figure.curve(f"M{x - 64},{y} H{x + 66}", color=QUIET, head=False, width=0.8)
    figure.curve(f"M{x},{y + 30} V{y - 66}", color=QUIET, head=False, width=0.8)
    # tanh as points, joined: an SVG has no such curve.
    tanh = " ".join(
        f"{'L' if step else 'M'}{x + 2 * (step - 32):g},{y - 20 * math.tanh((step - 32) / 10):.2f}"
        for step in range(65)
    )
    figure.curve(tanh, color=COLORS["tensor"][1], head=False, width=2)
    figure.curve(f"M{x - 64},{y} H{x} L{x + 60},{y - 60}", color=ACCENT, head=False, width=2)
    figure.text((x + 8, y - 56), "ReLU", color=ACCENT, anchor="end", bold=True)
    figure.text((x + 64, y + 14), "tanh", color=QUIET, anchor="end", bold=True)
    return figure


def vgg() -> Figure:
    """Two 3 x 3 convolutions see as much as one of 5 x 5."""
    figure = Figure("VGG: stacks of 3×3 convolutions", 330)
    corner = [(row, column) for row in range(3) for column in range(3)]
    figure.text((58, 14), "5×5 of the input", size=11)
    figure.grid((58, 66), 5, 17, corner)
    figure.arrow((108, 66), (140, 66))
    figure.text((124, 50), "3×3", bold=True)
    figure.grid((180, 66), 3, 17, corner)
    figure.arrow((214, 66), (246, 66))
    figure.text((230, 50), "3×3", bold=True)
    figure.grid((266, 66), 1, 17, [(0, 0)])
    figure.text((300, 66), "one\nvalue", size=11)
    figure.text((180, 128), "one 5×5, C channels to C:  25 C² weights", color=QUIET)
    figure.text((180, 144), "two 3×3, C channels to C:  18 C² weights", color=QUIET)
    blocks = ((2, 64, 224), (2, 128, 112), (3, 256, 56), (3, 512, 28), (3, 512, 14))
    for index, (count, filters, side) in enumerate(blocks):
        x = 38 + 71.0 * index
        for layer in range(count):
            figure.block((x, 186 + 27.0 * layer), (58, 20), f"3×3, {filters}", "conv")
            if layer:
                figure.arrow((x, 169 + 27.0 * layer), (x, 175.5 + 27.0 * layer))
        end = 186 + 27.0 * (count - 1) + 10
        figure.arrow((x, end), (x, 266.5))
        figure.block((x, 277), (58, 20), "pool 2×2", "pool")
        figure.text((x, 303), f"{side // 2}×{side // 2}", color=QUIET)
        if index:
            figure.arrow((x - 42, 277), (x - 35.5, 277), (x - 35.5, 186), (x - 29.5, 186))
    figure.text((38, 166), "224×224", color=QUIET)
    figure.text(
        (180, 320), "each block: half the side, twice the channels up to 512", color=QUIET, size=11
    )
    return figure


def googlenet() -> Figure:
    """Several sizes of convolution side by side; 1 x 1 ones keep them affordable."""
    figure = Figure("GoogLeNet: an inception module", 300)
    figure.block((180, 24), (130, 24), "28×28×192")
    top, bottom = 54.0, 226.0
    branches: tuple[tuple[tuple[str, Kind], ...], ...] = (
        (("1×1, 64", "conv"),),
        (("1×1, 96", "conv"), ("3×3, 128", "conv")),
        (("1×1, 16", "conv"), ("5×5, 32", "conv")),
        (("pool 3×3", "pool"), ("1×1, 32", "conv")),
    )
    made = (64, 128, 32, 32)
    figure.curve(f"M180,36 V{top}", head=False)
    figure.curve(f"M48,{top} H312", head=False)
    for index, (branch, color) in enumerate(zip(branches, ORIGINS[1:], strict=True)):
        x = 48 + 88.0 * index
        above = top
        for (text, kind), y in zip(branch, (92.0, 152.0)[-len(branch) :], strict=True):
            figure.arrow((x, above), (x, y - 12.5))
            figure.block((x, y), (76, 24), text, kind)
            above = y + 12
        end = 52 + sum(made[:index]) + made[index] / 2
        turn = 188.0 + 8 * (index == 2)
        figure.arrow((x, above), (x, turn), (end, turn), (end, bottom))
        figure.bar((end - made[index] / 2, bottom + 1), (made[index], 22), color)
        figure.text((end, bottom + 12), str(made[index]))
    figure.text((180, 262), "concat: 28×28×256", bold=True)
    figure.text(
        (180, 284), "5×5 after 1×1: 12 M multiply-adds; without: 120 M", color=QUIET, size=11
    )
    return figure


def resnet() -> Figure:
    """A block adds to what comes in, so that the way back is open however many there are."""
    figure = Figure("ResNet: a bottleneck block with its shortcut", 300)
    for x, name in ((84.0, "plain"), (250.0, "residual")):
        figure.text((x, 16), name, bold=True)
        figure.text((x, 40), "x: 56×56×256", color=QUIET)
        figure.arrow((x, 49), (x, 74))
        for layer, text in enumerate(("1×1, 64", "3×3, 64", "1×1, 256")):
            y = 87 + 44.0 * layer
            figure.block((x, y), (86, 24), text, "conv")
            figure.arrow((x, y + 12), (x, y + 31))
            if layer < 2:
                figure.text((x + 24, y + 21), "ReLU", size=11, color=QUIET)
    figure.text((84, 220), "H(x)", bold=True)
    figure.text((84, 240), "learns all of H", color=QUIET)
    figure.circle((250, 218), 11, "+")
    figure.curve("M250,56 H324 V218 H262", color=ACCENT, width=2)
    figure.text((330, 130), "x", color=ACCENT, bold=True, anchor="start")
    figure.text((228, 202), "F(x)", anchor="end")
    figure.arrow((250, 229), (250, 250))
    figure.text((250, 260), "F(x) + x", bold=True)
    figure.text((250, 280), "learns what to change", color=QUIET)
    return figure


def densenet() -> Figure:
    """Each layer reads all that came before, and adds a little."""
    figure = Figure("DenseNet: each layer reads what all before it have made", 292)
    centers = [40 + 70.0 * index for index in range(5)]
    for one, start in enumerate(centers):
        for end in centers[one + 1 :]:
            span = end - start
            height = 30 if span < 80 else 22 + span * 0.22
            color = ORIGINS[one]
            figure.curve(
                f"M{start:g},104 C{start:g},{104 - height * 1.3:g} {end:g},{104 - height * 1.3:g} "
                f"{end:g},104",
                color=color, head=False, width=1.6,
            )  # fmt: skip
    for index, x in enumerate(centers):
        figure.block((x, 116), (50, 24), "x₀" if index == 0 else f"layer {index}",
                     "tensor" if index == 0 else "conv")  # fmt: skip
        total = 64.0 + 32 * index
        y = 248.0
        for origin in range(index + 1):
            size = (64 if origin == 0 else 32) * 0.5
            y -= size
            figure.bar((x - 16, y), (32, size), ORIGINS[origin])
        figure.text((x, 260), f"{total:g}", bold=True)
    figure.text((180, 280), "channels after each layer, by the layer that made them", color=QUIET)
    return figure


def xception() -> Figure:
    """Look in each channel by itself, then mix channels point by point."""
    figure = Figure("Xception: a convolution, and a depthwise separable one", 330)
    colors = ORIGINS[1:4]
    inner = [(1, 1)]

    def column(x: float, y: float, tinted: bool) -> None:
        for index, color in enumerate(colors):
            marks = [(r, c) for r in range(3) for c in range(3)] if tinted else inner
            figure.grid((x, y + 42.0 * index), 3, 10, marks, color=color)

    figure.text((180, 14), "convolution 3×3", bold=True)
    column(70, 46, True)
    for target in range(3):
        for source, color in enumerate(colors):
            figure.curve(
                f"M88,{46 + 42 * source} L272,{46 + 42 * target}",
                color=color,
                head=False,
                width=1.2,
            )
    for target in range(3):
        figure.grid((284, 46 + 42.0 * target), 1, 20, inner, color=QUIET)
    figure.text((70, 14), "in", color=QUIET)
    figure.text((284, 14), "out", color=QUIET)
    figure.text((180, 158), "3·3·728·728 = 4.8 M weights", color=QUIET)

    figure.text((180, 186), "depthwise 3×3, then pointwise 1×1", bold=True)
    for index, color in enumerate(colors):
        y = 216 + 36.0 * index
        figure.grid((50, y), 3, 10, [(r, c) for r in range(3) for c in range(3)], color=color)
        figure.curve(f"M68,{y:g} H156", color=color, head=False, width=1.6)
        figure.grid((168, y), 1, 18, [(0, 0)], color=color)
        for target in range(3):
            figure.curve(f"M180,{y:g} L288,{216 + 36 * target}", color=color, head=False, width=1.2)
        figure.grid((300, y), 1, 18, (), color=QUIET)
    figure.text((180, 318), "3·3·728 + 728·728 = 0.5 M weights", color=QUIET)
    return figure


def unet() -> Figure:
    """Down to see what, up to see where, and across what the way down has lost."""
    figure = Figure("U-Net: a contracting and an expanding path with skip connections", 318)
    for level, (side, channels) in enumerate(((256, 64), (128, 128), (64, 256), (32, 512))):
        y = 42 + 54.0 * level
        left, right = 74.0, 286.0
        text = f"{side}×{side}×{channels}"
        figure.block((left, y), (112, 24), text, "conv")
        figure.block((right, y), (112, 24), text, "dense")
        figure.arrow((131, y), (229, y), color=ACCENT)
        figure.text((180, y - 9), "concat", color=ACCENT, size=11)
        if level < 3:
            figure.arrow((left, y + 12), (left, y + 41.5))
            figure.arrow((right, y + 42), (right, y + 12.5))
        if level == 0:
            figure.text((left + 8, y + 27), "max pool", size=11, color=QUIET, anchor="start")
            figure.text((right - 8, y + 27), "up 2×2", size=11, color=QUIET, anchor="end")
    figure.block((180, 258), (120, 24), "16×16×1024", "conv")
    figure.arrow((74, 216), (74, 258), (119, 258))
    figure.arrow((240, 258), (286, 258), (286, 216.5))
    figure.text((74, 16), "contracting", bold=True)
    figure.text((286, 16), "expanding", bold=True)
    figure.arrow((180, 270), (180, 290), color=ACCENT)
    figure.text((180, 302), "features are taken here", color=ACCENT)
    return figure


def vit() -> Figure:
    """An image is a sequence of patches, each of which may look at all others."""
    figure = Figure("ViT: patches become tokens, and tokens attend to each other", 380)
    figure.text((62, 14), "224×224×3", color=QUIET)
    for row in range(3):
        for column in range(3):
            color = ORIGINS[(row * 3 + column) % 5]
            figure.bar((26 + 24.0 * column, 26 + 24.0 * row), (24, 24), color)
    figure.arrow((106, 62), (134, 62))
    figure.text((240, 32), "14×14 = 196 patches", color=QUIET)
    for index, x in enumerate((142, 176, 210, 244, 310)):
        figure.bar((x, 50), (24, 24), ORIGINS[index])
    figure.text((289, 62), "…", bold=True)
    figure.text((240, 92), "16×16×3 = 768 values each", color=QUIET)
    figure.arrow((216, 102), (216, 117))
    figure.block((216, 130), (268, 24), "linear, + position", "dense")
    figure.text((42, 140), "class\ntoken", size=11, color=QUIET)
    xs = (42, 104, 154, 204, 254, 328)
    for index, x in enumerate(xs):
        if index:
            figure.arrow((x, 142), (x, 158))
            figure.bar((x - 8, 160), (16, 30), ORIGINS[index - 1])
        else:
            figure.block((x, 175), (16, 30))
        figure.arrow((x, 190), (x, 207))
        figure.arrow((x, 290), (x, 307))
        figure.block((x, 322), (16, 28), kind="merge")
    for y in (175, 322):
        figure.text((291, y), "…", bold=True)
    figure.frame((18, 208), (328, 82))
    figure.block((162, 230), (260, 24), "attention: each token reads all", "merge")
    figure.arrow((162, 242), (162, 255.5))
    figure.block((162, 268), (260, 24), "MLP: each token by itself", "dense")
    figure.text((319, 249), "×12", bold=True)
    figure.text((42, 350), "class", color=ACCENT, bold=True)
    figure.text((216, 350), "mean of the patches", color=ACCENT, bold=True)
    figure.text((180, 368), "197 tokens of 768 values", color=QUIET, size=11)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "zoo-lenet.svg": lenet,
    "zoo-alexnet.svg": alexnet,
    "zoo-vgg.svg": vgg,
    "zoo-googlenet.svg": googlenet,
    "zoo-resnet.svg": resnet,
    "zoo-densenet.svg": densenet,
    "zoo-xception.svg": xception,
    "zoo-unet.svg": unet,
    "zoo-vit.svg": vit,
}


def write() -> None:
    """Write all figures."""
    for name, draw in FIGURES.items():
        (PICTURES / name).write_text(draw().svg(), encoding="utf-8")
