"""The default: chooses a sampler from the problem and says which."""

from typing import ClassVar, Literal

from napari_dps.components import SamplerChoice, make


class Auto(SamplerChoice):
    """Choose by the forward model: `mmps` where it is affine, PnP-DM for phases, else `daps`."""

    kind: Literal["auto"] = "auto"
    title: ClassVar[str] = "Automatic"

    def choose(self, *, affine: bool, symmetric: bool = False) -> SamplerChoice:
        """Return the sampler for a problem."""
        chosen = make("sampler", "mmps" if affine else "pnp-dm" if symmetric else "daps")
        assert isinstance(chosen, SamplerChoice)
        return chosen
