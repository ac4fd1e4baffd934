"""The default: chooses a sampler from the problem and says which."""

from typing import ClassVar, Literal

from napari_dps.components import SamplerChoice, make


class Auto(SamplerChoice):
    """Choose by the forward model: `mmps` where it is affine, PnP-DM for phases, else `daps`.

    Of an object known by its number of bright pixels, `daps`: a chain that goes on from the first
    estimate, the only one to use that number, and does not leave it.
    """

    kind: Literal["auto"] = "auto"
    title: ClassVar[str] = "Automatic"

    def choose(
        self, *, affine: bool, symmetric: bool = False, multimodal: bool = False
    ) -> SamplerChoice:
        """Return the sampler for a problem."""
        searched = symmetric and multimodal
        chosen = make("sampler", "mmps" if affine else "pnp-dm" if searched else "daps")
        assert isinstance(chosen, SamplerChoice)
        return chosen
