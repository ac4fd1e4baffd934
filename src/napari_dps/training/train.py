"""Train a prior from images: one run that can pause, resume, end early and export at any time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..device import choose_device
from ..errors import InputError
from ..priors._folder import NetworkConfig, prior_hash, prior_info
from ..priors.fluorescence import FOLDER as SHIPPED
from .data import Mixture, Patches, statistics
from .images import Collection, collect, describe
from .loop import Loop, Say, Show
from .settings import Settings, check_preset, choose, settings_from
from .trainer import CHECKPOINT, Trainer, read_checkpoint


def train(
    images: Sequence[str | Path | ArrayLike] | str | Path,
    out: str | Path,
    *,
    preset: str = "auto",
    minutes: float | None = None,
    steps: int | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    weights: Mapping[str, float] | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    name: str | None = None,
    licence: str | None = None,
    credits_text: str | None = None,
    on_step: Show | None = None,
    on_note: Say | None = None,
) -> Path:
    """Train a prior on images and return its folder, ``out``/prior.

    Parameters
    ----------
    images : sequence of path or array, or one path
        Image files, folders, arrays (also stacks: every plane is an image); may be empty, then
        only synthetic images are used.
    out : path
        Folder of the run: checkpoint, log.jsonl, samples, report, prior. A file named FINISH put
        there lets the run cool down and end early.
    preset : str
        ``"small"``, ``"standard"``, ``"large"``, or ``"auto"``, which chooses by the number of
        images and the machine. It sets widths, batch, patch and learning rate.
    minutes, steps : float, int or None
        How long: active minutes (60 where neither is given), or steps.
    start : path, "fluorescence" or None
        Prior to go on from, a folder or the shipped one; its network's widths count. Fewer and
        gentler steps, and mostly the new images: few are enough.
    resume : bool
        Continue from the checkpoint in ``out`` with its settings, but for those given.
    weights : mapping of str to float or None
        By folder name: how much more often than usual its images are drawn.
    settings : Settings, mapping or None
        Single settings that win over the preset, by the names of
        :class:`~napari_dps.training.settings.Settings`; an instance is taken as it is.
    name, licence, credits_text : str or None
        What the model card says: the prior's name, the weights' licence, whose images were used.
    on_step : callable or None
        Gets every line of the log as a dict.
    on_note : callable or None
        Gets sentences to show: how images were normalised, what was chosen and why.

    Raises
    ------
    InputError
        If no usable image is found, an image or a setting cannot be used, ``out`` holds another
        run, or there is nothing to resume.
    PriorError
        If ``start`` is no prior folder.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{str(out)!r} is a file; name a folder for the run.")
    rank = int(os.environ.get("RANK", "0"))  # of several processes the first one speaks
    say: Say = on_note if on_note is not None and rank == 0 else lambda text: None
    given = settings if isinstance(settings, Settings) else _given(settings, minutes, steps)
    check_preset(preset)
    origin = None if start is None else prior_folder(start)
    if origin is not None:
        prior_info(origin)  # a mistake is told before images are read
    state = _state_of(out, resume)
    if state is not None and preset != "auto":
        raise InputError("A resumed run keeps its preset; leave the preset out.")
    listed = [images] if isinstance(images, (str, Path, np.ndarray)) else list(images)
    found = _collect(listed, given, state, weights, say)
    plan, reason = _plan(preset, given, found, state, tuning=origin is not None)
    say(reason)
    seed = plan.seed + 104_729 * rank + (1_000_003 + state["step"] if state else 0)
    mixture = Mixture(max(1.0 - plan.phantoms - plan.textures, 0.0), plan.phantoms, plan.textures)
    patches = Patches(found.train, plan.batch, plan.size, mixture, seed=plan.seed)
    if state is not None:
        config, facts = NetworkConfig.model_validate(state["config"]), state["facts"]
    else:
        config, facts = _facts(plan, found, patches, origin)
    labels = {"name": name, "licence": licence, "credits": credits_text}
    told = {key: value for key, value in labels.items() if value is not None}
    facts["labels"] = {**facts.get("labels", {}), **told}
    patches.seed = seed
    out.mkdir(parents=True, exist_ok=True)
    intra = torch.get_num_threads()
    # One core a piece: the pieces themselves run side by side.
    torch.set_num_threads(1)
    try:
        trainer = Trainer(out, plan, config, facts)
        if state is not None:
            trainer.resume(state)
        elif origin is not None:
            trainer.begin_from(origin)
        trainer.seed(seed)
        say(trainer.how)
        loop = Loop(trainer, found, patches, intra, say, on_step)
        loop.run()
    finally:
        torch.set_num_threads(intra)
    return loop.finish()


def _given(
    settings: Mapping[str, Any] | None, minutes: float | None, steps: int | None
) -> dict[str, Any]:
    """Return the settings that the caller named, checked."""
    given = dict(settings or {})
    if minutes is not None or steps is not None:
        given["steps"] = steps
        if minutes is not None:
            given["minutes"] = minutes
    settings_from(given)
    return given


def prior_folder(start: str | Path) -> Path:
    """Return the folder of a prior that is named by it, or is the shipped one."""
    folder = Path(start).expanduser()
    return SHIPPED if str(start) == "fluorescence" and not folder.exists() else folder


def _state_of(out: Path, resume: bool) -> dict[str, Any] | None:
    """Return the checkpoint to resume; refuse to write over one."""
    if resume:
        return read_checkpoint(out)
    if (out / CHECKPOINT).exists():
        raise InputError(
            f"{str(out)!r} holds a run already: add --resume to go on with it, or name another "
            "folder."
        )
    return None


def _stored(state: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's settings, as far as this version has them."""
    names = {field.name for field in fields(Settings)}
    return {key: value for key, value in state["settings"].items() if key in names}


def _collect(
    images: Sequence[str | Path | ArrayLike],
    given: Settings | Mapping[str, Any],
    state: dict[str, Any] | None,
    weights: Mapping[str, float] | None,
    say: Say,
) -> Collection:
    """Read the images and say how they were normalised; the split of a resumed run stays."""
    if not images:
        if state is not None and state["facts"]["training"].get("real_images"):
            raise InputError("The run learned from images: name them again to resume it.")
        say("synthetic images alone")
        return Collection()
    if isinstance(given, Settings):
        share = given.held_out
    else:
        default = Settings.held_out if state is None else _stored(state).get("held_out", 0.0)
        share = given.get("held_out", default)
    found = collect(images, held_out=share, weights=weights)
    for line in found.notes():
        say(line)
    return found


def _plan(
    preset: str,
    given: Settings | Mapping[str, Any],
    found: Collection,
    state: dict[str, Any] | None,
    *,
    tuning: bool,
) -> tuple[Settings, str]:
    """Return the settings of the run and a line that says why."""
    if isinstance(given, Settings):
        plan, reason = given, "settings as given"
    elif state is not None:
        plan = settings_from(given, settings_from(_stored(state)))
        reason = f"resumed at step {state['step']}"
    else:
        device, _ = choose_device(given.get("device", "auto"))
        plan, reason = choose(
            preset,
            patches=found.patches(64),
            gpu=device != "cpu",
            cores=os.cpu_count() or 1,
            tuning=tuning,
            given=given,
        )
    if not found.train and plan.phantoms + plan.textures == 0:
        plan = replace(plan, phantoms=0.7, textures=0.3)  # nothing else is there to learn from
    return plan, reason


def _facts(
    plan: Settings, found: Collection, patches: Patches, origin: Path | None
) -> tuple[NetworkConfig, dict[str, Any]]:
    """Return the network's configuration and what the prior folder will say of the data."""
    facts: dict[str, Any] = statistics(patches)
    facts["pixel_size"] = found.pixel_size
    facts["training"] = {
        **describe(found),
        "mixture": asdict(patches.mixture),
        "torch": str(torch.__version__),
    }
    if origin is None:
        return NetworkConfig(
            channels=plan.channels, sigma_data=facts["sigma_data"], mean_data=facts["mean_data"]
        ), facts
    earlier = prior_info(origin)
    facts["training"]["start"] = {"hash": prior_hash(origin), "training": earlier.training}
    facts["start_folder"] = str(origin.absolute())
    return earlier.network, facts
