"""Photon counting: the noise of an ideal detector."""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from napari_dps.components import NoiseModel
from napari_dps.errors import InputError
from napari_dps.grid import Grid
from napari_dps.noise._limits import GAIN
from napari_dps.noise._warnings import count_warnings


class Poisson(NoiseModel):
    """Poisson noise: the detector counts photoelectrons and adds nothing of its own.

    The likelihood is exact. Values below the offset, which no count can give, count as zero.
    """

    title: ClassVar[str] = "Poisson (counts)"
    kind: Literal["poisson"] = "poisson"
    gain: float = Field(
        1.0,
        ge=GAIN[0],
        le=GAIN[1],
        allow_inf_nan=False,
        json_schema_extra={"unit": "ADU/electron"},
    )
    """Grey values per photoelectron; 1 if the image holds counts."""
    offset: float = Field(0.0, allow_inf_nan=False, json_schema_extra={"unit": "ADU"})
    """Grey value without any light."""

    def camera(self) -> tuple[float, float]:
        """Return (gain in ADU per electron, offset in ADU)."""
        return self.gain, self.offset

    def bind(self, grid: Grid) -> Any:
        """Return the exact Poisson likelihood of photoelectrons."""
        from napari_dps.noise._counts import CountsLikelihood

        return CountsLikelihood()

    def resolve(self, image: Any, report: dict[str, Any]) -> NoiseModel:
        """Return itself: nothing is estimated."""
        report.update(gain=self.gain, offset=self.offset, read_noise=0.0)
        return self

    def check(self, image: Any) -> list[str]:
        """Refuse what cannot be counts; warn of what probably is none.

        Raises
        ------
        InputError
            If there are negative values at offset 0, or if the median lies below the offset.
        """
        values = np.asarray(image)
        finite = values[np.isfinite(values)]
        below = int((finite < self.offset).sum())
        if below and self.offset == 0:
            raise InputError(
                f"{below} pixels are negative, which Poisson counts cannot be; use the noise "
                "'poisson-gaussian', or give the camera's offset"
            )
        share = below / max(finite.size, 1)
        if share > 0.5:
            raise InputError(
                f"{share:.0%} of the pixels lie below the offset {self.offset:g}, so it is no "
                "level without light; give a smaller offset, or use the noise 'poisson-gaussian'"
            )
        warnings = count_warnings(values, self.gain)
        if share > 0.01:
            warnings.append(
                f"{share:.1%} of the pixels lie below the offset {self.offset:g} and count as "
                "zero; a camera with read noise is better described by 'poisson-gaussian'"
            )
        return warnings
