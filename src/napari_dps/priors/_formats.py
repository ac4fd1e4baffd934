"""The formats that a prior may come in: found, described and hashed without loading a weight."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import PriorError
from . import _diffusers, _folder
from ._card import Card, GuidedCard, hash_files, read_card
from ._diffusers import EDMConfig, Layout, configurations, find_layout, is_diffusers, unet_config
from ._guided import SUFFIXES, guided_config
from ._schedule import guided_abar, sigma_range, vp_abar
from ._weights import read_shapes

Format = Literal["napari-dps", "diffusers", "guided-diffusion"]


@dataclass(frozen=True)
class Found:
    """A prior on disk.

    Attributes
    ----------
    format : str
        Whose layout it has.
    path : Path
        Its folder or file.
    files : list of Path
        What makes it what it is: the hash goes over these.
    extras : list of Path
        What else belongs to it: model cards.
    """

    format: Format
    path: Path
    files: list[Path]
    extras: list[Path]


@dataclass(frozen=True)
class Facts:
    """What a prior says about itself.

    Attributes
    ----------
    name, format, path : str
        What it is called, whose layout it has, where it lies.
    hash : str
        16 hex digits over configuration and weights.
    channels : int
        Of its images: 1 gray, 3 colour.
    sigma_min, sigma_max : float
        Trained noise levels, prior units ([-1, 1]).
    data_std : float
        Standard deviation of clean images, prior units.
    pixel_size : float or None
        Micrometres per pixel of the training images, where they share one.
    trained_side : int or None
        Side of the training images where the network depends on it.
    learned_variance : bool
        Whether the network says how much noise a step should add.
    predicts : str
        What the network puts out: epsilon, v_prediction, sample, or EDM's residual.
    licence : str
        Licence of the weights, "" where it is not stated.
    bytes : int
        Size on disk.
    training : dict
        What is known of its training.
    """

    name: str
    format: Format
    path: str
    hash: str
    channels: int
    sigma_min: float
    sigma_max: float
    data_std: float
    pixel_size: float | None
    trained_side: int | None
    learned_variance: bool
    predicts: str
    licence: str
    bytes: int
    training: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """Return what a report keeps."""
        names = ("name", "format", "hash", "licence", "pixel_size", "sigma_min", "sigma_max")
        return {name: getattr(self, name) for name in names}


def find(path: str | Path) -> Found:
    """Return which prior lies at a path.

    Raises
    ------
    PriorError
        If there is nothing, or nothing of a known format.
    """
    path = Path(path)
    if path.is_dir() and is_diffusers(path):
        layout = find_layout(path)
        names = ("model_index.json", "README.md")
        return Found("diffusers", path, layout.files, _there(path / n for n in names))
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return Found("guided-diffusion", path, [path, *_there([_card_of(path)])], [])
    if path.is_file():
        raise PriorError(
            f"Prior {str(path)!r} is a file of no known format: name a guided-diffusion file "
            f"({', '.join(SUFFIXES)}), a diffusers folder, or a folder that training wrote."
        )
    _folder.prior_info(path)
    files = [path / _folder.CONFIG, path / _folder.WEIGHTS]
    return Found("napari-dps", path, files, _there([path / _folder.CARD]))


def _there(paths: Any) -> list[Path]:
    return [path for path in paths if path.is_file()]


def _card_of(path: Path) -> Path:
    return path.with_suffix(".json")


def guided_card(path: Path) -> GuidedCard:
    """Return what the JSON file beside a guided-diffusion file says."""
    return read_card(GuidedCard, _card_of(path))


def diffusers_card(layout: Layout) -> Card:
    """Return what the user's JSON file in a diffusers folder says."""
    return read_card(Card, layout.folder / _diffusers.CARD)


def channels_of(found: Found) -> int:
    """Return how many channels the prior's images have; the hash is not computed."""
    if found.format == "diffusers":
        return unet_config(find_layout(found.path).unet).in_channels
    if found.format == "guided-diffusion":
        return guided_config(
            read_shapes(found.path), found.path, guided_card(found.path)
        ).in_channels
    return 1


def describe(found: Found) -> Facts:
    """Return what a prior says about itself.

    Raises
    ------
    PriorError
        If its configuration is wrong or of a kind that cannot be a prior.
    """
    size = sum(path.stat().st_size for path in found.files)
    if found.format == "napari-dps":
        return _describe_own(found, size)
    card: Card
    if found.format == "diffusers":
        layout = find_layout(found.path)
        unet, schedule = configurations(layout.unet, layout.scheduler)
        card = diffusers_card(layout)
        licence = card.licence or _diffusers.licence_of(found.path)
    else:
        card = guided_card(found.path)
        unet = guided_config(read_shapes(found.path), found.path, card)
        schedule, licence = None, card.licence
    if isinstance(schedule, EDMConfig):
        low, high, predicts = schedule.sigma_min, schedule.sigma_max, "EDM"
    elif schedule is None:
        assert isinstance(card, GuidedCard)
        low, high = sigma_range(guided_abar(card))
        predicts = "epsilon"
    else:
        low, high = sigma_range(vp_abar(schedule))
        predicts = schedule.prediction_type
    return Facts(
        name=card.name or found.path.stem,
        format=found.format,
        path=str(found.path),
        hash=hash_files(found.files),
        channels=unet.in_channels,
        sigma_min=low,
        sigma_max=high,
        data_std=card.data_std,
        pixel_size=card.pixel_size,
        trained_side=unet.side if unet.attention else None,
        learned_variance=unet.out_channels == 2 * unet.in_channels,
        predicts=predicts,
        licence=licence,
        bytes=size,
        training=card.training,
    )


def _describe_own(found: Found, size: int) -> Facts:
    info = _folder.prior_info(found.path)
    return Facts(
        name=info.name,
        format="napari-dps",
        path=str(found.path),
        hash=_folder.prior_hash(found.path),
        channels=1,
        sigma_min=info.sigma_min,
        sigma_max=info.sigma_max,
        data_std=info.data_std,
        pixel_size=info.pixel_size,
        trained_side=None,
        learned_variance=False,
        predicts="EDM",
        licence=info.licence,
        bytes=size,
        training=info.training,
    )
