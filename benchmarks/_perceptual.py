"""FID and LPIPS, where the user has their packages and their weights."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import skimage.io
import torch
from _common import Array
from numpy.typing import NDArray
from torch import Tensor


def save_picture(image: Array, peak: float, path: Path) -> None:
    """Write an image, (C, Y, X) where it has colours, as an 8-bit picture; ``peak`` is white."""
    values = np.clip(image / peak, 0, 1) * 255
    values = values.transpose(1, 2, 0) if values.ndim == 3 else values
    path.parent.mkdir(parents=True, exist_ok=True)
    skimage.io.imsave(path, values.round().astype(np.uint8), check_contrast=False)


def pictures(paths: list[Path]) -> Tensor:
    """Return pictures of one size as (N, 3, Y, X) bytes; gray ones in three equal channels."""
    found = []
    for path in paths:
        values = skimage.io.imread(path)
        values = np.stack([values] * 3, -1) if values.ndim == 2 else values
        found.append(torch.as_tensor(values.transpose(2, 0, 1).copy()))
    return torch.stack(found)


def package(name: str, what: str) -> Any:
    """Import a package that is nobody's dependency."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SystemExit(f"{what} needs the package {name}: install it, or leave {what} out") from (
            error
        )


def frechet(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the squared Frechet distance of two sets of features, as if they were Gaussian.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): Heusel et al., NeurIPS 2017.

    Parameters
    ----------
    first, second : ndarray, shape (N, D)
        Features; two rows each at least.
    """
    means = [x.mean(0) for x in (first, second)]
    # tr (C1 C2)^(1/2) is the nuclear norm of X1 X2^T, X the centred features over root N - 1:
    # exact, and no root of a singular matrix of D x D has to be taken.
    roots = [(x - m) / np.sqrt(len(x) - 1) for x, m in zip((first, second), means, strict=True)]
    mixed = scipy.linalg.svdvals(roots[0] @ roots[1].T).sum()
    own = sum(float((root**2).sum()) for root in roots)
    return float(((means[0] - means[1]) ** 2).sum() + own - 2 * mixed)


def fid(restored: list[Path], truths: list[Path], weights: Path, batch: int = 32) -> float:
    """Return the Frechet inception distance by torch-fidelity's network.

    Parameters
    ----------
    restored, truths : list of Path
        Pictures.
    weights : Path
        Its weights (weights-inception-2015-12-05-6726825d.pth).
    batch : int
        Pictures at once.
    """
    module = package("torch_fidelity.feature_extractor_inceptionv3", "FID")
    network = module.FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=str(weights)
    )

    def features(paths: list[Path]) -> NDArray[np.float64]:
        parts = [network(pictures(paths[k : k + batch]))[0] for k in range(0, len(paths), batch)]
        return torch.cat(parts).double().numpy()

    return frechet(features(restored), features(truths))


def lpips_of(weights: Path) -> Any:
    """Return LPIPS with a VGG-16 of the user's weights: (restored, truth) paths to a distance.

    Parameters
    ----------
    weights : Path
        The backbone as torchvision saves it (vgg16-397923af.pth); lpips brings its own linear
        layers.
    """
    module = package("lpips", "LPIPS")
    network = module.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    for part in (getattr(network.net, f"slice{k}") for k in range(1, 6)):
        own = {name: state[f"features.{name}"] for name in part.state_dict()}
        part.load_state_dict(own)
    network.eval()

    def distance(restored: Path, truth: Path) -> float:
        a, b = (pictures([path]).float() / 127.5 - 1 for path in (restored, truth))
        with torch.no_grad():
            return float(network(a, b))

    return distance
