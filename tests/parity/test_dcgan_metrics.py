"""FID, KID, Inception score, precision and recall, nearest neighbours: against torchmetrics, SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.dcgan.evaluation.memorisation import nearest
from zoo.dcgan.evaluation.scores import fid, inception_score, kid, precision_recall


class Same(nn.Module):
    """Takes features for images."""

    num_features = 24

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def sets() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    mix = torch.randn(24, 24, generator=draw, dtype=torch.float64)
    x = torch.randn(300, 24, generator=draw, dtype=torch.float64) @ mix
    y = torch.randn(200, 24, generator=draw, dtype=torch.float64) @ mix * 0.9 + 0.3
    return x, y


def test_fid_is_that_of_torchmetrics(sets: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    theirs = FrechetInceptionDistance(feature=Same())
    theirs.update(sets[0], real=True)
    theirs.update(sets[1], real=False)
    assert fid(*sets) == pytest.approx(float(theirs.compute()), rel=1e-9)


@pytest.mark.parametrize("count", [200, 10])  # 10 images in 24 dimensions: both covariances are singular
def test_fid_is_that_of_the_matrix_square_root(sets: tuple[Tensor, Tensor], count: int) -> None:
    from scipy.linalg import sqrtm

    x, y = (z[:count].numpy() for z in sets)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    jitter = 0 if count > 24 else 1e-9 * np.eye(24)
    root = sqrtm((a + jitter) @ (b + jitter))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root.real)
    assert fid(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected, rel=1e-9 if count > 24 else 1e-3)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_kid_is_that_of_torchmetrics_on_the_same_subsets(sets: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    theirs = KernelInceptionDistance(feature=Same(), subsets=7, subset_size=60)
    theirs.update(sets[0], real=True)
    theirs.update(sets[1], real=False)
    torch.manual_seed(5)  # it draws its subsets from the global generator
    mean, deviation = theirs.compute()
    assert kid(*sets, subsets=7, size=60, seed=5) == pytest.approx((float(mean), float(deviation)), rel=1e-9)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore`", "ignore:std")
def test_inception_score_is_that_of_torchmetrics(sets: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.image.inception import InceptionScore

    theirs = InceptionScore(feature=Same(), splits=1)
    theirs.update(sets[0])
    assert inception_score(sets[0].softmax(1)) == pytest.approx(float(theirs.compute()[0]), rel=1e-9)


def test_precision_and_recall_are_what_neighbours_of_scikit_learn_give(sets: tuple[Tensor, Tensor]) -> None:
    from sklearn.metrics import pairwise_distances
    from sklearn.neighbors import NearestNeighbors

    real, fake = (z.numpy() for z in sets)

    def covered(points: np.ndarray, centres: np.ndarray, k: int) -> float:
        radii = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(centres).kneighbors()[0][:, -1]
        return float((pairwise_distances(points, centres) <= radii).any(1).mean())

    for k in (3, 5):
        found = precision_recall(sets[0], sets[1], k=k)
        assert found == (covered(fake, real, k), covered(real, fake, k))
        assert 0.02 < min(found) < max(found) < 0.98  # and not because everything or nothing is covered


def test_nearest_neighbours_are_those_of_scikit_learn(sets: tuple[Tensor, Tensor]) -> None:
    from sklearn.neighbors import NearestNeighbors

    distances, rows = NearestNeighbors(n_neighbors=4).fit(sets[0].numpy()).kneighbors(sets[1].numpy())
    found = nearest(sets[1], sets[0], k=4)
    assert found.rows.tolist() == rows.tolist()
    torch.testing.assert_close(found.distances.double(), torch.from_numpy(distances), rtol=1e-5, atol=0)
