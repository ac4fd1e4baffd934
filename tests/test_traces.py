"""The sampler of the DPS authors, reproduced on a prior in closed form."""

import json
from pathlib import Path

import numpy as np
import pytest
import traces

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "traces.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[c["file"] for c in CASES])
def test_the_published_sampler_is_reproduced(case):
    stored = np.load(DATA / "traces.npz")
    trace = {k: stored[k] for k in ("spectrum", "prior_mean", "transfer", "mask")}
    trace |= {k: stored[f"{case['file']}/{k}"] for k in ("y", "x_final")}
    assert traces.replay(case, trace)["x_final"] < 1e-6
