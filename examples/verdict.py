"""Hold the gain at twice the truth, and read what the verdict says of it."""

import numpy as np

import napari_dps

rows, columns = np.mgrid[:48, :48]
places = np.random.default_rng(0).uniform(6, 42, (8, 2))
clean = 20 + 200 * sum(np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 12) for r, c in places)
forward = {"kind": "gaussian-blur", "sigma": 1.5}
counts = napari_dps.simulate(clean, (forward, "poisson"), seed=1)

for gain in (1.0, 2.0):
    result = napari_dps.reconstruct(
        counts,
        forward=forward,
        noise={"kind": "poisson", "gain": gain},
        prior={"kind": "gaussian", "mean": -0.6, "std": 0.5, "correlation_length": 3},
        samples=4,
    )
    verdict = result.report["verdict"]
    print(f"gain {gain:g}: {verdict['sentence']}")
    result.save_report(f"verdict-gain-{gain:g}.html")
