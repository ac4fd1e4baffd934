"""Importing deepinv, which the benchmarks that compare with it need."""

from __future__ import annotations

import warnings
from typing import Any


def load_deepinv() -> Any:
    """Import deepinv, also beside a torchvision that was made for another build of PyTorch.

    deepinv imports torchvision, which registers operators (non-maximum suppression and such) that
    only exist with its own build. Nothing here uses them.
    """
    import torch

    original = torch.library.register_fake
    torch.library.register_fake = lambda *_, **__: lambda function: function  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torchvision  # noqa: F401
    finally:
        torch.library.register_fake = original
    import deepinv

    return deepinv
