"""The model card of a prior folder: README.md."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._folder import PriorInfo


def model_card(info: "PriorInfo", weights: int, credits_text: str = "", results: str = "") -> str:
    """Return the model card: what the prior is, was trained on, reaches, and must not be used for.

    Parameters
    ----------
    info : PriorInfo
        The folder's config.json.
    weights : int
        Number of the network's parameters.
    credits_text : str
        Markdown: whose images the prior was trained on, under which licence.
    results : str
        Markdown: how it was judged.
    """
    lines = [
        f"# {info.name}",
        "",
        "Diffusion prior for napari-dps: a denoiser of grey images in [-1, 1].",
        "",
        f"- Network: U-Net behind a {info.network.stem}x{info.network.stem} pixel-unshuffle, "
        f"channels {'/'.join(map(str, info.network.channels))}, {weights / 1e6:.2f} M parameters, "
        "fp16.",
        f"- Noise levels: {info.sigma_min:g} to {info.sigma_max:g}.",
        f"- Pixel size: {'mixed' if info.pixel_size is None else f'{info.pixel_size:g} um'}.",
        f"- Licence: {info.licence or 'not stated'}",
        "",
        "## Training",
        "",
        *_training(info.training),
        "",
        *(["## Images", "", credits_text.strip(), ""] if credits_text.strip() else []),
        *([results.strip(), ""] if results.strip() else []),
        "## Use with care",
        "",
        "What a prior never saw it replaces by what it knows. Check the residual report, compare",
        "with the measurement, and train a prior on your own images when the structures differ.",
        "",
    ]
    return "\n".join(lines)


def _training(facts: Mapping[str, Any]) -> list[str]:
    """Return the facts of a run as a list, and the runs it went on from after it."""
    lines = []
    run: Any = facts
    while isinstance(run, Mapping):
        plain = {k: v for k, v in run.items() if not isinstance(v, Mapping)}
        shown = [f"{key} {value}" for key, value in plain.items()]
        if isinstance(run.get("mixture"), Mapping):
            shares = ", ".join(f"{kind} {share:g}" for kind, share in run["mixture"].items())
            shown.append(f"shares {shares}")
        lines.append(f"- {'; '.join(shown)}." if shown else "- nothing is stated.")
        groups = run.get("groups")
        if isinstance(groups, Mapping):
            lines += [
                f"  - {name}: {fact['images']} images and {fact['held_out']} held out, grey levels "
                f"{fact['low']:g} to {fact['high']:g} as -1 to 1, own noise {fact['noise']:.3f}"
                for name, fact in groups.items()
            ]
        start = run.get("start")
        run = start.get("training") if isinstance(start, Mapping) else None
        if isinstance(start, Mapping):
            lines.append(f"- It went on from the prior {start.get('hash', 'unknown')}:")
    return lines
