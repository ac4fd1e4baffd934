"""Train a prior from images: one run that can pause, resume, end early and export at any time."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
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
from ..priors._library import resolve
from ..priors.fluorescence import FOLDER as SHIPPED
from .data import Mixture, Patches, statistics
from .history import (
    add,
    check_labels,
    check_resumed,
    check_widths,
    names,
    remember,
    start_labels,
)
from .images import Collection, collect, describe
from .loop import FINISH, Loop, Say, Show
from .settings import Settings, check_preset, check_size, choose, settings_from
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
        there while it trains lets the run cool down and end early.
    preset : str
        ``"small"``, ``"standard"``, ``"large"``, or ``"auto"``, which chooses by the number of
        images and the machine. It sets widths, batch, patch and learning rate.
    minutes, steps : float, int or None
        How long: active minutes (60 where neither is given), or steps.
    start : path, "fluorescence" or None
        Prior to go on from: a folder, a name among the user's priors, or the shipped one; its
        network's widths count. Fewer and gentler steps, and mostly the new images: few are enough.
    resume : bool
        Continue from the checkpoint in ``out`` with its settings, but for those given; its
        network and what it went on from stay.
    weights : mapping of str to float or None
        By path of a folder, or the end of one that no other has: how much more often than usual
        its images are drawn.
    settings : Settings, mapping or None
        Single settings that win over the preset, by the names of
        :class:`~napari_dps.training.settings.Settings`; an instance is taken as it is.
    name, licence, credits_text : str or None
        What the model card says: the prior's name, the weights' licence, whose images were used.
    on_step : callable or None
        Gets every line of the log as a dict.
    on_note : callable or None
        Gets sentences to show: how images were normalised, what was chosen and why.

    Notes
    -----
    Patches are prepared by other processes. Where Python spawns these (Windows, macOS, and
    everywhere from 3.14 on) a script must call this under ``if __name__ == "__main__":``.

    Raises
    ------
    InputError
        If no usable image is found, an image or a setting cannot be used, ``out`` holds another
        run, or there is nothing to resume.
    PriorError
        If ``start`` is no prior folder.
    """
    # Python imports a script anew in each process that it starts by spawning.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise InputError(
            "train() was called while another process imported its script: put the call under "
            '`if __name__ == "__main__":`.'
        )
    out = Path(out)
    rank = int(os.environ.get("RANK", "0"))  # of several processes the first one speaks
    say: Say = on_note if on_note is not None and rank == 0 else lambda text: None
    given = settings if isinstance(settings, Settings) else _given(settings, minutes, steps)
    check_preset(preset)
    origin = None if start is None else prior_folder(start)
    if origin is not None:
        prior_info(origin)  # a mistake is told before images are read
    choose_device(given.device if isinstance(given, Settings) else given.get("device", "auto"))
    if rank == 0:
        _check_folder(out)
    state = _state_of(out, resume)
    if state is not None and preset != "auto":
        raise InputError("A resumed run keeps its preset; leave the preset out.")
    if state is not None:
        check_resumed(state, given, origin)
    elif origin is not None and not isinstance(given, Settings):
        check_widths(given.get("channels"), prior_info(origin).network, "the prior to go on from")
    facts: dict[str, Any] = {} if state is None else state["facts"]
    if origin is not None:
        facts["start_labels"] = start_labels(origin)
    labels = {"name": name, "licence": licence, "credits": credits_text}
    told = {key: value for key, value in labels.items() if value is not None}
    facts["labels"] = {**facts.get("labels", {}), **told}
    check_labels(facts)
    if rank == 0:
        (out / FINISH).unlink(missing_ok=True)  # it meant an earlier run
    listed = [images] if isinstance(images, (str, Path, np.ndarray)) else list(images)
    found = _collect(listed, given, state, weights, say)
    plan, reason = _plan(preset, given, found, state, tuning=origin is not None)
    say(reason)
    if state is not None:
        config = NetworkConfig.model_validate(state["config"])
    elif origin is not None:
        config = prior_info(origin).network
    else:
        config = NetworkConfig(channels=plan.channels)
    check_size(plan.size, config)
    plan = replace(plan, channels=config.channels)  # what the checkpoint says shall be true
    seed = plan.seed + 104_729 * rank + (1_000_003 + state["step"] if state else 0)
    mixture = Mixture(max(1.0 - plan.phantoms - plan.textures, 0.0), plan.phantoms, plan.textures)
    patches = Patches(found.train, plan.batch, plan.size, mixture, seed=plan.seed)
    if state is None:
        facts.update(_facts(found, patches, origin))
        if origin is None:
            measured = {key: facts[key] for key in ("sigma_data", "mean_data")}
            config = NetworkConfig(channels=plan.channels, **measured)
    remember(facts, found)
    if state is not None:
        add(facts, found, mixture)
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
    """Return the folder of a prior: a path, the shipped one, or a name among the user's priors."""
    if str(start) == "fluorescence" and not Path(start).exists():
        return SHIPPED
    return resolve(str(start))


def _check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made or written to, before the work begins."""
    try:
        if out.exists() and not out.is_dir():
            raise InputError(f"{str(out)!r} is a file; name a folder for the run.")
        place = next(path for path in (out, *out.absolute().parents) if path.exists())
        with tempfile.TemporaryDirectory(dir=place):
            pass
    except OSError as error:
        raise InputError(
            f"The folder {str(out)!r} cannot be written ({error.strerror or error}): name another "
            "one for the run."
        ) from None


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
    earlier = None if state is None else names(state["facts"])
    found = collect(images, held_out=share, weights=weights, earlier=earlier)
    if not found.train:
        raise InputError(
            "The run to be resumed held out every image that was named: name some of those that it "
            "learned from, or new ones."
        )
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


def _facts(found: Collection, patches: Patches, origin: Path | None) -> dict[str, Any]:
    """Return what the prior folder of a new run will say of the data."""
    facts: dict[str, Any] = statistics(patches)
    facts["pixel_size"] = found.pixel_size
    facts["training"] = {
        **describe(found),
        "mixture": asdict(patches.mixture),
        "torch": str(torch.__version__),
    }
    if origin is not None:
        before = prior_info(origin).training
        facts["training"]["start"] = {"hash": prior_hash(origin), "training": before}
        facts["start_folder"] = str(origin.absolute())
    return facts
