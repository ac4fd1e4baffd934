"""Samplers without backpropagation that look for the best mode before they sample."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from napari_dps.core.covariance import ScalarCovariance
from napari_dps.core.data_step import draw
from napari_dps.core.problem import Problem, Start
from napari_dps.core.sampler import Sampler
from napari_dps.core.search import CHAINS, search, search_calls
from napari_dps.core.streams import Streams


class SearchingSampler(Sampler):
    """Base of samplers that solve for the data by Gauss-Newton steps where A is not affine.

    Parameters
    ----------
    iterations : int
        Conjugate-gradient iterations of a data step, or of each of its Gauss-Newton steps.
    informed : bool
        Whether the sampler starts from the problem's classical estimate.
    """

    def __init__(self, iterations: int, informed: bool) -> None:
        self.iterations, self.informed = iterations, informed

    def rehearse(self, problem: Problem, n: int) -> None:
        """Draw once where the operator is not affine: the solves take as long as the network."""
        if not problem.operator.is_affine:
            y = problem.y
            streams = Streams(0, range(n), y.device, y.dtype)
            x = streams.normal(problem.operator.x_shape)
            draw(problem, x, ScalarCovariance(0.3), streams, self.iterations)

    def search_calls(self, multimodal: bool) -> int:
        """Return the forward passes of one image that :meth:`search` costs."""
        return search_calls() if multimodal and self.informed else 0

    def search(
        self, problem: Problem, candidates: Tensor, label: object, seed: int, at_once: int
    ) -> Iterator[tuple[int, int] | Start]:
        """Look for the best mode where there are many; see :mod:`.search`."""
        if not self.search_calls(problem.operator.operator.multimodal):
            return
        indices = [("search", label, k) for k in range(CHAINS + len(candidates))]
        streams = Streams(seed, indices, problem.y.device, problem.y.dtype)
        yield from search(problem, candidates, streams, self.iterations, at_once)
