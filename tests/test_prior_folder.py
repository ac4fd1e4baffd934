"""Prior folders: round trip, refusals, and no torch for reading a config."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_dps.errors import PriorError
from napari_dps.priors._folder import (
    NetworkConfig,
    PriorInfo,
    Spectrum,
    load_prior,
    prior_hash,
    prior_info,
    save_prior,
)
from napari_dps.priors._network import DenoiserNetwork, NetworkPrior

SHIPPED = Path(__file__).parent.parent / "src/napari_dps/priors/weights/fluorescence"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = DenoiserNetwork((8, 8), groups=4, sigma_data=0.4, mean_data=-0.5)
    info = PriorInfo(
        name="tiny",
        network=NetworkConfig(),
        data_std=0.3,
        spectrum=Spectrum(std=0.4, correlation_length=3.0, exponent=1.5),
        licence="CC0",
        training={"steps": 0},
    )
    return save_prior(tmp_path / "tiny", network, info)


def test_round_trip(folder: Path) -> None:
    info = prior_info(folder)
    assert info.network.channels == (8, 8)
    assert info.spectrum is not None
    assert info.spectrum.exponent == 1.5
    prior = load_prior(folder)
    assert isinstance(prior, NetworkPrior)
    assert prior.data_std == 0.3
    assert prior.network.mean_data == -0.5
    x = torch.randn(1, 1, 16, 16)
    torch.manual_seed(0)
    original = DenoiserNetwork((8, 8), groups=4, sigma_data=0.4, mean_data=-0.5)
    expected = NetworkPrior(original)(x, 0.5)
    assert torch.allclose(prior(x, 0.5), expected, atol=2e-3)  # fp16 on disk
    assert load_prior(folder, dtype=torch.float64)(x.double(), 0.5).dtype == torch.float64
    card = (folder / "README.md").read_text()
    assert "tiny" in card
    assert "CC0" in card


def test_hash_follows_the_content(folder: Path) -> None:
    before = prior_hash(folder)
    assert len(before) == 16
    assert prior_hash(folder) == before
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"tiny"', '"other"'))
    assert prior_hash(folder) != before


def test_saving_again_replaces_and_leaves_no_litter(folder: Path) -> None:
    network = DenoiserNetwork((8,), groups=4)
    save_prior(folder, network, prior_info(folder))
    assert prior_info(folder).network.channels == (8,)
    assert [p.name for p in folder.parent.iterdir()] == ["tiny"]


def test_saving_over_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    info = prior_info(folder)
    other = tmp_path / "photos"
    other.mkdir()
    (other / "a.png").touch()
    network = DenoiserNetwork((8,), groups=4)
    with pytest.raises(PriorError, match="neither empty nor a prior"):
        save_prior(other, network, info)
    with pytest.raises(PriorError, match="is a file"):
        save_prior(other / "a.png", network, info)
    assert [p.name for p in other.iterdir()] == ["a.png"]


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": 2}, "format 2, this version reads 1"),
        ({"format": None}, "format None"),
        ({"sigma_max": -1}, "sigma_max"),
        ({"network": {"channels": [1000000]}}, "network.channels"),
        ({"network": {"channels": [12], "groups": 8}}, "must divide"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_bad_config_is_refused(folder: Path, changes: dict[str, object], match: str) -> None:
    _edit(folder, **changes)
    with pytest.raises(PriorError, match=match) as caught:
        load_prior(folder)
    assert "\n" not in str(caught.value)


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PriorError, match="does not exist"):
        load_prior(tmp_path / "nowhere")
    with pytest.raises(PriorError, match="is a file"):
        load_prior(folder / "config.json")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text("{")
    with pytest.raises(PriorError, match="cannot be read"):
        load_prior(folder)
    (folder / "config.json").unlink()
    with pytest.raises(PriorError, match=r"has no config\.json"):
        load_prior(folder)
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").unlink()
    with pytest.raises(PriorError, match=r"has no model\.safetensors"):
        load_prior(folder)


@pytest.mark.parametrize(
    "name", ["model.pt", "weights.pth", "pytorch_model.bin", "a.ckpt", "b.pkl"]
)
def test_a_pickle_is_never_opened(folder: Path, name: str, tmp_path: Path) -> None:
    trap = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, (f"open({str(trap)!r}, 'w')",))

    (folder / "model.safetensors").unlink()
    torch.save(Trap(), folder / name)
    with pytest.raises(PriorError, match="unpickled"):
        load_prior(folder)
    # A pickle under the right name is refused by the safetensors parser, unopened as well.
    (folder / name).rename(folder / "model.safetensors")
    with pytest.raises(PriorError, match="damaged"):
        load_prior(folder)
    assert not trap.exists()


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    _edit(folder, network={"channels": [8, 16], "groups": 4})
    with pytest.raises(PriorError, match="do not fit"):
        load_prior(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    prior = load_prior(folder)
    with torch.no_grad():
        next(prior.network.parameters()).fill_(float("nan"))
    save_prior(folder, prior.network, prior_info(folder))
    with pytest.raises(PriorError, match="finite"):
        load_prior(folder)


def test_reading_a_config_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys; from napari_dps.priors._folder import prior_info, prior_hash;"
        f"prior_info({str(folder)!r}); prior_hash({str(folder)!r});"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_shipped_prior_is_small_and_usable() -> None:
    info = prior_info(SHIPPED)
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) <= 12 * 2**20
    assert (info.sigma_min, info.sigma_max) == (0.002, 160.0)
    assert info.licence
    prior = load_prior(SHIPPED)
    yy, xx = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = ((yy - 30) ** 2 + (xx - 34) ** 2 < 144).float()
    truth = 1.4 * torch.nn.functional.avg_pool2d(disc[None, None], 5, 1, 2) - 0.95
    unit = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    for sigma in (0.25, 0.5):
        error = (prior(truth + sigma * unit, sigma) - truth).square().mean().sqrt()
        assert error < 0.3 * sigma
