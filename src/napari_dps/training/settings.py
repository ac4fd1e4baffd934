"""How to train: the settings of a run, and presets that choose them by data and machine."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..priors._folder import NetworkConfig


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
    channels : tuple of int
        Widths of a new network's levels, finest first.
    batch, size, piece : int
        Patches a step, their side in pixels (a multiple of what the network needs: 16 for four
        levels, twice as much for each more), and patches a CPU's thread takes at a time at most.
    rate, warmup, decay : float
        Peak learning rate of AdamW, steps of linear rise, weight decay.
    clip : float
        Largest norm of the gradient.
    ema : float
        Largest decay of the running mean of the weights that is saved.
    sigma_min, sigma_max, uniform : float
        Trained range, and share of the draws uniform in ln sigma over all of it; the others are
        ln sigma ~ N(-0.8, 1.4).
    phantoms, textures : float
        Shares of the patches that are procedural fluorescence, and dead leaves or power-law
        textures; the rest are real.
    held_out : float
        Share of the files that is kept apart, to judge by.
    save, export, look : float
        Active minutes between checkpoints, between prior folders written from them, and between
        sheets of samples with scores on held-out images (fewer where they would cost more than
        5 % of the time).
    judged : int
        Held-out images that the model card's table rests on; 0 leaves the judgement out.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    precision : str
        Of the convolutions: ``"float32"``, ``"bfloat16"``, ``"float16"`` (GPU only) or ``"auto"``.
    compile : str
        ``"on"``, ``"off"`` or ``"auto"``: on CUDA, in runs long enough to gain by it.
    threads : int
        On a CPU; 0 means one for each core.
    workers : int
        Processes that prepare patches; 0 prepares them in this one, -1 takes as many as keep the
        network busy.
    seed : int
        Of weights, patches and noise.
    """

    minutes: float = 60.0
    steps: int | None = None
    cooldown: float = 0.3
    finish: float = 6.0
    channels: tuple[int, ...] = (32, 64, 128, 128)
    batch: int = 8
    size: int = 64
    piece: int = 4
    rate: float = 5e-4
    warmup: int = 300
    decay: float = 1e-3
    clip: float = 1.0
    ema: float = 0.999
    sigma_min: float = 0.002
    sigma_max: float = 160.0
    uniform: float = 0.22
    phantoms: float = 0.3125
    textures: float = 0.125
    held_out: float = 0.1
    save: float = 1.0
    export: float = 5.0
    look: float = 5.0
    judged: int = 8
    device: str = "auto"
    precision: str = "auto"
    compile: str = "auto"
    threads: int = 0
    workers: int = -1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        InputError
            Naming the value and what is allowed.
        """
        object.__setattr__(self, "channels", _widths(self.channels))
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if value is None and name == "steps":
                continue
            whole = isinstance(getattr(Settings, name), int) or name == "steps"
            kind, what = (Integral, "a whole number") if whole else (Real, "a number")
            usable = isinstance(value, kind) and not isinstance(value, bool)
            if not usable or not low <= float(value) <= high:
                told = f"{value:g}" if isinstance(value, Real) else repr(value)
                raise InputError(
                    f"{name} = {told} is not allowed, give {what} from {low:g} to {high:g}"
                )
            # Plain numbers: a checkpoint holds nothing else.
            object.__setattr__(self, name, int(value) if whole else float(value))
        if not isinstance(self.device, str):
            raise InputError(
                f"device = {self.device!r} is not allowed, give auto, cpu, cuda, cuda:1 or mps"
            )
        for name, words in WORDS.items():
            if getattr(self, name) not in words:
                raise InputError(
                    f"{name} = {getattr(self, name)!r} is not allowed, give {' or '.join(words)}"
                )
        if self.size % 8:
            raise InputError(f"size = {self.size} is not allowed, give a multiple of 8")
        if self.phantoms + self.textures > 1:
            raise InputError(
                f"phantoms and textures are {self.phantoms + self.textures:g} of all patches "
                "together, give 1 at most"
            )


def _widths(channels: Any) -> tuple[int, ...]:
    """Return the widths of a network's levels, checked."""
    try:
        widths = tuple(channels)
    except TypeError:
        widths = ()
    usable = all(
        isinstance(width, Integral) and 8 <= int(width) <= 1024 and int(width) % 8 == 0
        for width in widths
    )
    if not (usable and 1 <= len(widths) <= 7):
        raise InputError(
            f"channels = {channels!r} is not allowed, give 1 to 7 widths that are multiples of 8 "
            "up to 1024, such as (32, 64, 128)"
        )
    return tuple(map(int, widths))


BOUNDS: dict[str, tuple[float, float]] = {
    "minutes": (1e-3, 1e6),
    "steps": (1, 10**9),
    "cooldown": (0, 1),
    "finish": (0, 1e6),
    "decay": (0, 10),
    "sigma_min": (1e-6, 1),
    "sigma_max": (1.001, 1e5),
    "save": (0, 1e6),
    "export": (0, 1e6),
    "look": (0, 1e6),
    "batch": (1, 4096),
    "size": (8, 1024),
    "piece": (1, 4096),
    "rate": (0, 1),
    "warmup": (1, 10**6),
    "clip": (1e-6, 1e6),
    "ema": (0, 1),
    "uniform": (0, 1),
    "phantoms": (0, 1),
    "textures": (0, 1),
    "held_out": (0, 0.5),
    "judged": (0, 10**4),
    "threads": (0, 4096),
    "workers": (-1, 256),
    "seed": (0, 2**63),
}
WORDS = {
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "compile": ("auto", "on", "off"),
}

PRESETS: dict[str, tuple[tuple[int, ...], float, str]] = {
    "small": ((16, 32, 64, 64), 8e-4, "1 million weights"),
    "standard": ((32, 64, 128, 128), 5e-4, "4 million weights"),
    "large": ((64, 128, 256, 256), 3e-4, "16 million weights"),
}
"""Widths, peak learning rate at 8 patches a step, and size in words."""

TUNING = {
    "rate": 3e-4,
    "warmup": 100,
    "cooldown": 0.5,
    "ema": 0.998,
    "phantoms": 0.15,
    "textures": 0.05,
}
"""What differs when training goes on from a prior: it shall learn, and not forget."""

FEW, MANY = 2000.0, 20000.0
"""Patches of 64 x 64 that do not overlap: below the first a small network is enough, from the
second on a large one finds work."""


def settings_from(values: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Return ``base`` with some values replaced.

    Raises
    ------
    InputError
        If a name is unknown or a value not allowed.
    """
    names = [field.name for field in fields(Settings)]
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
            raise InputError(f"Training has no setting {name!r}; {hint}")
    return replace(base or Settings(), **values)


def check_size(size: int, network: NetworkConfig) -> None:
    """Refuse patches that the network cannot take.

    Raises
    ------
    InputError
        With the sizes next to it.
    """
    levels = len(network.channels)
    multiple = network.stem * 2 ** (levels - 1)
    if size % multiple:
        # Settings ask for a multiple of 8 besides.
        step = math.lcm(multiple, 8)
        near = sorted({max(size // step, 1) * step, (size // step + 1) * step})
        raise InputError(
            f"size = {size} does not fit the network, whose {levels} levels need a multiple of "
            f"{multiple}: give {' or '.join(map(str, near))}"
        )


def check_preset(preset: str) -> None:
    """Refuse the name of a preset that there is not.

    Raises
    ------
    InputError
        With the nearest name.
    """
    if preset not in ("auto", *PRESETS):
        close = difflib.get_close_matches(str(preset), PRESETS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(
            f"The preset {preset!r} is unknown; {hint}there are auto, {', '.join(PRESETS)}"
        )


def choose(
    preset: str,
    *,
    patches: float,
    gpu: bool,
    cores: int,
    tuning: bool,
    given: Mapping[str, Any],
) -> tuple[Settings, str]:
    """Return the settings of a new run, and one line that says what was chosen and why.

    Parameters
    ----------
    preset : str
        ``"auto"`` or a name of `PRESETS`.
    patches : float
        Patches of 64 x 64 pixels that the training images hold side by side.
    gpu : bool
        Whether a GPU will train.
    cores : int
        Of the CPU.
    tuning : bool
        Whether the run goes on from a prior, whose network then counts.
    given : mapping
        Settings that the user chose; they win.

    Raises
    ------
    InputError
        If the preset or a setting is unknown, or a value not allowed.
    """
    check_preset(preset)
    asked = settings_from(given)
    # Every core of a CPU wants a piece of each batch.
    values: dict[str, Any] = {"batch": min(max(8, 4 * (asked.threads or cores)), 64)}
    if gpu:
        # A GPU is idle with few patches; wider ones show it more of the surroundings.
        values = {"batch": 64, "size": 96, "warmup": 1000, "ema": 0.9995}
    if tuning:
        values.update(TUNING)
        reason = "fine-tuning: the prior's own network, a low rate, mostly the new images"
    else:
        name, why = (
            (preset, "it was asked for") if preset != "auto" else _auto(patches, gpu, cores, asked)
        )
        channels, rate, size = PRESETS[name]
        values.update(channels=channels, rate=rate)
        reason = f"preset {name} ({size}): {why}"
    if asked.steps is not None:
        usual = values.get("warmup", asked.warmup)
        values["warmup"] = min(usual, max(asked.steps // 10, 1))
    chosen = settings_from({**values, **given})
    if "rate" not in given:
        # Rates are for batches of 8; more patches a step make the gradient less noisy, and the
        # square root of their number is the usual rule.
        scale = math.sqrt(chosen.batch / 8)
        chosen = replace(chosen, rate=min(chosen.rate * scale, 5e-4 if tuning else 2e-3))
    widths = "" if tuning else f"widths {'/'.join(map(str, chosen.channels))}, "
    return chosen, (
        f"{reason}; {widths}{chosen.batch} patches of {chosen.size} x {chosen.size} a step, "
        f"rate {chosen.rate:.2g}"
    )


def _auto(patches: float, gpu: bool, cores: int, asked: Settings) -> tuple[str, str]:
    """Return a preset's name and the reason."""
    data = f"{patches:.0f} patches of 64 x 64 pixels in the images"
    if gpu:
        if patches >= MANY:
            return "large", f"a GPU, and {data}"
        return "standard", f"a GPU, but only {data}"
    if asked.steps is not None:
        work, text = asked.steps / 400.0, f"{asked.steps} steps"
    else:
        threads = asked.threads or cores
        work, text = asked.minutes * threads, f"{asked.minutes:g} minutes on {threads} cores"
    if work < 60:
        return "small", f"{text} are too few for a wider network"
    if patches < FEW:
        return "small", f"only {data}; a wider network would learn them by heart"
    return "standard", f"{text}, and {data}"
