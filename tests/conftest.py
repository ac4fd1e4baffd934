"""What every test gets: few threads, known seeds, settings of its own, and no leaked widgets."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before anything loads torch or napari: results must not hang on the number of cores, and the
# tests must neither read nor change the settings of whoever runs them.
# Processes that share the cores have one thread each: more would wait for each other, and busily.
os.environ["OMP_NUM_THREADS"] = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
os.environ["MKL_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["NAPARI_DPS_PRIORS"] = os.path.join(tempfile.mkdtemp(prefix="napari-dps-"), "priors")
os.environ["NAPARI_CONFIG"] = os.path.join(tempfile.mkdtemp(prefix="napari-dps-"), "settings.yaml")

import numpy as np
import pytest

# A shell's background jobs ignore Ctrl-C, and their children inherit it; the tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A test that asks for one of these opens windows, so it needs a screen.
SCREEN_FIXTURES = {"qapp", "qtbot", "make_napari_viewer", "make_napari_viewer_proxy"}


def has_screen() -> bool:
    """Whether Qt can open a window here (without one it aborts the whole process)."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a screen the widget tests are skipped aloud; in CI that is a failure."""
    if has_screen():
        return
    wanting = [i for i in items if SCREEN_FIXTURES & set(getattr(i, "fixturenames", ()))]
    if wanting and os.environ.get("CI"):
        pytest.exit(f"{len(wanting)} tests need a screen: run them with xvfb-run -a", returncode=1)
    for item in wanting:
        item.add_marker(pytest.mark.skip(reason="no screen: run with xvfb-run -a (make test does)"))


@pytest.fixture(autouse=True)
def known_seeds() -> None:
    """Seed the global generators, for tests that draw data; the library itself uses none."""
    random.seed(0)
    np.random.seed(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a known seed."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_leaked_widgets(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a widget test that leaves a window behind."""
    if not SCREEN_FIXTURES & set(request.fixturenames):
        yield
        return
    app = request.getfixturevalue("qapp")
    before = {id(widget) for widget in app.topLevelWidgets()}
    yield
    # qtbot closes its widgets with deleteLater; they go when the event loop turns.
    from qtpy.QtCore import QCoreApplication, QEvent

    for _ in range(3):
        gc.collect()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        app.processEvents()
    left = [w for w in app.topLevelWidgets() if id(w) not in before and w.isVisible()]
    names = [f"{type(w).__name__}({w.objectName() or w.windowTitle()!r})" for w in left]
    for widget in left:
        widget.close()
    assert not left, f"the test left {len(left)} windows open: {', '.join(names)}"


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Return a folder with images of two groups, three and two."""
    from skimage.io import imsave

    from napari_dps.training import phantoms

    rng = np.random.default_rng(1)
    for group, count in (("nuclei", 3), ("other", 2)):
        (tmp_path / "images" / group).mkdir(parents=True)
        for index in range(count):
            image = (250 * phantoms.phantom(rng, 72)).clip(0, 255).astype(np.uint8)
            path = tmp_path / "images" / group / f"{index}.png"
            imsave(path, image, check_contrast=False)
    return tmp_path / "images"
