"""Every sampler once through the command line and once through the dock's form, as JSON.

    python benchmarks/shelf.py [--samples 2] [--side 64] [--kinds hio ...] [--out FILE]

Each on a problem it is made for, from the shipped samples: the diffraction pattern for the
classical phase samplers; a tiny crop with a Gaussian prior for `smc`; a crop of the blurred nuclei
for all others. Given are the gain over the measurement in dB (for phase retrieval, after
registration and over a flat image), whether both faces gave the same bits, and the two samplers of
one problem whose results are nearest to each other. Ends with an error where two samplers gave the
same image, or two faces did not.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tifffile
from _common import Array, machine, publish, say
from cyclopts import App, Parameter

import napari_dps
from napari_dps.components import make, registry
from napari_dps.demo import fit_one_gain
from napari_dps.evaluate import psnr
from napari_dps.image import Image
from napari_dps.io import read_image
from napari_dps.recipe import Recipe
from napari_dps.result import Result
from napari_dps.uncertainty.registration import register

SAMPLES = Path(napari_dps.__file__).parent / "sample_data"
PHASE = ("er", "hio", "oss", "raar")
TINY = 12
app = App(help="Every sampler through the command line and the dock's form, as JSON.")


def problem_of(kind: str, side: int) -> tuple[str, Image, Array, dict[str, Any]]:
    """Return (name, measurement, truth, recipe without sampler) for a sampler."""
    name = "diffraction" if kind in PHASE else "nuclei_blur"
    image = read_image(SAMPLES / f"{name}.tif")
    truth = np.asarray(read_image(SAMPLES / f"{name}_truth.tif").data, np.float64)
    recipe = json.loads((SAMPLES / f"{name}.json").read_text())
    if name == "nuclei_blur":
        top = tuple((n - side) // 2 for n in truth.shape)
        window = tuple(slice(t, t + side) for t in top)
        image, truth = image.with_data(image.data[window]), truth[window]
    if kind == "smc":
        image, truth = image.with_data(image.data[:TINY, :TINY]), truth[:TINY, :TINY]
        name, recipe["prior"] = "tiny", {"kind": "gaussian", "std": 0.4, "correlation_length": 2}
    recipe.pop("sampler", None)
    return name, image, truth, recipe


def through_command_line(image: Image, recipe: dict[str, Any], folder: Path) -> Result:
    """Return the result of ``napari-dps reconstruct``."""
    tifffile.imwrite(folder / "y.tif", image.data)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    line = ["reconstruct", "y.tif", "-o", "x.tif", "--recipe", "recipe.json", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "napari_dps", *line], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{recipe['sampler']['kind']}: {done.stderr.strip()}")
    return Result.load(folder / "x.tif")


def through_form(image: Image, recipe: dict[str, Any]) -> Result:
    """Return the result of the dock: its form chooses, its computing side runs."""
    from napari_dps.plugin.forms import ComponentChooser
    from napari_dps.plugin.messages import Finished, Request, Stop, answer

    chooser = ComponentChooser("sampler")
    chooser.set_value(make("sampler", recipe["sampler"]))
    chosen = Recipe.parse({**recipe, "sampler": chooser.value()})
    end = list(answer(Request(1, image, chosen, "cpu"), Stop()))[-1]
    assert isinstance(end, Finished) and end.result is not None, end
    return end.result


def gain(name: str, found: Array, image: Image, truth: Array) -> float:
    """Return how many dB nearer to the truth than the measurement (or a flat image) it is."""
    if name == "diffraction":
        found = register(found, truth)
        found = found * fit_one_gain(found, truth)
        return psnr(found, truth) - psnr(np.full_like(truth, truth.mean()), truth)
    return psnr(found, truth) - psnr(np.asarray(image.data, np.float64), truth)


@app.default
def main(
    *,
    samples: int = 2,
    side: int = 64,
    kinds: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    out: Path | None = None,
) -> None:
    """Run every sampler through both faces.

    Parameters
    ----------
    samples
        Of those that draw samples.
    side
        Of the crop of the blurred nuclei, in pixels.
    kinds
        Which samplers; all where left out.
    out
        Where to keep the JSON.
    """
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance() or QApplication([])
    rows: list[dict[str, Any]] = []
    means: dict[tuple[str, str], Array] = {}
    for kind in kinds or tuple(registry("sampler")):
        name, image, truth, recipe = problem_of(kind, side)
        recipe |= {"sampler": {"kind": kind}, "samples": samples}
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            shell = through_command_line(image, recipe, Path(folder))
        seconds = time.perf_counter() - begin
        dock = through_form(image, recipe)
        means[name, kind] = np.asarray(shell.mean, np.float64)
        rows.append(
            {
                "sampler": kind,
                "ran": shell.report["sampler"],
                "problem": name,
                "gain_db": round(gain(name, means[name, kind], image, truth), 2),
                "chi2": round(float(shell.report["misfit"]), 3),
                "point_estimate": shell.point_estimate,
                "same_bits": bool(np.array_equal(shell.mean, dock.mean)),
                "calls": shell.report["network_calls"],
                "seconds_command_line": round(seconds, 1),
            }
        )
        say(json.dumps(rows[-1]))
    nearest = None
    pairs = [
        (float(np.sqrt(np.mean((means[a] - means[b]) ** 2))), a[0], a[1], b[1])
        for a, b in itertools.combinations(means, 2)
        if a[0] == b[0] and "auto" not in (a[1], b[1])
    ]
    if pairs:
        distance, name, one, two = min(pairs)
        nearest = {"problem": name, "samplers": [one, two], "rms_difference": distance}
    publish({"what": __doc__, "machine": machine(), "rows": rows, "nearest": nearest}, out)
    application.quit()
    different = [row["sampler"] for row in rows if not row["same_bits"]]
    if different:
        raise SystemExit(f"command line and form gave different images with {different}")
    if nearest is not None and nearest["rms_difference"] == 0:
        raise SystemExit(f"the samplers {nearest['samplers']} gave the same image")


if __name__ == "__main__":
    app()
