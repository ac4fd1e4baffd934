"""What guided-diffusion's own U-Net answers: shapes and outputs in ``data/guided.npz``.

    python tests/guided_reference.py

writes the file anew from azula's copy of the original code (``pip install azula``). Weights are not
stored: they follow from their shapes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "data" / "guided.npz"
TIMES = (0, 250, 999)
#: Arguments of guided-diffusion's UNetModel: as the DPS paper's networks, and all else at once.
CASES = {
    "paper": {
        "num_res_blocks": 1,
        "attention_resolutions": [2],
        "channel_mult": [1, 2],
        "num_head_channels": 16,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "use_new_attention_order": False,
    },
    "other": {
        "num_res_blocks": 2,
        "attention_resolutions": [1, 2],
        "channel_mult": [1, 1],
        "num_head_channels": 32,
        "use_scale_shift_norm": False,
        "resblock_updown": False,
        "use_new_attention_order": True,
    },
}


def weights(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Return weights of these shapes, always the same, such that signals keep their size."""
    rng = np.random.default_rng(0)
    out = {}
    for name in sorted(shapes):
        shape = tuple(shapes[name])
        values = rng.standard_normal(shape)
        out[name] = (values / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)
    return out


def images() -> np.ndarray:
    """Return the noisy images that the network is shown, in its own (VP) coordinates."""
    return np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype(np.float32)


def main() -> None:
    """Write the file."""
    import torch
    from azula.plugins.adm._src.unet import UNetModel

    stored = {}
    for case, arguments in CASES.items():
        network = UNetModel(
            image_size=16, in_channels=3, model_channels=32, out_channels=6, **arguments
        ).eval()
        shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
        given = {name: torch.from_numpy(value) for name, value in weights(shapes).items()}
        network.load_state_dict(given)
        x = torch.from_numpy(images())
        with torch.no_grad():
            answers = [network(x, torch.full((2,), t)).numpy() for t in TIMES]
        stored[f"{case}/outputs"] = np.stack(answers)
        stored[f"{case}/shapes"] = np.array(json.dumps(shapes))
    np.savez_compressed(FILE, **stored)


if __name__ == "__main__":
    main()
