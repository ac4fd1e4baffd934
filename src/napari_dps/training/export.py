"""The prior folder of a run, at any time."""

from __future__ import annotations

import json
from pathlib import Path

from ..priors._folder import NetworkConfig, PriorInfo, Spectrum, build_network, save_prior
from . import card, history
from .trainer import read_checkpoint

LOG, PRIOR, REPORT = "log.jsonl", "prior", "report"


def export(
    out: str | Path,
    folder: str | Path,
    name: str | None = None,
    licence: str | None = None,
    credits_text: str | None = None,
) -> Path:
    """Write a prior folder from the newest checkpoint of a run (its averaged weights).

    Parameters
    ----------
    out : path
        Folder of the run.
    folder : path
        Prior folder to write; an older prior there is replaced in one move.
    name, licence, credits_text : str or None
        What the model card says: its name, the weights' licence, whose images were used; None
        takes what the run was told. Licence and credits of the prior that the run went on from
        follow.
    """
    out = Path(out)
    state = read_checkpoint(out)
    facts = state["facts"]
    told = facts.get("labels", {})
    given = {"licence": licence, "credits": credits_text}
    own = {key: value for key, value in given.items() if value is not None}
    facts = {**facts, "labels": {**told, **own}}
    config = NetworkConfig.model_validate(state["config"])
    network = build_network(config)
    network.load_state_dict(state["mean"])
    settings = state["settings"]
    kept = ("batch", "size", "rate", "ema", "uniform", "seed")
    training = {
        "steps": state["step"],
        "active_minutes": round(state["seconds"] / 60, 1),
        **{key: settings[key] for key in kept},
        **facts["training"],
    }
    info = PriorInfo(
        name=told.get("name", "prior") if name is None else name,
        network=config,
        sigma_min=settings["sigma_min"],
        sigma_max=settings["sigma_max"],
        data_std=facts["data_std"],
        spectrum=Spectrum(**facts["spectrum"]),
        pixel_size=facts.get("pixel_size"),
        licence=history.licence(facts),
        training=training,
    )
    text = history.credits_of(facts)
    written = save_prior(folder, network, info, text)
    report = out / REPORT / card.REPORT
    # A report of other weights than these would be false.
    if report.is_file() and json.loads(report.read_text("utf-8"))["steps"] == state["step"]:
        card.publish(out / REPORT, written, text)
    return written
