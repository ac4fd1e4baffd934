"""Every forward model: what was measured, a classical baseline and ours, in one table.

    python benchmarks/models.py DATA [--count 3] [--only radon,psf] [--out FILE]
    python benchmarks/models.py markdown JSON [--into PAGE.md]

DATA is a folder with ``eval/clean`` and ``eval/denoise`` (clean images; the names of those used
are in the result). Crops of 64x64 pixels are scaled to a peak of 200 photons over a background of
5, measured through each model with noise, and restored with the default sampler and the shipped
prior. PSNR against the truth, its peak that of the photons. Where a baseline has iterations, the
one nearest to the truth is taken, which nobody could choose without the truth.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cases import BACKGROUND, MARGIN, PEAK, PIXEL, SIDE, Case, bound, cases
from _common import Array, best_crop, clean_images, machine, photons, publish, read, say
from _pages import markdown_command
from cyclopts import App

import napari_dps
from napari_dps.components import ForwardModel, make
from napari_dps.core.likelihood import GaussianLikelihood, PoissonLikelihood
from napari_dps.image import Image

app = App(help="Every forward model against its classical baseline, as a table and as JSON.")


def psnr(image: Array, truth: Array, peak: float) -> float:
    """Return the peak signal-to-noise ratio in dB."""
    return float(10 * np.log10(peak**2 / np.mean((image - truth) ** 2)))


def coordinates(values: Array) -> tuple[str, tuple[float, ...] | None]:
    """Return the axes of an object or of what was measured of it, and its pixel size."""
    if values.ndim == 3 and values.shape[0] == 2:
        return "CYX", None  # real and imaginary part
    if values.ndim == 3 and values.shape[0] > 8:
        return "TYX", None  # the patterns of a scan
    return "ZYX"[-values.ndim :], (3 * PIXEL, PIXEL, PIXEL)[-values.ndim :]


def truth_misfit(case: Case, whole: Array, y: Array, cut: int) -> float:
    """Return chi-square per datum of the truth itself: what a perfect restoration has."""
    model = make("forward", case.forward)
    assert isinstance(model, ForwardModel)
    operator = bound(model, y.shape)
    x = torch.as_tensor(whole, dtype=torch.float64)[None]
    x = x if operator.x_shape[0] == 2 else x[None]
    wide = operator.embed(x) if operator.x_shape != tuple(x.shape[1:]) else x
    z = operator(wide)[0].numpy().reshape(y.shape)
    seen = np.ones(y.shape, bool)
    if operator.measured is not None:
        seen = np.broadcast_to(operator.measured.numpy(), operator.y_shape).reshape(y.shape).copy()
    sigma = case.noise.get("sigma")
    likelihood = GaussianLikelihood(sigma) if sigma else PoissonLikelihood()
    if cut:
        seen[:cut], seen[-cut:], seen[:, :cut], seen[:, -cut:] = False, False, False, False
    found = likelihood.chi2(*(torch.tensor(v)[None] for v in (y, z, seen)))
    return float(found)


def measured(case: Case, wide: Array, seed: int) -> tuple[Array, Array, float]:
    """Return (truth, measurement, the truth's misfit), light from beyond the field included."""
    inner = (slice(MARGIN, -MARGIN),) * 2
    wide = photons(wide, PEAK, BACKGROUND, inner)
    whole = case.truth(wide if case.margin else wide[inner])
    axes, pixel = coordinates(whole)
    image = Image.from_array(whole, axes=axes, pixel_size=pixel)
    y = napari_dps.simulate(image, forward=case.forward, noise=case.noise, seed=seed)
    y = y.astype(np.float64)
    cut = case.margin * y.shape[-1] // whole.shape[-1]
    misfit = truth_misfit(case, whole, y, cut)
    if not cut:
        return whole, y, misfit
    return whole[inner], y[cut:-cut, cut:-cut], misfit


def row(label: str, case: Case, wide: Array, seed: int, samples: int) -> dict[str, Any]:
    """Measure one image through one model, and restore it by both."""
    truth, y, misfit = measured(case, wide, seed)
    model = make("forward", case.forward)
    assert isinstance(model, ForwardModel)
    peak = 1.0 if label in ("ptychography", "fourier-mask-complex") else float(np.ptp(truth))

    def judge(image: Array) -> float:
        return psnr(case.fitted(image, truth), truth, peak)

    begin = time.perf_counter()
    axes, pixel = coordinates(y)
    result = napari_dps.reconstruct(
        y,
        forward=case.forward,
        noise=case.noise,
        samples=samples,
        seed=seed,
        axes=axes,
        pixel_size=pixel,
    )
    seconds = time.perf_counter() - begin
    report = result.report
    flux = report["flux"]
    return {
        "model": label,
        "measurement": None if case.direct is None else psnr(case.direct(y), truth, peak),
        "baseline": max(judge(image) for image in case.baseline(y, truth, model)),
        "baseline_name": case.name,
        "ours": judge(np.asarray(result.mean, np.float64)),
        "misfit": report["misfit"],
        "misfit_truth": misfit,
        "flux_off": (flux["expected"][0] - flux["measured"][0]) / flux["error"][0],
        "sampler": report["sampler"],
        "seconds": seconds,
        "shape": list(result.mean.shape),
        "warnings": report["warnings"],
    }


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean over images of every model's figures."""
    found = []
    for label in dict.fromkeys(r["model"] for r in rows):
        part = [r for r in rows if r["model"] == label]
        mean: dict[str, Any] = {"model": label, "images": len(part)}
        for key in (
            "measurement",
            "baseline",
            "ours",
            "misfit",
            "misfit_truth",
            "flux_off",
            "seconds",
        ):
            values = [r[key] for r in part if r[key] is not None]
            mean[key] = round(float(np.mean(values)), 3) if values else None
        mean["baseline_name"] = part[0]["baseline_name"]
        mean["best"] = all(mean["ours"] > (mean[k] or -1e9) for k in ("measurement", "baseline"))
        found.append(mean)
    return found


def line(r: dict[str, Any]) -> str:
    """Return a row as text."""
    direct = "   -" if r["measurement"] is None else f"{r['measurement']:5.1f}"
    return (
        f"{r['model']:22} {direct:>5} {r['baseline']:5.1f} {r['ours']:5.1f}  {r['misfit']:5.2f}"
        f" {r['misfit_truth']:5.2f}"
        f" {r['flux_off']:6.2f} {r['seconds']:6.1f}  {r['baseline_name']}"
    )


@app.default
def main(
    data: Path,
    /,
    *,
    count: int = 3,
    first: int = 0,
    samples: int = 4,
    only: str = "",
    out: Path | None = None,
) -> None:
    """Restore by every model.

    Parameters
    ----------
    data
        Folder with eval/clean and eval/denoise.
    count
        Images.
    first
        Number of the image to begin with, to go on with an earlier run.
    samples
        Posterior samples.
    only
        Rows, with commas between; all if left out.
    out
        File for the JSON.
    """
    chosen = cases()
    if only:
        chosen = {label: chosen[label] for label in only.split(",")}
    paths = clean_images(data, count)
    rows = []
    for label, case in chosen.items():
        for seed, path in list(enumerate(paths))[first:]:
            wide = best_crop(read(path), SIDE, MARGIN, seed)
            rows.append({"image": path.name, **row(label, case, wide, seed, samples)})
            say(line(rows[-1]) + f"  {path.name}")
    summary = table(rows)
    say(f"{'model':22} meas. base. ours  misfit truth flux/s seconds")
    for one in summary:
        say(line(one) + ("" if one["best"] else "   << not the best"))
    publish({"samples": samples, "machine": machine(), "table": summary, "rows": rows}, out)


def text_of(report: dict[str, Any]) -> str:
    """Return the table of a report as Markdown, the best figure of each row in bold."""
    names = list(dict.fromkeys(r["image"] for r in report["rows"]))
    lines = [
        f"Means over {len(names)} images ({', '.join(names)}), {report['samples']} samples; "
        f"seconds on {report['machine']['threads']} thread of a CPU.",
        "",
        "| model | sampler | measurement | baseline | ours | misfit, ours | misfit, truth "
        "| flux, in errors | seconds |",
        "|---" * 9 + "|",
    ]
    for one in report["table"]:
        rows = [r for r in report["rows"] if r["model"] == one["model"]]
        kinds = " or ".join(dict.fromkeys(f"`{r['sampler']}`" for r in rows))
        figures = [one["measurement"], one["baseline"], one["ours"]]
        best = max(value for value in figures if value is not None)
        cells = ["" if v is None else f"**{v:.1f}**" if v == best else f"{v:.1f}" for v in figures]
        cells[1] += f" ({one['baseline_name']})"
        flux = float(np.mean([abs(r["flux_off"]) for r in rows]))
        cells += [f"{v:.2f}" for v in (one["misfit"], one["misfit_truth"], flux)]
        cells = [f"`{one['model']}`", kinds, *cells, f"{one['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


markdown_command(app, text_of, "models")


if __name__ == "__main__":
    app()
