"""Is light conserved? The total of a frame, measured and expected."""

from __future__ import annotations

from napari_dps.uncertainty.verdict.evidence import Finding

__all__ = ["flux"]

FAR, SHARE = 5.0, 0.02
"""The totals differ: standard deviations of the noise, and share."""
NEAR = 3.0
"""Above so many standard deviations, and the share, it is not clear whether they do."""


def flux(measured: float, expected: float, error: float, unit: str) -> Finding:
    """Return whether the light that the reconstruction sends is what was measured.

    Parameters
    ----------
    measured, expected, error : float
        Sum of the data; of the expectations, mean over the samples; its deviation by noise alone.
    unit : str
        Of all three.
    """
    difference = expected - measured
    share = difference / measured if measured else 0.0
    z = difference / error if error > 0 else 0.0
    alarm = abs(z) > FAR and abs(share) > SHARE
    open_ = abs(z) > NEAR and abs(share) > SHARE and not alarm
    counts = f"{expected:.6g} {unit} expected, {measured:.6g} ± {error:.2g} measured"
    if alarm:
        way = "more" if difference > 0 else "less"
        text = f"The model sends {abs(share):.1%} {way} light than was measured ({counts})."
    elif open_:
        text = (
            f"Not clear: {counts} ({share:+.2%}), {abs(z):.1f} standard deviations of the noise "
            "apart."
        )
    else:
        text = f"Light is conserved: {counts} ({share:+.2%})."
    return Finding(
        name="flux",
        title="Is light conserved?",
        sentence=text,
        numbers={
            "measured": measured,
            "expected": expected,
            "error": error,
            "unit": unit,
            "z": z,
            "share": share,
        },
        alarm=alarm,
        told=not open_,
    )
