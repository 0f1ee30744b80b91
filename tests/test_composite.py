"""Composite features: errors, the normalised latent space, principal components."""

import copy

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skgenad._tensors.distances import mean_squared_error
from skgenad._tensors.networks import Networks, Perceptrons
from skgenad.autoencoders._composite import (
    LatentNorm,
    PrincipalComponents,
    TwoStageAutoencoder,
    composite_features,
    cosine_dissimilarity,
    squared_covariance,
)

pytestmark = pytest.mark.usefixtures("drawing")


def rows(n=200, d=5, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n, d)) @ rng.normal(size=(d, d))).float()


# ---- errors ---------------------------------------------------------------------------------


def test_the_composite_feature_is_that_of_section_3_1():
    x, reconstruction, code = rows(), rows(seed=1), rows(d=2)
    z = composite_features(code, x, reconstruction)
    assert z.dtype == torch.double
    a, b = x.double().numpy(), reconstruction.double().numpy()
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(z[:, :2], code)
    np.testing.assert_allclose(z[:, 2], ((a - b) ** 2).sum(axis=1) / 5)
    np.testing.assert_allclose(z[:, 3], (1 - cosine) / 2)


def test_a_small_angle_keeps_its_digits():
    x = torch.tensor([[1.0, 0.0]], dtype=torch.double)
    for angle in (1e-3, 1e-6, 1e-9):
        turned = torch.tensor([[np.cos(angle), np.sin(angle)]], dtype=torch.double)
        assert cosine_dissimilarity(x, turned).item() == pytest.approx(angle**2 / 4, rel=1e-5)


def test_rows_of_zeros_have_a_dissimilarity_and_gradients():
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [3.0, 4.0]], requires_grad=True)
    other = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0], [-3.0, -4.0]], requires_grad=True)
    dissimilarity = cosine_dissimilarity(x, other)
    torch.testing.assert_close(dissimilarity, torch.tensor([0.0, 0.25, 0.25, 1.0]))
    (dissimilarity.sum() + mean_squared_error(x, other).sum()).backward()
    assert x.grad.isfinite().all() and other.grad.isfinite().all()


def test_rounding_is_no_error():
    x = rows(d=8)
    x64 = x.double()
    rotation = torch.linalg.qr(torch.from_numpy(np.random.default_rng(1).normal(size=(8, 8))))[0]
    for back in ((x64 @ rotation) @ rotation.T, x * (1 + 6e-8)):
        assert (composite_features(x, x, back)[:, -2:] == 0).all()
    assert (composite_features(x, x, x * (1 + 1e-4))[:, -2] > 0).all()


# ---- the latent space -----------------------------------------------------------------------


def test_the_covariance_penalty_is_equation_12():
    code = rows(50, 3)
    covariance = np.cov(code.T.numpy(), bias=True)
    off = covariance - np.diag(np.diag(covariance))
    assert squared_covariance(code).item() == pytest.approx((off**2).sum() / 6, rel=1e-5)
    assert squared_covariance(code[:, :1]).item() == 0


def test_a_batch_is_normalised_and_running_moments_reach_those_of_the_data():
    norm, z = LatentNorm(5), rows(2000) * 3 + 7
    for _ in range(10):
        for batch in z.split(100):
            out = norm.by_batch(batch)
            torch.testing.assert_close(out.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)
            torch.testing.assert_close(
                out.var(dim=0, correction=0), torch.ones(5), rtol=1e-3, atol=0
            )
    kept = norm(z)
    torch.testing.assert_close(kept.mean(dim=0), torch.zeros(5), atol=0.1, rtol=0)
    torch.testing.assert_close(kept.var(dim=0), torch.ones(5), rtol=0.15, atol=0)


def test_normalisation_is_that_of_torch():
    ours, theirs = LatentNorm(5), torch.nn.BatchNorm1d(5, affine=False)
    for batch in rows().split(50):
        torch.testing.assert_close(ours.by_batch(batch), theirs(batch))
    torch.testing.assert_close(ours(rows()), theirs.eval()(rows()))


def test_a_batch_of_one_row_is_normalised_by_the_running_moments():
    norm, z = LatentNorm(5), rows()
    torch.testing.assert_close(norm.by_batch(z[:1] * 0), torch.zeros(1, 5))
    before = norm.mean.clone()
    out = norm.by_batch(z[:1])
    torch.testing.assert_close(out, norm(z[:1]))
    assert not torch.equal(norm.mean, before) and out.isfinite().all()


def test_running_moments_move_in_the_first_stages_pass_alone():
    net = TwoStageAutoencoder(Networks(Perceptrons((8,), "silu"), (5,)), 2).train()
    before = copy.deepcopy(net.state_dict())
    code, reconstruction = net(rows())
    assert code.shape == (200, 2) and reconstruction.shape == (200, 5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    net.by_batch(rows())
    moved = [name for name, value in net.state_dict().items() if not value.equal(before[name])]
    assert moved == ["norm.mean", "norm.variance"]


def test_the_first_loss_is_equation_11_over_the_number_of_columns():
    x, weight = rows(), 0.7
    net = TwoStageAutoencoder(Networks(Perceptrons((8,), "silu"), (5,)), 3, weight)
    parts = net.loss(x)
    code, reconstruction = net.by_batch(x)
    printed = (x - reconstruction).square().sum(dim=1).mean() + weight * squared_covariance(code)
    torch.testing.assert_close(parts["loss"] * 5, printed)
    code, reconstruction = net(x)
    printed = (x - reconstruction).square().sum(dim=1).mean() + weight * squared_covariance(code)
    torch.testing.assert_close(net.validation_loss(x) * 5, printed)


def test_columns_that_say_nothing_change_no_balance_of_the_first_loss():
    # The gradient of eq. 11 is the same with columns of zeros that are reconstructed as such; that
    # of a mean over columns would give the penalty twice the weight.
    gradients = []
    for d in (5, 10):
        torch.manual_seed(0)
        net = TwoStageAutoencoder(Networks(Perceptrons((8,), "silu"), (5,)), 3, 2.0)
        code, reconstruction = net.by_batch(rows())
        pad = torch.zeros(200, d - 5)
        net.by_batch = lambda _, c=code, r=reconstruction, p=pad: (c, torch.cat([r, p], dim=1))
        loss = d * net.loss(torch.cat([rows(), pad], dim=1))["loss"]
        gradients.append(torch.autograd.grad(loss, net.encoder.layers[0].weight)[0])
    torch.testing.assert_close(*gradients)


# ---- principal components -------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "k"), [(200, 5, 3), (200, 5, 5), (10, 20, 4)])
def test_principal_components_are_scikit_learns(n, d, k):
    x = rows(n, d) + 3
    ours, theirs = PrincipalComponents(d, k), PCA(k).fit(x.double().numpy())
    ours.fit(x)
    code, reconstruction = ours(rows(50, d, seed=2))
    expected = theirs.transform(rows(50, d, seed=2).double().numpy())
    np.testing.assert_allclose(code.abs(), np.abs(expected), atol=1e-6)
    back = theirs.inverse_transform(expected)
    np.testing.assert_allclose(reconstruction, back, atol=1e-6)


def test_the_sign_of_a_component_is_that_of_its_largest_entry():
    components = PrincipalComponents(5, 5)
    components.fit(rows())
    largest = components.components.gather(1, components.components.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_components_beyond_the_rank_are_0():
    components = PrincipalComponents(4, 3)
    components.fit(rows(d=2)[:, [0, 0, 1, 1]])
    code, _ = components(rows(d=4))
    assert (code[:, 2] == 0).all() and (code[:, :2] != 0).all()


def test_what_the_norm_takes_away_is_not_trained():
    net = TwoStageAutoencoder(Networks(Perceptrons((4,), "silu"), (3,)), 2)
    x = rows(50, 3)
    code, reconstruction = net.by_batch(x)
    (mean_squared_error(x, reconstruction).sum() + code.pow(3).sum()).backward()
    last = net.encoder.layers[-1].bias
    assert last.grad is None
    assert all(p.grad is not None for p in net.parameters() if p is not last)
