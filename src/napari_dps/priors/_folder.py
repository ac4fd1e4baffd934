"""Prior folders: config.json, model.safetensors and a model card; read, written, refused.

Weights are read from safetensors only. A pickle can run any code when opened, so none is ever
opened here, whatever it is called.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import PriorError
from ._json import first_mistake, read_json, shown
from ._model_card import model_card
from ._weights import difference, read_shapes, read_weights

if TYPE_CHECKING:
    import torch

    from ._network import DenoiserNetwork, NetworkPrior

FORMAT: Literal[1] = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
RUN_PRIOR, RUN_LOG = "prior", "log.jsonl"
"""What the folder of a training run holds: its prior, and its log from the first step on."""
HINT = "give a folder made by 'napari-dps train'."

Width = Annotated[int, Field(ge=4, le=1024)]
Text = Annotated[str, Field(max_length=4000)]


class NetworkConfig(BaseModel):
    """Arguments of the network, bounded so that a hostile config cannot ask for terabytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=7)] = (32, 64, 128, 128)
    layers_per_block: int = Field(1, ge=1, le=4)
    groups: int = Field(8, ge=1, le=64)
    stem: int = Field(2, ge=1, le=8)
    sigma_data: float = Field(0.5, gt=0.0, le=10.0, allow_inf_nan=False)
    mean_data: float = Field(0.0, ge=-10.0, le=10.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _groups_divide(self) -> "NetworkConfig":
        if any(width % self.groups for width in self.channels):
            raise ValueError(f"groups = {self.groups} must divide every one of {self.channels}")
        return self


class Spectrum(BaseModel):
    """Power spectrum of clean images: std^2 (1 + (2 pi L |k|)^2)^-p, k in cycles per pixel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    std: float = Field(gt=0.0, le=10.0, allow_inf_nan=False)
    correlation_length: float = Field(gt=0.0, le=1e4, allow_inf_nan=False)
    exponent: float = Field(gt=0.0, le=20.0, allow_inf_nan=False)


class PriorInfo(BaseModel):
    """What config.json of a prior folder says.

    Attributes
    ----------
    format : int
        Version of the folder's layout.
    name : str
        Name of the prior.
    network : NetworkConfig
        Arguments of :class:`DenoiserNetwork`.
    sigma_min, sigma_max : float
        Trained noise levels, prior units.
    data_std : float
        Standard deviation of clean patches, prior units.
    spectrum : Spectrum or None
        Their power spectrum, for samplers that want a stationary covariance.
    pixel_size : float or None
        Micrometres per pixel of the training images, where they share one.
    licence : str
        Licence of the weights.
    training : dict
        Facts of the training run: steps, active minutes, images, versions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    name: Text = "prior"
    network: NetworkConfig
    sigma_min: float = Field(0.002, gt=0.0, le=1.0, allow_inf_nan=False)
    sigma_max: float = Field(160.0, gt=1.0, le=1e5, allow_inf_nan=False)
    data_std: float = Field(0.5, gt=0.0, le=10.0, allow_inf_nan=False)
    spectrum: Spectrum | None = None
    pixel_size: float | None = Field(None, gt=0.0, allow_inf_nan=False)
    licence: Text = ""
    training: dict[str, Any] = Field(default_factory=dict)


def prior_info(folder: str | Path) -> PriorInfo:
    """Read and check config.json of a prior folder; the weights stay closed.

    Raises
    ------
    PriorError
        If the folder is missing, of another version, damaged, without weights, or holds a pickle
        in their place.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise PriorError(f"Prior {str(folder)!r} {what}: {HINT}")
    if not (folder / WEIGHTS).is_file():
        raise _without_weights(folder)
    return read_info(folder)


def _without_weights(folder: Path) -> PriorError:
    """Return the sentence about a folder without weights: a run's, one with a pickle, another."""
    inner = folder / RUN_PRIOR
    if (inner / CONFIG).is_file():
        return PriorError(
            f"{str(folder)!r} is the folder of a training run, and its prior lies in "
            f"{str(inner)!r}: name that one."
        )
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in PICKLES)
    if RUN_LOG in (p.name for p in folder.iterdir()):
        return PriorError(
            f"{str(folder)!r} is the folder of a training run that has written no prior yet: let "
            f"it go on until {str(inner)!r} is there, and name that one."
        )
    if pickles:
        return PriorError(
            f"Prior folder {str(folder)!r} holds {pickles[0]!r}, which would have to be "
            f"unpickled and could run any code: only {WEIGHTS} is read, so convert the weights "
            "to safetensors first."
        )
    return PriorError(f"Prior folder {str(folder)!r} has no {WEIGHTS}: {HINT}")


def read_info(folder: Path) -> PriorInfo:
    """Read and check config.json of a prior folder, whether its weights are there or not.

    Raises
    ------
    PriorError
        If it is missing, of another version, damaged or out of bounds.
    """
    if not (folder / CONFIG).is_file():
        raise PriorError(f"Prior folder {str(folder)!r} has no {CONFIG}: {HINT}")
    raw = read_json(folder / CONFIG)
    version = raw.get("format")
    if version != FORMAT:
        raise PriorError(
            f"Prior folder {str(folder)!r} has format {shown(version)}, this version reads "
            f"{FORMAT}: update napari-dps or train the prior again."
        )
    try:
        return PriorInfo.model_validate(raw)
    except ValidationError as error:
        where, what = first_mistake(error)
        raise PriorError(
            f"{CONFIG} of prior folder {str(folder)!r} is wrong at {where or 'config'!r} "
            f"({what}): {HINT}"
        ) from None


def prior_hash(folder: str | Path) -> str:
    """Return the first 16 hex digits of SHA-256 over config and weights: a prior's identity."""
    prior_info(folder)
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        digest.update((Path(folder) / name).read_bytes())
    return digest.hexdigest()[:16]


def build_network(config: NetworkConfig) -> "DenoiserNetwork":
    """Return an untrained network as configured."""
    from ._network import DenoiserNetwork

    return DenoiserNetwork(**config.model_dump())


def load_prior(
    folder: str | Path,
    device: "torch.device | str" = "cpu",
    dtype: "torch.dtype | None" = None,
) -> "NetworkPrior":
    """Load a prior folder.

    Parameters
    ----------
    folder : path
        Folder written by :func:`save_prior`.
    device : torch.device or str
        Where the network goes.
    dtype : torch.dtype or None
        Its precision; None means float32.

    Raises
    ------
    PriorError
        As :func:`prior_info`; or if the weights do not fit the configuration.
    """
    import torch

    from ._network import NetworkPrior

    info = prior_info(folder)
    path = Path(folder) / WEIGHTS
    # Without memory first, so that a configuration cannot ask for more than the weights hold.
    with torch.device("meta"):
        network = build_network(info.network)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    differing = difference(expected, read_shapes(path))
    if differing:
        raise PriorError(
            f"Weights of prior folder {str(folder)!r} do not fit its {CONFIG} ({differing}): copy "
            "the folder again or train the prior again."
        )
    state = {name: value.float() for name, value in read_weights(path).items()}
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise PriorError(
            f"Weights of prior folder {str(folder)!r} are not all finite: train the prior again."
        )
    network.load_state_dict(state, assign=True)
    network = network.to(device=device, dtype=dtype or torch.float32)
    spectrum = info.spectrum
    return NetworkPrior(
        network,
        info.sigma_min,
        info.sigma_max,
        data_std=info.data_std,
        pixel_size=info.pixel_size,
        spectrum=None
        if spectrum is None
        else (spectrum.std, spectrum.correlation_length, spectrum.exponent),
    )


def save_prior(
    folder: str | Path, network: "DenoiserNetwork", info: PriorInfo, credits_text: str = ""
) -> Path:
    """Write a prior folder with fp16 weights, replacing an older one in one move.

    Parameters
    ----------
    folder : path
        Where to; an existing prior folder is replaced, any other existing folder is refused.
    network : DenoiserNetwork
        What to save; its arguments override ``info.network``.
    info : PriorInfo
        The rest of config.json.
    credits_text : str
        Markdown for the model card: whose images the prior was trained on.

    Raises
    ------
    PriorError
        If ``folder`` exists and is neither empty nor a prior folder.
    """
    import torch
    from safetensors.torch import save_file

    folder = Path(folder).absolute()
    if folder.exists() and not folder.is_dir():
        raise PriorError(f"{str(folder)!r} is a file: name a folder for the prior.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise PriorError(
            f"{str(folder)!r} is neither empty nor a prior folder: name another place."
        )
    info = info.model_copy(update={"network": NetworkConfig.model_validate(network.config())})
    state = {
        key: value.detach().cpu().to(torch.float16).contiguous()
        for key, value in network.state_dict().items()
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    old = fresh.with_name(fresh.name + "-old")
    try:
        save_file(state, fresh / WEIGHTS, metadata={"format": "pt"})
        text = json.dumps(info.model_dump(mode="json"), indent=2) + "\n"
        (fresh / CONFIG).write_text(text, encoding="utf-8")
        count = sum(value.numel() for value in state.values())
        (fresh / CARD).write_text(model_card(info, count, credits_text), encoding="utf-8")
        for path in fresh.iterdir():
            path.chmod(0o644)
        fresh.chmod(0o755)
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return folder
