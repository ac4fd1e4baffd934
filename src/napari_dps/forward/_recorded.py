"""What a detector recorded of a far field: intensities are counts, their roots are not."""

from napari_dps.components import NoiseModel
from napari_dps.errors import RecipeError


def refuse_counts_of_magnitudes(measured: str, noise: NoiseModel) -> None:
    """Refuse noise of counts where the root of the intensity was recorded.

    Raises
    ------
    RecipeError
        If ``measured`` is ``"magnitude"`` and the noise one of counts.
    """
    if measured == "magnitude" and noise.kind.startswith("poisson"):
        # The root of n counts scatters by 1/2, whatever n (but for the smallest).
        raise RecipeError(
            f"magnitudes are roots of counts, not counts, so the noise {noise.kind!r} cannot be "
            "theirs; give measured 'intensity' with the counts themselves, or the noise "
            "'gaussian', with sigma 0.5 for roots of counts"
        )
