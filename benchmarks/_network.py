"""The shipped prior for benchmarks that time it: as runs use it, or as diffusers made it."""

from __future__ import annotations

from typing import Any


def load_network(device: str = "cpu", *, as_made: bool = False) -> Any:
    """Return the shipped prior in float32, laid out as in every run.

    Parameters
    ----------
    device : str
        Where it computes.
    as_made : bool
        Its U-Net as diffusers made it, which keeps more of a pass than ours.
    """
    import torch  # late: deepinv has to come before diffusers

    from napari_dps.priors import _frozen
    from napari_dps.priors._folder import load_prior
    from napari_dps.priors.fluorescence import FOLDER

    prior: Any = load_prior(FOLDER, device, torch.float32)
    prior.set_precision("float32")  # lays weights out with channels last
    if as_made:
        for module in prior.network.unet.modules():
            if type(module).__module__ == _frozen.__name__:
                module.__class__ = type(module).__base__
    return prior
