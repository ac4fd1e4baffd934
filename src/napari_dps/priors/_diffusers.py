"""Folders of the diffusers library: which files they are, and their configurations, bounded.

Only what a prior needs is read: an unconditional ``UNet2DModel`` in pixel space and the scheduler
it was trained with. A key that is not known here may change what the network computes, so it is
refused; what a scheduler says about sampling is of no concern.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import PriorError
from ._json import checked, read_json, shown

CONFIG, SCHEDULER, CARD = "config.json", "scheduler_config.json", "napari-dps.json"
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)
VP = ("DDPMScheduler", "DDIMScheduler")
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")

Width = Annotated[int, Field(ge=4, le=4096)]
Down = Literal[
    "DownBlock2D",
    "AttnDownBlock2D",
    "ResnetDownsampleBlock2D",
    "SkipDownBlock2D",
    "AttnSkipDownBlock2D",
]
Up = Literal[
    "UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D"
]
Side = Annotated[int, Field(ge=8, le=4096)]
Beta = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class UNetConfig(BaseModel):
    """Arguments of ``UNet2DModel``, bounded; defaults are the library's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_size: Side | tuple[Side, Side] | None = None
    in_channels: Literal[1, 3] = 3
    out_channels: int = Field(3, ge=1, le=6)
    center_input_sample: bool = False
    time_embedding_type: Literal["positional", "learned"] = "positional"
    time_embedding_dim: Width | None = None
    freq_shift: int = Field(0, ge=0, le=1)
    flip_sin_to_cos: bool = True
    down_block_types: Annotated[tuple[Down, ...], Field(min_length=1, max_length=8)] = (
        "DownBlock2D",
        "AttnDownBlock2D",
        "AttnDownBlock2D",
        "AttnDownBlock2D",
    )
    mid_block_type: Literal["UNetMidBlock2D"] | None = "UNetMidBlock2D"
    up_block_types: Annotated[tuple[Up, ...], Field(min_length=1, max_length=8)] = (
        "AttnUpBlock2D",
        "AttnUpBlock2D",
        "AttnUpBlock2D",
        "UpBlock2D",
    )
    block_out_channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (
        224,
        448,
        672,
        896,
    )
    layers_per_block: int = Field(2, ge=1, le=8)
    mid_block_scale_factor: float = Field(1.0, gt=0, le=100)
    downsample_padding: int = Field(1, ge=0, le=1)
    downsample_type: Literal["conv", "resnet"] = "conv"
    upsample_type: Literal["conv", "resnet"] = "conv"
    dropout: float = Field(0.0, ge=0, le=1)
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    attention_head_dim: int | None = Field(8, ge=1, le=4096)
    norm_num_groups: int = Field(32, ge=1, le=256)
    attn_norm_num_groups: int | None = Field(None, ge=1, le=256)
    norm_eps: float = Field(1e-5, gt=0, le=1)
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: bool = True
    class_embed_type: None = None
    num_class_embeds: None = None
    num_train_timesteps: int | None = Field(None, ge=1, le=100_000)

    @model_validator(mode="after")
    def _fits(self) -> UNetConfig:
        levels = len(self.block_out_channels)
        if not levels == len(self.down_block_types) == len(self.up_block_types):
            raise ValueError("block_out_channels and the two lists of blocks differ in length")
        if any(width % self.norm_num_groups for width in self.block_out_channels):
            raise ValueError(f"norm_num_groups = {self.norm_num_groups} must divide every width")
        if self.out_channels not in (self.in_channels, 2 * self.in_channels):
            raise ValueError(f"out_channels = {self.out_channels} fits no denoiser")
        return self

    @property
    def attention(self) -> bool:
        """Whether pixels far apart see each other."""
        blocks = any(name.startswith("Attn") for name in self.down_block_types)
        return blocks or (self.add_attention and self.mid_block_type is not None)

    @property
    def side(self) -> int | None:
        """Side of the training images, where it is stated."""
        size = self.sample_size
        return max(size) if isinstance(size, tuple) else size


class VPConfig(BaseModel):
    """What a DDPM or DDIM scheduler says about training, bounded."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    num_train_timesteps: int = Field(1000, ge=2, le=100_000)
    beta_start: float = Field(1e-4, gt=0, lt=1)
    beta_end: float = Field(0.02, gt=0, lt=1)
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    trained_betas: Annotated[tuple[Beta, ...], Field(min_length=2, max_length=100_000)] | None = (
        None
    )
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    variance_type: str | None = None
    rescale_betas_zero_snr: bool = False

    @property
    def steps(self) -> int:
        """How many noise levels the schedule has."""
        betas = self.trained_betas
        return self.num_train_timesteps if betas is None else len(betas)


class EDMConfig(BaseModel):
    """What an EDM scheduler says about training, bounded."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sigma_min: float = Field(0.002, gt=0, le=10, allow_inf_nan=False)
    sigma_max: float = Field(80.0, gt=0, le=1e5, allow_inf_nan=False)
    sigma_data: float = Field(0.5, gt=0, le=10, allow_inf_nan=False)
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"

    @model_validator(mode="after")
    def _rises(self) -> EDMConfig:
        if not self.sigma_min < self.sigma_max:
            raise ValueError(
                f"sigma_min = {self.sigma_min:g} is not below sigma_max = {self.sigma_max:g}"
            )
        return self


class Layout(BaseModel):
    """Where a diffusers folder keeps its parts."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    folder: Path
    unet: Path
    scheduler: Path
    weights: Path

    @property
    def files(self) -> list[Path]:
        """What makes the prior what it is."""
        card = self.folder / CARD
        return [
            self.unet,
            self.scheduler,
            self.weights,
            *([card] if card.is_file() else []),
        ]


def is_diffusers(folder: Path) -> bool:
    """Whether a folder looks like one of diffusers."""
    if (folder / "model_index.json").is_file() or (folder / "unet" / CONFIG).is_file():
        return True
    config = folder / CONFIG
    return config.is_file() and "_class_name" in read_json(config)


def find_layout(folder: Path) -> Layout:
    """Return where the parts lie: side by side, or in ``unet/`` and ``scheduler/``.

    Raises
    ------
    PriorError
        If one is missing, or the pipeline is none of an unconditional U-Net.
    """
    unet = unet_place(folder)
    weights = [unet / name for name in WEIGHTS if (unet / name).is_file()]
    if not weights:
        raise PriorError(f"The diffusers folder {str(unet)!r} has no {WEIGHTS[0]}; put it there.")
    return Layout(
        folder=folder,
        unet=unet / CONFIG,
        scheduler=scheduler_place(folder),
        weights=weights[0],
    )


def unet_place(folder: Path) -> Path:
    """Return the folder of the U-Net's configuration.

    Raises
    ------
    PriorError
        If there is none, or the pipeline is none of an unconditional U-Net.
    """
    index = folder / "model_index.json"
    if index.is_file():
        model = read_json(index).get("unet")
        if model not in (None, ["diffusers", "UNet2DModel"]):
            name = model[-1] if isinstance(model, list) and model else model
            raise PriorError(
                f"The pipeline in {str(folder)!r} is made of {shown(name)}; only UNet2DModel, the "
                "unconditional U-Net on pixels, can be a prior."
            )
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    if not (unet / CONFIG).is_file():
        raise PriorError(f"The diffusers folder {str(folder)!r} has no {CONFIG} of a U-Net.")
    return unet


def scheduler_place(folder: Path) -> Path:
    """Return the scheduler's configuration.

    Raises
    ------
    PriorError
        If there is none.
    """
    places = (folder / "scheduler", folder, folder / "unet")
    found = next((place / SCHEDULER for place in places if (place / SCHEDULER).is_file()), None)
    if found is None:
        raise PriorError(
            f"The diffusers folder {str(folder)!r} has no {SCHEDULER}, so the noise levels it was "
            "trained with are unknown; put the scheduler's configuration there."
        )
    return found


def _public(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if not key.startswith("_")}


def unet_config(path: Path) -> UNetConfig:
    """Read and check the configuration of a U-Net.

    Raises
    ------
    PriorError
        If it is another network, or out of bounds.
    """
    raw = read_json(path)
    name = raw.get("_class_name", "UNet2DModel")
    if name != "UNet2DModel":
        raise PriorError(f"{str(path)!r} describes a {name!r}; only UNet2DModel can be a prior.")
    for key in ("class_embed_type", "num_class_embeds"):
        if raw.get(key) is not None:
            raise PriorError(
                f"{str(path)!r} describes a network that wants a class with every image ({key}); "
                "only unconditional ones can be a prior."
            )
    return checked(UNetConfig, _public(raw), path)


def scheduler_config(path: Path) -> VPConfig | EDMConfig:
    """Read and check the configuration of a scheduler.

    Raises
    ------
    PriorError
        If it is another scheduler, or out of bounds.
    """
    raw = read_json(path)
    name = raw.get("_class_name")
    if name in VP:
        return checked(VPConfig, _public(raw), path)
    if name in EDM:
        return checked(EDMConfig, _public(raw), path)
    raise PriorError(
        f"{str(path)!r} describes a {name!r}; schedulers that are understood: "
        f"{', '.join((*VP, *EDM))}."
    )


def configurations(unet: Path, scheduler: Path) -> tuple[UNetConfig, VPConfig | EDMConfig]:
    """Read and check both configurations, and whether they go together.

    Raises
    ------
    PriorError
        As :func:`unet_config` and :func:`scheduler_config`; or if the network cannot be told the
        scheduler's noise levels.
    """
    config, schedule = unet_config(unet), scheduler_config(scheduler)
    if config.time_embedding_type == "learned":
        table = config.num_train_timesteps or 0
        if isinstance(schedule, EDMConfig):
            raise PriorError(
                f"{str(unet)!r}: a learned table of timesteps does not go with an EDM scheduler, "
                "whose times are no whole numbers; put the scheduler of its training there."
            )
        if table < schedule.steps:
            raise PriorError(
                f"{str(unet)!r}: the learned table of {table} timesteps (num_train_timesteps) is "
                f"too short for the {schedule.steps} steps of the scheduler; put the scheduler of "
                "its training there."
            )
    return config, schedule


def licence_of(folder: Path) -> str:
    """Return the licence that the front matter of a folder's README.md names, else ""."""
    readme = folder / "README.md"
    if not readme.is_file():
        return ""
    with readme.open(encoding="utf-8", errors="replace") as file:
        head = file.read(4096)
    if not head.startswith("---"):
        return ""
    for line in head.split("---")[1].splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("license", "licence") and value.strip():
            return value.strip().strip("\"'")
    return ""
