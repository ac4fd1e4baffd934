"""The default: chooses a sampler from the problem and says which."""

from typing import ClassVar, Literal

from napari_dps.components import SamplerChoice, make


class Auto(SamplerChoice):
    """Choose by the problem: moment matching where the forward model is affine, else PnP-DM."""

    kind: Literal["auto"] = "auto"
    title: ClassVar[str] = "Automatic"

    def choose(self, *, affine: bool) -> SamplerChoice:
        """Return the sampler for a problem."""
        chosen = make("sampler", "mmps" if affine else "pnp-dm")
        assert isinstance(chosen, SamplerChoice)
        return chosen
