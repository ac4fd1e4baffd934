"""State of a training run: network, its running mean, optimiser, clock; saved and resumed whole."""

from __future__ import annotations

import copy
import os
import pickle
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..priors._folder import NetworkConfig, build_network, load_prior
from ..priors._weights import DAMAGE
from .engine import make_engine
from .loss import draw_sigma
from .schedule import ActiveClock, Cooldown
from .settings import Settings

CHECKPOINT = "checkpoint.pt"
STATE: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("network", "mean", "optimiser", "cooldown", "config", "settings"), dict),
    **{"facts": dict, "step": int, "seconds": (int, float)},
}
"""What every checkpoint holds."""


class Trainer:
    """A run, step by step.

    Parameters
    ----------
    out : Path
        Its folder.
    settings : Settings
        How to train.
    config : NetworkConfig
        Of the network.
    facts : dict
        What the prior folder will say of the data; kept in the checkpoint.
    """

    def __init__(self, out: Path, settings: Settings, config: NetworkConfig, facts: dict[str, Any]):
        self.out, self.settings, self.config, self.facts = out, settings, config, facts
        torch.manual_seed(settings.seed)
        self.network = build_network(config)
        self.engine, self.how = make_engine(self.network, settings)
        self.device = self.engine.device
        self.mean = copy.deepcopy(self.network).eval().requires_grad_(False)
        # The fused step takes the scaler's verdict on the device, without a wait.
        fused = self.device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.rate,
            betas=(0.9, 0.99),
            weight_decay=settings.decay,
            foreach=not fused,
            fused=fused,
        )
        self.step = 0
        self.clock = ActiveClock()
        self.minutes = 0.0
        self.cooldown = Cooldown(settings.minutes, settings.cooldown, settings.finish)
        self.levels = torch.Generator()
        self.noise = self.levels
        if self.device.type == "cuda":
            self.noise = torch.Generator(self.device)

    def seed(self, seed: int) -> None:
        """Begin the streams of noise levels and noise."""
        self.levels.manual_seed(seed)
        if self.noise is not self.levels:
            self.noise.manual_seed(seed)

    def train_step(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        """Do one step on patches (B, 1, H, W) whose own noise is (B,).

        Returns
        -------
        sigma, losses : Tensor, shape (B,)
            Noise levels and their losses, on the device.
        norm : Tensor
            Of the gradient before it was clipped.
        rate : float
            Learning rate.
        """
        s = self.settings
        sigma = draw_sigma(noise, self.levels, s.sigma_min, s.sigma_max, s.uniform)
        sigma = sigma.to(self.device, non_blocking=True)
        unit = torch.randn(x.shape, generator=self.noise, device=self.noise.device).to(x.device)
        losses = self.engine(x, sigma, unit)
        rise = min(1.0, (self.step + 1) / s.warmup)
        rate = s.rate * rise * self.cooldown.factor(self.progress())
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        norm = self.engine.apply(self.optimiser, s.clip)
        self.step += 1
        keep = min(s.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.mean.parameters()), list(self.network.parameters()), 1.0 - keep
            )
        return sigma, losses, norm, rate

    def tick(self) -> None:
        """End a step; processes that share a run agree on the time every 25 steps."""
        self.clock.tick()
        if self.engine.processes == 1:
            self.minutes = self.clock.minutes
        elif self.step % 25 == 0:
            self.minutes = self.engine.agree(self.clock.minutes)

    def progress(self) -> float:
        """Return active minutes so far, or the equivalent where steps are counted."""
        if self.settings.steps is not None:
            return self.settings.minutes * self.step / self.settings.steps
        return self.minutes

    def save(self) -> None:
        """Write the checkpoint, in one move."""
        state = {
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "engine": self.engine.state(),
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
        for group in self.optimiser.param_groups:  # how this device steps, not the last one's
            fused = self.device.type == "cuda"
            group["foreach"], group["fused"] = not fused, fused
        self.engine.restore(state.get("engine", {}))
        self.step = int(state["step"])
        self.clock.seconds = float(state["seconds"])
        self.minutes = self.clock.minutes
        self.cooldown.restore(state["cooldown"], self.clock.minutes)


def read_checkpoint(out: Path) -> dict[str, Any]:
    """Read a run's checkpoint: tensors and plain values only, nothing is unpickled.

    Raises
    ------
    InputError
        If there is none, it is damaged, or holds something else.
    """
    path = out / CHECKPOINT
    if not path.is_file():
        raise InputError(f"No {CHECKPOINT} in {str(out)!r}: train without --resume first.")
    damaged = InputError(
        f"{str(path)!r} cannot be read: remove it to begin again, or go on from the last prior "
        "with --from."
    )
    if not zipfile.is_zipfile(path):  # what torch writes; a cut-off file is none
        raise damaged
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *DAMAGE) as error:
        raise damaged from error
    whole = isinstance(state, dict) and all(
        isinstance(state.get(name), kind) for name, kind in STATE.items()
    )
    if not whole or not isinstance(state["facts"].get("training"), dict):
        raise InputError(
            f"{str(path)!r} holds no state of a training run: name the folder of a run, or remove "
            "the file to begin again."
        )
    return dict(state)
