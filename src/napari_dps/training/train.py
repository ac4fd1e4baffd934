"""Train a prior from images: one run that can pause, resume, end early and export at any time."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import InputError
from ..priors._folder import (
    NetworkConfig,
    PriorInfo,
    Spectrum,
    build_network,
    load_prior,
    prior_hash,
    prior_info,
    save_prior,
)
from .data import Mixture, Patches, load_images, statistics
from .loss import Gradients, by_level, draw_sigma
from .schedule import ActiveClock, Cooldown

CHECKPOINT, LOG, FINISH, PRIOR = "checkpoint.pt", "log.jsonl", "FINISH", "prior"


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes
    ----------
    minutes : float
        Active minutes in all; pauses of the process do not count.
    steps : int or None
        Stop after so many steps instead, with ``minutes`` ignored.
    cooldown : float
        Share of the run, at its end, in which the learning rate falls to zero.
    finish : float
        Minutes of cool-down when a file FINISH appears in the folder.
    batch, size, piece : int
        Patches a step, their side in pixels, and patches a thread takes at a time.
    rate, warmup, decay : float
        Peak learning rate of AdamW, steps of linear rise, weight decay.
    ema : float
        Largest decay of the running mean of the weights that is saved.
    sigma_min, sigma_max, uniform : float
        Trained range, and share of the draws uniform in ln sigma over all of it; the others are
        ln sigma ~ N(-0.8, 1.4).
    save, export : float
        Active minutes between checkpoints, and between prior folders written from them.
    threads : int
        0 means one for each core.
    seed : int
        Of weights, patches and noise.
    """

    minutes: float = 60.0
    steps: int | None = None
    cooldown: float = 0.3
    finish: float = 6.0
    batch: int = 8
    size: int = 64
    piece: int = 4
    rate: float = 5e-4
    warmup: int = 300
    decay: float = 1e-3
    ema: float = 0.999
    sigma_min: float = 0.002
    sigma_max: float = 160.0
    uniform: float = 0.22
    save: float = 1.0
    export: float = 5.0
    threads: int = 0
    seed: int = 0


class Trainer:
    """State of a run: network, its running mean, optimiser, clock; saved and resumed whole."""

    def __init__(self, out: Path, settings: Settings, config: NetworkConfig, facts: dict[str, Any]):
        self.out, self.settings, self.config, self.facts = out, settings, config, facts
        torch.manual_seed(settings.seed)
        self.network = build_network(config)
        self.mean = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.rate,
            betas=(0.9, 0.99),
            weight_decay=settings.decay,
            foreach=True,
        )
        self.step = 0
        self.clock = ActiveClock()
        self.cooldown = Cooldown(settings.minutes, settings.cooldown, settings.finish)
        threads = settings.threads or os.cpu_count() or 1
        self.gradients = Gradients(self.network, threads, settings.piece)
        self.generator = torch.Generator()

    def train_step(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, float, float]:
        """Do one step; return noise levels and losses (B,), gradient norm and learning rate."""
        s = self.settings
        sigma = draw_sigma(noise, self.generator, s.sigma_min, s.sigma_max, s.uniform)
        unit = torch.randn(x.shape, generator=self.generator)
        losses = self.gradients(x, sigma, unit)
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0))
        rate = s.rate * min(1.0, (self.step + 1) / s.warmup) * self.cooldown.factor(self.progress())
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if torch.isfinite(torch.tensor(norm)):
            self.optimiser.step()
        self.step += 1
        keep = min(s.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.mean.parameters()), list(self.network.parameters()), 1.0 - keep
            )
        return sigma, losses, norm, rate

    def progress(self) -> float:
        """Return active minutes so far, or the equivalent where steps are counted."""
        if self.settings.steps is not None:
            return self.settings.minutes * self.step / self.settings.steps
        return self.clock.minutes

    def save(self) -> None:
        """Write the checkpoint, in one move."""
        state = {
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.clock.seconds,
            "cooldown": self.cooldown.state(),
            "config": self.config.model_dump(mode="json"),
            "facts": self.facts,
            "settings": asdict(self.settings),
        }
        partial = self.out / (CHECKPOINT + ".partial")
        torch.save(state, partial)
        os.replace(partial, self.out / CHECKPOINT)

    def begin_from(self, prior: Path) -> None:
        """Take the weights of a prior of the same configuration."""
        state = load_prior(prior).network.state_dict()
        self.network.load_state_dict(state)
        self.mean.load_state_dict(state)

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])
        self.clock.seconds = float(state["seconds"])
        self.cooldown.restore(state["cooldown"], self.clock.minutes)


def read_checkpoint(out: Path) -> dict[str, Any]:
    """Read a run's checkpoint: tensors and plain values only, nothing is unpickled.

    Raises
    ------
    InputError
        If there is none.
    """
    path = out / CHECKPOINT
    if not path.is_file():
        raise InputError(f"No {CHECKPOINT} in {str(out)!r}: train without --resume first.")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def export(
    out: str | Path,
    folder: str | Path,
    name: str = "prior",
    licence: str = "",
    credits_text: str = "",
) -> Path:
    """Write a prior folder from the newest checkpoint of a run (its averaged weights).

    Parameters
    ----------
    out : path
        Folder of the run.
    folder : path
        Prior folder to write; an older prior there is replaced in one move.
    name, licence, credits_text : str
        What the model card says: its name, the weights' licence, whose images were used.
    """
    state = read_checkpoint(Path(out))
    facts = state["facts"]
    config = NetworkConfig.model_validate(state["config"])
    network = build_network(config)
    network.load_state_dict(state["mean"])
    settings = state["settings"]
    training = {
        "steps": state["step"],
        "active_minutes": round(state["seconds"] / 60, 1),
        **{key: settings[key] for key in ("batch", "size", "rate", "ema", "uniform", "seed")},
        **facts["training"],
    }
    info = PriorInfo(
        name=name,
        network=config,
        sigma_min=settings["sigma_min"],
        sigma_max=settings["sigma_max"],
        data_std=facts["data_std"],
        spectrum=Spectrum(**facts["spectrum"]),
        licence=licence,
        training=training,
    )
    return save_prior(folder, network, info, credits_text)


def train(
    images: Sequence[str | Path],
    out: str | Path,
    *,
    settings: Settings | None = None,
    channels: tuple[int, ...] = (32, 64, 128, 128),
    mixture: Mixture | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    workers: int = 1,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train a prior on images and return its folder, ``out``/prior.

    Parameters
    ----------
    images : sequence of path
        Image files or folders; may be empty, then only synthetic images are used.
    out : path
        Folder of the run: checkpoint, log.jsonl, prior. A file named FINISH put there lets the
        run cool down and end early.
    settings : Settings or None
        How long and how; None takes the defaults.
    channels : tuple of int
        Widths of the network's levels.
    mixture : Mixture or None
        Shares of real and synthetic images.
    start : path or None
        Prior folder whose weights the training goes on from; its network's widths count and
        ``channels`` does not.
    resume : bool
        Continue from the checkpoint in ``out``.
    workers : int
        Processes that prepare patches; 0 prepares them in this one.
    on_step : callable or None
        Gets every line of the log as a dict.

    Raises
    ------
    InputError
        If no usable image is found or there is nothing to resume.
    PriorError
        If ``start`` is no prior folder.
    """
    settings = Settings() if settings is None else settings
    earlier = None if start is None else prior_info(start)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    state = read_checkpoint(out) if resume else None
    sources = load_images(images) if images else []
    seed = settings.seed + (1_000_003 + state["step"] if state else 0)
    patches = Patches(sources, settings.batch, settings.size, mixture, seed=seed)
    if state:
        config, facts = NetworkConfig.model_validate(state["config"]), state["facts"]
    else:
        facts = statistics(patches)
        training: dict[str, Any] = {
            "real_images": len(sources),
            "mixture": asdict(patches.mixture),
            "torch": str(torch.__version__),
        }
        config = NetworkConfig(
            channels=channels, sigma_data=facts["sigma_data"], mean_data=facts["mean_data"]
        )
        if start is not None and earlier is not None:
            config = earlier.network
            training["start"] = {"hash": prior_hash(start), "training": earlier.training}
        facts["training"] = training
    trainer = Trainer(out, settings, config, facts)
    if state:
        trainer.resume(state)
    elif start is not None:
        trainer.begin_from(Path(start))
    trainer.generator.manual_seed(seed)
    intra = torch.get_num_threads()
    # One core a piece: the pieces themselves run side by side.
    torch.set_num_threads(1)
    try:
        _loop(trainer, patches, workers, on_step)
    finally:
        torch.set_num_threads(intra)
    trainer.save()
    return export(out, out / PRIOR)


def _loop(
    trainer: Trainer,
    patches: Patches,
    workers: int,
    on_step: Callable[[dict[str, Any]], None] | None,
) -> None:
    s = trainer.settings
    flow = iter(DataLoader(patches, batch_size=None, num_workers=workers))
    saved = exported = trainer.clock.minutes
    levels: list[Tensor] = []
    losses: list[Tensor] = []
    with open(trainer.out / LOG, "a", encoding="utf-8") as log:
        trainer.clock.start()
        while not trainer.cooldown.over(trainer.progress()):
            x, noise = next(flow)
            sigma, loss, norm, rate = trainer.train_step(torch.as_tensor(x), torch.as_tensor(noise))
            trainer.clock.tick()
            levels.append(sigma)
            losses.append(loss)
            if trainer.step % 25 == 0:
                line = {
                    "step": trainer.step,
                    "minutes": round(trainer.clock.minutes, 3),
                    "rate": rate,
                    "norm": norm,
                    "time": time.strftime("%H:%M:%S"),
                    **by_level(torch.cat(levels), torch.cat(losses)),
                }
                levels, losses = [], []
                log.write(json.dumps(line) + "\n")
                log.flush()
                if on_step is not None:
                    on_step(line)
                if (trainer.out / FINISH).exists():
                    trainer.cooldown.finish(trainer.progress())
            if trainer.clock.minutes - saved >= s.save:
                trainer.save()
                saved = trainer.clock.minutes
                if saved - exported >= s.export:
                    export(trainer.out, trainer.out / PRIOR)
                    exported = saved
