"""Files of guided-diffusion (ADM), as the DPS paper used them: read into diffusers' U-Net.

Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021. Their U-Net is
UNet2DModel with residual up- and downsampling and scale-shift normalisation, under other names and
with queries, keys and values in one tensor. Its size is read off the tensors' shapes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..errors import PriorError
from ._card import GuidedCard
from ._diffusers import UNetConfig
from ._weights import Shapes

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
MOST_BLOCKS = 200

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


class Guided:
    """The architecture of a guided-diffusion U-Net, found from the shapes of its tensors.

    Parameters
    ----------
    shapes : dict
        Shape of every tensor.
    path : Path
        The file, for sentences.
    card : GuidedCard
        What shapes cannot tell.

    Raises
    ------
    PriorError
        If the file is of another kind, class-conditional, or of a shape that is not understood.
    """

    def __init__(self, shapes: Shapes, path: Path, card: GuidedCard) -> None:
        self.shapes, self.path, self.card = shapes, path, card
        for name in ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight"):
            if name not in shapes:
                raise PriorError(
                    f"{str(path)!r} holds no guided-diffusion U-Net (it has no {name!r}); a "
                    "prior is such a file, a diffusers folder, or a folder of napari-dps."
                )
        if "label_emb.weight" in shapes:
            raise PriorError(
                f"{str(path)!r} holds a class-conditional network; only unconditional ones can "
                "be a prior."
            )
        count = 1 + max(self._index(name, "output_blocks") for name in shapes)
        if not 1 <= count <= MOST_BLOCKS:
            raise self._odd(f"{count} output blocks")
        self.blocks = self._blocks_per_level(count)
        self.levels = count // (self.blocks + 1)
        if self.levels * (self.blocks + 1) != count:
            raise self._odd(f"{count} output blocks of {self.blocks + 1} a level")
        self.config = self._config()

    @staticmethod
    def _index(name: str, group: str) -> int:
        found = re.match(rf"{group}\.(\d{{1,4}})\.", name)
        return int(found[1]) if found else -1

    def _odd(self, what: str) -> PriorError:
        return PriorError(
            f"{str(self.path)!r} is a U-Net of a kind that is not understood ({what}); convert "
            "it to a diffusers folder."
        )

    def _has(self, *parts: object) -> bool:
        return ".".join(map(str, parts)) in self.shapes

    def _blocks_per_level(self, count: int) -> int:
        """Return residual blocks a level: the first output block that goes up ends a level."""
        for i in range(count):
            for j in (1, 2):
                if self._has("output_blocks", i, j, "in_layers.2.weight") or self._has(
                    "output_blocks", i, j, "conv.weight"
                ):
                    return i
        return count - 1

    def _config(self) -> UNetConfig:
        shapes, per = self.shapes, self.blocks
        try:
            widths = [
                shapes[f"input_blocks.{1 + n * (per + 1)}.0.in_layers.2.weight"][0]
                for n in range(self.levels)
            ]
            scale_shift = (
                shapes["input_blocks.1.0.emb_layers.1.weight"][0]
                == 2 * shapes["input_blocks.1.0.in_layers.2.weight"][0]
            )
            inner = shapes["time_embed.0.weight"][1]
            out, into = shapes["out.2.weight"][0], shapes["input_blocks.0.0.weight"][1]
        except (KeyError, IndexError) as error:
            raise self._odd(f"no {error}") from None
        if inner != widths[0]:
            raise self._odd(f"{inner} channels of time for {widths[0]} of image")
        if not self._has("middle_block.1.qkv.weight"):
            raise self._odd("no attention in the middle")
        seeing = [self._has("input_blocks", 1 + n * (per + 1), 1, "qkv.weight") for n in self._all]
        self.residual = not any(self._has("input_blocks", k, 0, "op.weight") for k in self._downs())
        widest = [w for w, sees in zip(widths, seeing, strict=True) if sees] + widths[-1:]
        if any(w % self.card.num_head_channels for w in widest):
            raise PriorError(
                f"{str(self.path)!r}: heads of {self.card.num_head_channels} channels do not "
                f"divide {widest}; state num_head_channels in {self.path.stem}.json beside it."
            )
        plain = "ResnetDownsampleBlock2D" if self.residual else "DownBlock2D"
        plain_up = "ResnetUpsampleBlock2D" if self.residual else "UpBlock2D"
        way = "resnet" if self.residual else "conv"
        try:
            return UNetConfig.model_validate(
                {
                    "sample_size": self.card.image_size,
                    "in_channels": into,
                    "out_channels": out,
                    "down_block_types": ["AttnDownBlock2D" if s else plain for s in seeing],
                    "up_block_types": ["AttnUpBlock2D" if s else plain_up for s in seeing[::-1]],
                    "block_out_channels": widths,
                    "layers_per_block": per,
                    "downsample_type": way,
                    "upsample_type": way,
                    "attention_head_dim": self.card.num_head_channels,
                    "attn_norm_num_groups": 32,
                    "resnet_time_scale_shift": "scale_shift" if scale_shift else "default",
                }
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise self._odd(
                f"{first['loc'] or ''} {first['msg']}, got {first['input']!r}"
            ) from None

    @property
    def _all(self) -> range:
        return range(self.levels)

    def _downs(self) -> list[int]:
        """Return the input blocks that go down."""
        return [(n + 1) * (self.blocks + 1) for n in range(self.levels - 1)]

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors under diffusers' names.

        Raises
        ------
        PriorError
            If one has no place there.
        """
        places = self._places()
        out: dict[str, Tensor] = {}
        for name, value in state.items():
            module, _, kind = name.rpartition(".")
            if module in ENDS:
                out[f"{ENDS[module]}.{kind}"] = value
                continue
            block = next(
                (b for b in (self._head(module, 3), self._head(module, 2)) if b in places), ""
            )
            if not block:
                raise self._odd(f"{name} has no place")
            place, inner = places[block], module.removeprefix(block).removeprefix(".")
            if inner == "qkv":
                for to, part in zip("qkv", self._split(value), strict=True):
                    out[f"{place}.to_{to}.{kind}"] = part
            elif inner in ("norm", "proj_out"):
                new = "group_norm" if inner == "norm" else "to_out.0"
                # A projection of pixels is stored as a convolution of one.
                out[f"{place}.{new}.{kind}"] = value.squeeze(-1) if value.ndim == 3 else value
            elif inner in RESNET:
                out[f"{place}.{RESNET[inner]}.{kind}"] = value
            elif inner in ("op", "conv"):
                out[f"{place}.conv.{kind}"] = value
            else:
                raise self._odd(f"{name} has no place")
        return out

    @staticmethod
    def _head(module: str, parts: int) -> str:
        return ".".join(module.split(".")[:parts])

    def _split(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """Return queries, keys and values; the old order has them head by head."""
        qkv = qkv.squeeze(-1) if qkv.ndim == 3 else qkv
        if qkv.ndim == 0 or qkv.shape[0] % (3 * self.card.num_head_channels):
            raise self._odd(f"qkv of shape {tuple(qkv.shape)}")
        if self.card.new_attention_order:
            return qkv.chunk(3)
        width = qkv.shape[0] // 3
        heads = width // self.card.num_head_channels
        parts = qkv.reshape(heads, 3, self.card.num_head_channels, *qkv.shape[1:])
        return tuple(parts[:, k].reshape(width, *qkv.shape[1:]) for k in range(3))

    def _places(self) -> dict[str, str]:
        """Return diffusers' name of every block."""
        per, found = self.blocks, {}
        found["middle_block.0"] = "mid_block.resnets.0"
        found["middle_block.1"] = "mid_block.attentions.0"
        found["middle_block.2"] = "mid_block.resnets.1"
        for n in self._all:
            for i in range(per):
                block = f"input_blocks.{1 + n * (per + 1) + i}"
                found[f"{block}.0"] = f"down_blocks.{n}.resnets.{i}"
                found[f"{block}.1"] = f"down_blocks.{n}.attentions.{i}"
            found[f"input_blocks.{(n + 1) * (per + 1)}.0"] = f"down_blocks.{n}.downsamplers.0"
            for i in range(per + 1):
                block = f"output_blocks.{n * (per + 1) + i}"
                found[f"{block}.0"] = f"up_blocks.{n}.resnets.{i}"
                last = 1
                if self._has(block, "1.qkv.weight"):
                    found[f"{block}.1"] = f"up_blocks.{n}.attentions.{i}"
                    last = 2
                found[f"{block}.{last}"] = f"up_blocks.{n}.upsamplers.0"
        return found


def guided_config(shapes: Shapes, path: Path, card: GuidedCard) -> UNetConfig:
    """Return the U-Net that a guided-diffusion file holds."""
    return Guided(shapes, path, card).config
