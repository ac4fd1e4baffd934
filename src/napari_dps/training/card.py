"""The end of a run: the prior is judged, and its folder gets a report, figures and a model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.prior import Prior
from ..priors._folder import CARD, load_prior, prior_info
from ..priors._model_card import model_card
from . import figures
from .images import Source
from .judge import draw, table
from .nearest import memorisation

REPORT, SAMPLES, CURVES, NEAREST = "report.json", "samples.png", "curves.png", "nearest.png"
SHEET = 16


def judge(
    out: Path,
    prior: Path,
    train: Sequence[Source],
    held_out: Sequence[Source],
    *,
    log: Path,
    count: int,
    facts: dict[str, Any],
    start: Prior | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Judge a prior and write report.json and three figures.

    Parameters
    ----------
    out : Path
        Folder for them.
    prior : Path
        The prior's folder.
    train, held_out : sequence of Source
        Images it learned from, and those it never saw.
    log : Path
        log.jsonl of the run.
    count : int
        Held-out images in the table at most.
    facts : dict
        What the report begins with: steps, minutes, share of waiting.
    start : Prior or None
        The prior that the training went on from.
    device : str
        Where to compute.

    Returns
    -------
    dict
        The report.
    """
    out.mkdir(parents=True, exist_ok=True)
    network = load_prior(prior, device)
    report: dict[str, Any] = {**facts, "held_out": None, "memorisation": None}
    if held_out:
        report["held_out"] = table(network, held_out, count, start)
    samples = draw(network, SHEET)
    figures.sheet(samples, out / SAMPLES)
    if train:
        report["memorisation"], matches = memorisation(samples, train, held_out)
        figures.pairs(samples, matches, out / NEAREST)
    figures.curves(figures.read_log(log), out / CURVES)
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def publish(report_folder: Path, prior: Path, credits_text: str = "") -> None:
    """Put a report and its figures into a prior folder and write the model card around them."""
    from safetensors import safe_open

    report = json.loads((report_folder / REPORT).read_text(encoding="utf-8"))
    for name in (REPORT, SAMPLES, CURVES, NEAREST):
        if (report_folder / name).is_file():
            shutil.copyfile(report_folder / name, prior / name)
    weights = 0
    with safe_open(prior / "model.safetensors", "pt") as file:
        for key in file.keys():
            size = 1
            for side in file.get_slice(key).get_shape():
                size *= side
            weights += size
    text = model_card(prior_info(prior), weights, credits_text, results(report))
    (prior / CARD).write_text(text, encoding="utf-8")


def results(report: dict[str, Any]) -> str:
    """Return the part of the model card that tells how the prior was judged."""
    lines = ["## Curves", "", f"![losses, held-out denoising, rate, speed]({CURVES})", ""]
    waited = report.get("waiting")
    if waited is not None:
        lines += [f"The network waited for data during {100 * waited:.1f} % of the time.", ""]
    lines += ["## Denoising of held-out images", ""]
    held = report["held_out"]
    if held is None:
        lines += ["No image was held out: there were too few.", ""]
    else:
        levels = list(next(iter(held["psnr"].values())))
        lines += [
            f"Mean PSNR (dB, for a range of 2) of {held['images']} images that were never trained "
            "on, one denoiser call at each noise level (prior units). The images have noise of "
            f"their own, {held['own_noise']:.3f} in the median; near that level and below, figures "
            "tell how well that noise is kept.",
            "",
            f"| noise | {' | '.join(levels)} |",
            f"|---|{'---|' * len(levels)}",
            *(
                f"| {name} | {' | '.join(f'{row[level]:.2f}' for level in levels)} |"
                for name, row in held["psnr"].items()
            ),
            "",
        ]
        if held["classical"] != "BM3D":
            lines += [
                f"BM3D was not installed (extra `bench`); {held['classical']} stand in for it.",
                "",
            ]
    lines += ["## Samples", "", f"![16 unconditional samples]({SAMPLES})", ""]
    lines += ["## Was it learnt by heart?", "", *_memory(report["memorisation"])]
    return "\n".join(lines)


def _memory(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return ["It learned from synthetic images alone, which are never drawn twice."]
    own, rest = found["samples"], found["held_out"]
    lines = [
        f"Correlation of each sample with the nearest of all patches of {found['searched']} "
        f"training images, eight orientations and two scales: {own[len(own) // 2]:.2f} in the "
        f"median, {own[-1]:.2f} at most."
    ]
    if rest:
        lines += [
            f"Held-out patches, which cannot have been learnt: {rest[len(rest) // 2]:.2f} and "
            f"{rest[-1]:.2f}. {found['nearer']} of {len(own)} samples are nearer to a training "
            "patch than nine tenths of the held-out patches are; chance gives a tenth of them."
        ]
    else:
        lines += ["No image was held out to compare with."]
    return [*lines, "", f"![samples, and the nearest training patch of each]({NEAREST})"]
