"""The prior of a run: bound to what it takes as one image, and wrapped for whole objects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_dps.memory import OVERLAP
from napari_dps.pixels import pixel_size_warnings

if TYPE_CHECKING:
    from napari_dps.run import Run

__all__ = ["bind_prior", "whole_prior"]


def bind_prior(run: Run, operator: Any) -> None:
    """Bind a run's prior to what it takes as one image: a plane, unless it knows volumes."""
    import torch

    from napari_dps.core.parallel import ParallelPrior
    from napari_dps.core.prior import NoPrior

    if run.recipe.sampler.classical:
        run._planes, run._prior, run._prior_facts = False, NoPrior(), {}
        return
    source, shape = run.recipe.prior, operator.x_shape[1:]
    pixel = run.recipe.forward.object_pixel_size(run._grid)
    run._planes = len(shape) == 3 and not source.volumetric
    grid = run._grid.with_shape(shape[-2:] if run._planes else shape)
    prior = source.bind(replace(grid, pixel_size=pixel and pixel[-len(grid.shape) :]))
    run.recipe = run.recipe.with_parts(prior=source.settled(prior))
    run._prior_facts = source.identity()
    run.warnings += pixel_size_warnings(prior.pixel_size, pixel and pixel[-2:], run._prior_facts)
    if run.device == "cpu" and source.kind != "gaussian":
        prior = ParallelPrior(prior, max(1, torch.get_num_threads()))
    run._prior = prior


def whole_prior(run: Run) -> Any:
    """Return the prior of whole objects: in tiles, plane by plane and by channel as need be."""
    from napari_dps.core.slicewise import ChannelwisePrior, SlicewisePrior
    from napari_dps.core.tiling import TiledPrior

    assert run._layout is not None
    prior: Any = run._prior
    if run._layout.tile is not None:
        overlap = min(OVERLAP, run._layout.tile // 4)
        prior = TiledPrior(prior, run._layout.tile, overlap, run.recipe.seed)
    if run._planes:
        prior = SlicewisePrior(prior, run._layout.planes)
    if len(run._datum.object_axes) > 2 and run._datum.object_axes[0] == "C":
        prior = prior if run._colour else ChannelwisePrior(prior)
    return prior
