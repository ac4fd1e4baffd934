"""Our operators beside deepinv's: agreement of A(x) and of the adjoint, and time.

    python benchmarks/forward.py [--sides 256 1024] [--out benchmarks/results/forward.json]
    python benchmarks/forward.py markdown JSON [--into PAGE.md]

Needs the extra `compare`. Both run in one process, in float32, taking turns; a time is the least of
all turns. `difference` is the root mean square of ours minus theirs over that of theirs; `ratio` is
our time over theirs, below 1 where ours is faster.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from _common import machine, publish, say
from _deepinv import load_deepinv
from _pages import markdown_command
from cyclopts import App, Parameter
from torch import Tensor

from napari_dps.components import make
from napari_dps.grid import Grid

app = App(help="Our operators beside deepinv's.")
ROOT = Path(__file__).resolve().parent.parent
SECONDS = 1.5
"""Time for each pair of functions."""
BLUR = {"kind": "gaussian-blur", "sigma": 3.0}
PROJECTIONS = 60
LARGEST = {"tomography": 512}
"""Sides above which a pair is left out: theirs takes minutes and gigabytes."""
NOTES = {
    "blur, periodic": "BlurFFT",
    "blur, light from outside": "Blur with padding 'valid', the faster of its two ways",
    "inpainting": "Inpainting",
    "binning": "Downsampling with a box as filter",
    "bicubic": "Downsampling with filter 'bicubic', away from the border, where theirs wraps",
    "tomography": "Tomography with circle=True, normalize=False. Not one definition: theirs turns "
    "the image by bilinear interpolation and sums, ours integrates strips exactly",
    "k-space": "MRI",
    "phase retrieval": "PhaseRetrieval of an oversampled Fourier transform; the adjoint is that of "
    "the Jacobian",
    "ptychography": "Ptychography, probe of a quarter of the side at 25 whole places; theirs "
    "normalises the probe, ours is given theirs; the adjoint is that of the Jacobian",
}


@dataclass
class Pair:
    """Two operators that should do the same.

    Parameters
    ----------
    ours, theirs : callable
        A, on their own form of the object.
    ours_back, theirs_back : callable
        The adjoint (or that of the Jacobian), on their own form of the data.
    x, their_x, v, their_v : Tensor
        Object and data, in both forms.
    same, same_back : callable
        Turn their output into the form of ours, and choose the part that is compared.
    """

    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor], Tensor]
    ours_back: Callable[[Tensor], Tensor]
    theirs_back: Callable[[Tensor], Tensor]
    x: Tensor
    their_x: Tensor
    v: Tensor
    their_v: Tensor
    same: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda a, b: (a, b)
    same_back: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda a, b: (a, b)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Return uniform numbers."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def complex_of(parts: Tensor) -> Tensor:
    """Return (B, 2, ...) as complex (B, 1, ...)."""
    return torch.complex(parts[:, :1], parts[:, 1:])


def blur_periodic(deepinv: Any, side: int) -> Pair:
    """Return circular convolutions."""
    model = make("forward", {**BLUR, "boundary": "periodic"})
    a = model.bind(Grid((side, side)))
    psf = torch.from_numpy(model.psf()).float()[None, None]
    b = deepinv.physics.BlurFFT(img_size=(1, side, side), filter=psf)
    x, v = random(1, 1, side, side), random(1, 1, side, side, seed=1)
    return Pair(a, b.A, a.transpose, b.A_adjoint, x, x, v, v)


def blur_extended(deepinv: Any, side: int) -> Pair:
    """Return convolutions of an object larger than the image."""
    model = make("forward", BLUR)
    a = model.bind(Grid((side, side)))
    psf = torch.from_numpy(model.psf()).float()[None, None]
    reach = psf.shape[-1] // 2
    inside = (..., *(slice(s.start - reach, s.stop + reach) for s in a.field))
    x, v = random(1, *a.x_shape), random(1, 1, side, side, seed=1)
    ways = [deepinv.physics.Blur(filter=psf, padding="valid", use_fft=fft) for fft in (True, False)]
    seconds = [min(timed(lambda b=b: b.A(x[inside])) for _ in range(3)) for b in ways]
    b = ways[int(np.argmin(seconds))]
    return Pair(
        a, b.A, a.transpose, b.A_adjoint, x, x[inside].contiguous(), v, v,
        same_back=lambda p, q: (p[inside], q),
    )  # fmt: skip


def inpainting(deepinv: Any, side: int) -> Pair:
    """Return masks."""
    a = make("forward", {"kind": "random-inpaint", "missing": 0.8}).bind(Grid((side, side)))
    b = deepinv.physics.Inpainting(img_size=(1, side, side), mask=a.measured[None].float())
    x, v = random(1, 1, side, side), random(1, 1, side, side, seed=1)
    return Pair(a, b.A, a.transpose, b.A_adjoint, x, x, v, v)


def downsampling(deepinv: Any, side: int, method: str) -> Pair:
    """Return downsampling by four."""
    factor, small = 4, side // 4
    a = make("forward", {"kind": "downsample", "factor": factor, "method": method}).bind(
        Grid((small, small))
    )
    box = torch.full((1, 1, factor, factor), 1 / factor**2)
    b = deepinv.physics.Downsampling(
        img_size=(1, side, side), filter=box if method == "binning" else "bicubic", factor=factor
    )
    x, v = random(1, *a.x_shape), random(1, 1, small, small, seed=1)
    field = (..., *a.field)

    def inner(first: Tensor, second: Tensor, border: int) -> tuple[Tensor, Tensor]:
        part = (..., slice(border, -border), slice(border, -border))
        return first[part], second[part]

    # Their blocks begin one pixel earlier.
    theirs = torch.roll(x[field], (-1, -1), (-2, -1)).contiguous()
    return Pair(
        a, b.A, a.transpose, b.A_adjoint, x, theirs, v, v,
        same=lambda p, q: inner(p, q, 4),
        same_back=lambda p, q: inner(p[field], torch.roll(q, (1, 1), (-2, -1)), 16),
    )  # fmt: skip


def tomography(deepinv: Any, side: int) -> Pair:
    """Return parallel projections over half a turn."""
    a = make("forward", {"kind": "radon"}).bind(Grid((PROJECTIONS, side)))
    b = deepinv.physics.Tomography(
        angles=torch.arange(PROJECTIONS) * 180.0 / PROJECTIONS, img_width=side, circle=True,
        normalize=False,
    )  # fmt: skip
    # Smooth, and dark beyond the circle, so that the way of interpolating matters little.
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    x = (torch.exp(-20 * ((rows - 0.2) ** 2 + (columns + 0.1) ** 2)) + 0.5 * (
        torch.exp(-60 * ((rows + 0.4) ** 2 + (columns - 0.3) ** 2))
    ))[None, None]  # fmt: skip
    v = a(x)
    turned = v.transpose(-1, -2).contiguous()
    disc = rows**2 + columns**2 < 0.9  # theirs is dark beyond the circle
    return Pair(
        a, b.A, a.transpose, b.A_adjoint, x, x, v, turned,
        same=lambda p, q: (p, q.transpose(-1, -2)), same_back=lambda p, q: (p * disc, q * disc),
    )  # fmt: skip


def k_space(deepinv: Any, side: int) -> Pair:
    """Return undersampled Fourier transforms of a complex object."""
    model = make("forward", {"kind": "fourier-mask", "acceleration": 3.0, "centre": 0.1})
    a = model.bind(Grid((2, side, side)))
    mask = torch.from_numpy(model.sampling((2, side, side))).float()
    b = deepinv.physics.MRI(mask=mask, img_size=(2, side, side))
    x = random(1, *a.x_shape)
    v = random(1, *a.y_shape, seed=1)
    their_v = v.reshape(1, 2, side, side)
    their_x = torch.fft.fftshift(x, (-2, -1)) if not centred(a, b, x) else x
    back = (lambda p, q: (torch.fft.fftshift(p, (-2, -1)), q)) if their_x is not x else None
    return Pair(
        a, b.A, a.transpose, b.A_adjoint, x, their_x.contiguous(), v, their_v,
        same=lambda p, q: (p.reshape(q.shape), q),
        **({"same_back": back} if back is not None else {}),
    )  # fmt: skip


def centred(a: Any, b: Any, x: Tensor) -> bool:
    """Return whether both put the image's origin in the same place."""
    expected = b.A(x)
    return bool(torch.allclose(a(x).reshape(expected.shape), expected, atol=1e-3))


def phase_retrieval(deepinv: Any, side: int) -> Pair:
    """Return intensities of the far field at an oversampling of two."""
    half = side // 2
    a = make("forward", {"kind": "phase-retrieval"}).bind(Grid((side, side)))
    edge = half // 2

    def transform(x: Tensor, **_: Any) -> Tensor:
        wide = torch.nn.functional.pad(x, (edge, half - edge) * 2)
        spectrum = torch.fft.fft2(torch.fft.ifftshift(wide, (-2, -1)), norm="ortho")
        return torch.fft.fftshift(spectrum, (-2, -1))

    def back(z: Tensor, **_: Any) -> Tensor:
        wide = torch.fft.ifft2(torch.fft.ifftshift(z, (-2, -1)), norm="ortho")
        wide = torch.fft.fftshift(wide, (-2, -1))
        return wide[..., edge : edge + half, edge : edge + half]

    b = deepinv.physics.PhaseRetrieval(deepinv.physics.LinearPhysics(A=transform, A_adjoint=back))
    x, v = random(1, *a.x_shape), random(1, *a.y_shape, seed=1)
    their_x = x.to(torch.complex64)
    return Pair(
        a, b.A, lambda w: a.linearize(x)[2](w), lambda w: b.A_vjp(their_x, w), x, their_x, v, v,
        same_back=lambda p, q: (p, q.real),
    )  # fmt: skip


def ptychography(deepinv: Any, side: int) -> Pair:
    """Return patterns at 25 places."""
    window = side // 4
    rng = np.random.default_rng(0)
    places = rng.integers(0, side - window + 1, (25, 2))
    places[0], places[1] = 0, side - window
    shifts = torch.from_numpy(places - (side - window) // 2)
    rows, columns = np.mgrid[:window, :window] - window / 2
    probe = np.exp(-(rows**2 + columns**2) / (window / 4) ** 2 * (1 - 0.3j))
    given = torch.from_numpy(probe).to(torch.complex64)[None]
    b = deepinv.physics.Ptychography(img_size=(1, side, side), probe=given, shifts=shifts)
    normalised = b.probe[0, 0].numpy()
    a = make(
        "forward",
        {"kind": "ptychography", "probe": normalised, "positions": places, "origin": "corner"},
    ).bind(Grid((25, window, window)))
    x = random(1, *a.x_shape)
    v = random(1, *a.y_shape, seed=1)
    their_x, their_v = complex_of(x), v.reshape(1, 25, window, window)
    return Pair(
        a, b.A, lambda w: a.linearize(x)[2](w), lambda w: b.A_vjp(their_x, w), x, their_x, v,
        their_v, same=lambda p, q: (p.reshape(q.shape), q),
        same_back=lambda p, q: (complex_of(p), q),
    )  # fmt: skip


PAIRS: dict[str, Callable[[Any, int], Pair]] = {
    "blur, periodic": blur_periodic,
    "blur, light from outside": blur_extended,
    "inpainting": inpainting,
    "binning": lambda d, n: downsampling(d, n, "binning"),
    "bicubic": lambda d, n: downsampling(d, n, "bicubic"),
    "tomography": tomography,
    "k-space": k_space,
    "phase retrieval": phase_retrieval,
    "ptychography": ptychography,
}


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def race(ours: Callable[[], object], theirs: Callable[[], object]) -> dict[str, float]:
    """Return the least seconds of both, which take turns."""
    first, second = [], []
    ours(), theirs()  # plans of the FFT, memory
    began = time.perf_counter()
    while len(first) < 3 or time.perf_counter() - began < SECONDS:
        first.append(timed(ours))
        second.append(timed(theirs))
    a, b = min(first), min(second)
    return {"ours ms": 1e3 * a, "theirs ms": 1e3 * b, "ratio": a / b}


def difference(pair: tuple[Tensor, Tensor]) -> float:
    """Return the relative root mean square difference."""
    ours, theirs = pair
    scale = theirs.abs().square().mean().sqrt()
    return float((ours - theirs).abs().square().mean().sqrt() / scale)


def compare(pair: Pair) -> dict[str, Any]:
    """Return agreement and times."""
    with torch.no_grad():
        found: dict[str, Any] = {
            "A": {"difference": difference(pair.same(pair.ours(pair.x), pair.theirs(pair.their_x)))}
        }
        found["A"] |= race(lambda: pair.ours(pair.x), lambda: pair.theirs(pair.their_x))
    # Theirs may use autograd inside.
    both = pair.ours_back(pair.v), pair.theirs_back(pair.their_v).detach()
    found["adjoint"] = {"difference": difference(pair.same_back(*both))}
    found["adjoint"] |= race(lambda: pair.ours_back(pair.v), lambda: pair.theirs_back(pair.their_v))
    return found


@app.default
def main(
    *,
    sides: Annotated[tuple[int, ...], Parameter(negative="", consume_multiple=True)] = (256, 1024),
    only: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    out: Path = ROOT / "benchmarks/results/forward.json",
) -> None:
    """Run and print JSON.

    Parameters
    ----------
    sides
        Of the images, in pixels.
    only
        Which pairs of operators; the others' rows of the file are kept. All if left out.
    out
        File for the JSON.
    """
    unknown = [name for name in only if name not in PAIRS]
    if unknown:
        raise SystemExit(f"there is no pair {unknown[0]!r}; there are {', '.join(PAIRS)}")
    deepinv = load_deepinv()
    warnings.filterwarnings("ignore", category=UserWarning, module="deepinv")
    rows = []
    if only and out.is_file():  # the others' rows are kept
        kept = json.loads(out.read_text(encoding="utf-8"))["rows"]
        rows = [row for row in kept if row["operator"] not in only]
    for name in only or PAIRS:
        for side in sides:
            if side > LARGEST.get(name, side):
                continue
            row = {"operator": name, "side": side, **compare(PAIRS[name](deepinv, side))}
            rows.append(row)
            say(
                f"{name} {side}: "
                + "; ".join(
                    f"{k} differs by {row[k]['difference']:.1e}, {row[k]['ours ms']:.2f} ms to "
                    f"{row[k]['theirs ms']:.2f}, ratio {row[k]['ratio']:.2f}"
                    for k in ("A", "adjoint")
                )
            )
    rows.sort(key=lambda row: list(PAIRS).index(row["operator"]))
    publish(
        {"deepinv": deepinv.__version__, **machine(), "compared with": NOTES, "rows": rows},
        out,
    )


def table(report: dict[str, Any]) -> str:
    """Return agreement and ratios of times as a table."""
    lines = [
        f"deepinv {report['deepinv']}, {report['threads']} thread of a CPU, float32.",
        "",
        "| operator | side | A differs by | adjoint differs by | A, ms | time over theirs "
        "| adjoint, ms | time over theirs |",
        "|---" * 8 + "|",
    ]
    for row in report["rows"]:
        one, two = row["A"], row["adjoint"]
        cells = [row["operator"], str(row["side"])]
        cells += [f"{part['difference']:.0e}" for part in (one, two)]
        for part in (one, two):
            cells += [f"{part['ours ms']:.2f}", f"{part['ratio']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


markdown_command(app, table, "deepinv")


if __name__ == "__main__":
    app()
