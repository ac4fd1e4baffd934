"""A prior from disk or the hub: ours, a diffusers folder, a guided-diffusion file."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from napari_dps.components import PriorSource
from napari_dps.errors import PriorError
from napari_dps.grid import Grid

if TYPE_CHECKING:
    from napari_dps.core.prior import Prior
    from napari_dps.priors._formats import Found

SMALLEST_TILE = 8
"""Networks denoise no smaller image."""


class Checkpoint(PriorSource):
    """A prior of your own or the community's: a folder or file, or the name of an added prior."""

    kind: Literal["checkpoint"] = "checkpoint"
    title: ClassVar[str] = "Trained prior (folder, file or name)"

    path: str = Field("", json_schema_extra={"unit": "folder"})
    """Folder of training or diffusers, guided-diffusion file, name in `priors`, or hub id."""
    download: bool = False
    """Whether an id of the Hugging Face hub may be downloaded."""
    channels: Literal["auto", "gray"] = "auto"
    """Three channels are colours to a prior of colour images; gray: each is an image of its own."""
    resample: bool = False
    """Resample a prior of coarser pixels to the image's, where both pixel sizes are known."""
    tile: Literal["auto"] | Annotated[int, Field(ge=0, le=8192)] = Field(
        "auto", json_schema_extra={"unit": "px"}
    )
    """Side of the tiles for larger images; auto: of its training images if it needs them; 0: no."""

    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the network's inside; bfloat16 is faster on many processors; auto: the faster here."""

    @field_validator("tile")
    @classmethod
    def _tile_is_an_image(cls, tile: int | str) -> int | str:
        if isinstance(tile, int) and 0 < tile < SMALLEST_TILE:
            raise ValueError(
                f"give at least {SMALLEST_TILE} pixels, 0 for no tiles, or auto for the side of "
                "its training images"
            )
        return tile

    def _found(self) -> "Found":
        from napari_dps.priors._formats import find
        from napari_dps.priors._library import resolve

        return find(resolve(self.path, download=self.download))

    def image_channels(self) -> int:
        """Return how many channels of an image the prior takes as one: 1, or 3 for colours."""
        from napari_dps.priors._formats import channels_of

        return channels_of(self._found()) if self.channels == "auto" else 1

    def identity(self) -> dict[str, Any]:
        """Return name, format, hash, licence, pixel size and training range."""
        from napari_dps.priors._formats import describe

        return {**super().identity(), **describe(self._found()).identity()}

    def settled(self, prior: "Prior") -> "Checkpoint":
        """Return the choice with the precision that was found faster."""
        return self.model_copy(update={"precision": prior.precision})

    def bind(self, grid: Grid) -> "Prior":
        """Load the weights."""
        found = self._found()
        import torch

        from napari_dps.core.resampling import ResampledPrior
        from napari_dps.priors._load import load

        prior = load(
            found,
            grid.device,
            getattr(torch, grid.dtype),
            colour=self.channels == "auto",
            tile=None if self.tile == "auto" else self.tile,
        )
        prior.set_precision(self.precision)
        if not self.resample:
            return prior
        if prior.pixel_size is None or grid.pixel_size is None:
            lacking = "the prior" if prior.pixel_size is None else "the image"
            raise PriorError(
                f"resampling needs the pixel sizes of prior and image, and {lacking} states none: "
                "give it, or leave resample out"
            )
        pixel = (grid.pixel_size[0] * grid.pixel_size[1]) ** 0.5
        factor = prior.pixel_size / pixel
        if factor <= 1:
            # Detail between the prior's pixels would have to be averaged over: no formula does.
            return prior
        return ResampledPrior(prior, factor, pixel)
