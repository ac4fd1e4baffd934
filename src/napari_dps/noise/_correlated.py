"""Noise whose neighbours may be correlated, as in an interpolated image."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from napari_dps.components import NoiseModel


class CorrelatedNoise(NoiseModel):
    """A noise model that counts pixels which share one value of noise as that one value."""

    derived: ClassVar[frozenset[str]] = frozenset({"pixels_per_value"})
    pixels_per_value: Literal["auto"] | Annotated[float, Field(ge=1, le=64)] = Field(
        "auto", json_schema_extra={"unit": "px"}
    )
    """Pixels that share one value of noise, as in an interpolated image; 1 for independent noise.

    If "auto", it is estimated along with the rest, and 1 where nothing else is estimated.
    """

    def redundancy(self) -> float:
        """Return the pixels per value, 1 where they are still "auto"."""
        return 1.0 if self.pixels_per_value == "auto" else self.pixels_per_value


def correlation_report(correlation: list[float]) -> dict[str, Any]:
    """Return what a report says about the noise's correlation with 1, 2, ... pixels further."""
    shared = pixels_per_value(correlation)
    out: dict[str, Any] = {"correlation": correlation, "pixels_per_value": shared}
    if correlation:
        out["warnings"] = [
            f"the noise of neighbouring pixels is correlated ({correlation[0]:.2f}), as in an "
            f"interpolated image; {shared:.1f} pixels count as one measured value"
        ]
    return out


def pixels_per_value(correlation: list[float]) -> float:
    """Return the pixels per independent value: 1 + 2 (rho_1 + rho_2 + ...) along each axis."""
    return float((1 + 2 * sum(correlation)) ** 2)
