"""Wheel, sdist and editable install carry the manifest, the samples and the weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "napari_dps"
DATA_FOLDERS = ("sample_data", "priors/weights")
DATA_SUFFIXES = {".json", ".md", ".safetensors"}


def data_files() -> set[str]:
    """Return every data file of the source tree that must travel, relative to ``src``."""
    found = {PACKAGE / "napari.yaml", PACKAGE / "py.typed"}
    found |= {p for p in (PACKAGE / "sample_data").rglob("*") if p.is_file()}
    weights = (PACKAGE / "priors" / "weights").rglob("*")
    found |= {p for p in weights if p.suffix in DATA_SUFFIXES}
    return {path.relative_to(ROOT / "src").as_posix() for path in found}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command; its output is the message if it fails."""
    environment = {**os.environ, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build the sdist and, from it, the wheel, outside the working tree and without a network."""
    tree = tmp_path_factory.mktemp("tree") / "napari-dps"
    out = tmp_path_factory.mktemp("dist")
    ignore = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", tree / "src", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md"):
        shutil.copy2(ROOT / name, tree / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree, cwd=out)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_wheel_is_complete(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as archive:
        names = set(archive.namelist())
    assert data_files() <= names
    sources = {p.relative_to(ROOT / "src").as_posix() for p in PACKAGE.rglob("*.py")}
    assert sources <= names, "a folder without __init__.py is no package"
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"napari_dps"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_sdist_is_complete(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in data_files()} <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= names


def test_samples_are_read_from_the_installed_wheel(built: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "site"
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
        "--no-compile", "--target", target, built["wheel"], cwd=tmp_path,
    )  # fmt: skip
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from importlib.resources import files\n"
        "import napari_dps, tifffile\n"
        "assert napari_dps.__file__.startswith(sys.argv[1]), napari_dps.__file__\n"
        "assert napari_dps.__version__ == sys.argv[2]\n"
        "from npe2 import PluginManifest\n"
        "root = files('napari_dps')\n"
        "PluginManifest.from_file(root / 'napari.yaml')\n"
        "samples = sorted(root.glob('sample_data/**/*.tif'))\n"
        "print(len(samples), *tifffile.imread(samples[0]).shape)\n"
    )
    version = distribution("napari-dps").version
    printed = run(sys.executable, "-c", code, target, version, cwd=tmp_path).split()
    assert int(printed[0]) == len(list(PACKAGE.glob("sample_data/**/*.tif")))
    assert len(printed) >= 3


def test_manifest_is_found_and_valid() -> None:
    manifest = PluginManifest.from_distribution("napari-dps")
    assert manifest.name == "napari-dps"
    titles = {widget.display_name for widget in manifest.contributions.widgets or []}
    assert "Reconstruct (DPS)" in titles
    run(sys.executable, "-m", "npe2", "validate", "napari-dps", cwd=ROOT)


def test_commands_of_the_manifest_can_be_imported() -> None:
    run(sys.executable, "-m", "npe2", "validate", "--imports", "napari-dps", cwd=ROOT)


def test_every_sample_is_in_the_manifest() -> None:
    manifest = PluginManifest.from_distribution("napari-dps")
    keys = {sample.key for sample in manifest.contributions.sample_data or []}
    recipes = {path.stem for path in (PACKAGE / "sample_data").glob("*.json")}
    assert keys == recipes
    for key in keys:
        assert (PACKAGE / "sample_data" / f"{key}.tif").is_file()
        assert (PACKAGE / "sample_data" / f"{key}_truth.tif").is_file()


def test_entry_points() -> None:
    (script,) = entry_points(group="console_scripts", name="napari-dps")
    assert script.value == "napari_dps.cli:main"
    (manifest,) = entry_points(group="napari.manifest", name="napari-dps")
    assert manifest.value == "napari_dps:napari.yaml"


def test_links_at_the_root_reach_the_package() -> None:
    assert (ROOT / "napari.yaml").resolve() == PACKAGE / "napari.yaml"
    assert (ROOT / "sample_data").resolve() == PACKAGE / "sample_data"
    assert os.readlink(ROOT / "napari.yaml") == "src/napari_dps/napari.yaml"
