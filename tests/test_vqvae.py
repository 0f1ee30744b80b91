"""VQVAE: nearest codes and their averages against slow formulas, gradients, what it does."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from skgenad import VQVAE
from skgenad.autoencoders._codebook import Codebook

from ._settings import ALL_ROWS

pytestmark = pytest.mark.usefixtures("drawing")

QUICK = {
    **ALL_ROWS,
    "network": (32,),
    "code_dim": 2,
    "n_parts": 2,
    "n_codes": 16,
    "max_steps": 300,
    "learning_rate": 5e-3,
    "random_state": 0,
    "device": "cpu",
}


def factor_rows(n, seed=0):
    """Rows of a Gaussian with two strong factors and little noise, in different units."""
    rng = np.random.RandomState(seed)
    loadings = np.random.RandomState(99).randn(2, 6)
    rows = rng.randn(n, 2) @ loadings + 0.1 * rng.randn(n, 6)
    return rows * [1.0, 2.0, 0.5, 1.0, 1.0, 1.0] + np.arange(6)


# ---- codes -----------------------------------------------------------------------------------


def slow_nearest(codes, parts):
    return [min(range(len(codes)), key=lambda k: math.dist(p, codes[k])) for p in parts]


@pytest.mark.parametrize(
    ("n_codes", "n_parts", "dim"), [(7, 1, 3), (64, 4, 2), (1, 2, 1), (5, 3, 1)]
)
def test_nearest_codes_are_those_of_brute_force(n_codes, n_parts, dim):
    codebook = Codebook(n_codes, n_parts, dim, 0.9)
    z = 2 * torch.randn(30, n_parts * dim)
    places = codebook.nearest(z)
    parts = [row[p * dim : (p + 1) * dim] for row in z.tolist() for p in range(n_parts)]
    assert places.tolist() == slow_nearest(codebook.codes.tolist(), parts)
    expected = torch.tensor([codebook.codes[k].tolist() for k in places]).reshape(z.shape)
    assert torch.equal(codebook(z), expected)


def test_of_codes_equally_near_it_is_the_first():
    codebook = Codebook(4, 1, 2, 0.9)
    codebook.codes.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 1.0]]))
    assert codebook.nearest(torch.tensor([[0.0, 0.0], [0.0, 2.0]])).tolist() == [1, 1]


def test_codes_are_their_own_nearest_and_vectors_of_codes_stay():
    codebook = Codebook(9, 3, 2, 0.9)
    assert codebook.nearest(codebook.codes.reshape(3, 6)).tolist() == list(range(9))
    z = codebook(torch.randn(20, 6))
    assert torch.equal(codebook(z), z)


def test_far_away_a_latent_vector_has_a_code_too():
    codebook = Codebook(5, 1, 2, 0.9)
    z = torch.tensor([[1e30, -1e30], [3e38, 3e38], [-1e20, 0.0]])
    assert torch.isin(codebook(z), codebook.codes).all()


def test_the_gradient_passes_straight_through():
    codebook, w = Codebook(6, 2, 3, 0.9).double(), torch.randn(8, 6).double()
    z = torch.randn(8, 6).double().requires_grad_()
    (w * codebook(z)).sum().backward()
    assert torch.equal(z.grad, w)
    assert torch.equal(torch.autograd.functional.jacobian(codebook, z[:1]).squeeze(), torch.eye(6))
    q, pullback = codebook.value_and_pullback(z)
    assert torch.equal(q, codebook(z)) and torch.equal(pullback(w), w)


def test_codes_get_no_gradient():
    module, x = VQVAE(**QUICK)._make_module(4), torch.randn(20, 4)
    module.loss(x)["loss"].backward()
    assert not module.codebook.codes.requires_grad
    assert {name.split(".")[1] for name, _ in module.named_parameters()} == {"encoder", "decoder"}
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_codes_are_the_moving_averages_of_what_is_nearest(decay):
    """The paper's N and m, kept apart and in float64 here, beside what is kept."""
    codebook = Codebook(5, 2, 2, decay).double()
    counts, sums = np.ones(5), codebook.codes.numpy().copy()
    for _ in range(20):
        z = torch.randn(6, 4).double()
        parts = z.reshape(-1, 2).numpy()
        places = slow_nearest(codebook.codes.tolist(), parts.tolist())
        for k in range(5):
            mine = parts[[place == k for place in places]]
            counts[k] = decay * counts[k] + (1 - decay) * len(mine)
            sums[k] = decay * sums[k] + (1 - decay) * mine.sum(axis=0)
        if decay == 0:  # a mean of nothing: the code stays
            nothing = counts == 0
            counts[nothing], sums[nothing] = 1, codebook.codes.numpy()[nothing]
        codebook.follow(z, codebook.nearest(z))
        np.testing.assert_allclose(codebook.codes.numpy(), sums / counts[:, None], rtol=1e-9)
        if decay > 0:
            np.testing.assert_allclose(codebook.counts.numpy(), counts, rtol=1e-9)


def test_without_memory_a_code_is_the_mean_of_what_is_nearest():
    codebook = Codebook(2, 1, 1, 0.0)
    codebook.codes.copy_(torch.tensor([[-1.0], [1.0]]))
    z = torch.tensor([[-3.0], [-2.0], [-1.0], [0.5], [2.5]])
    codebook.follow(z, codebook.nearest(z))
    assert codebook.codes.flatten().tolist() == [-2.0, 1.5]
    assert codebook.counts.tolist() == [3.0, 2.0]


def test_a_code_near_nothing_stays_to_the_bit_for_ever():
    codebook = Codebook(2, 1, 1, 0.5)
    codebook.codes.copy_(torch.tensor([[0.0], [1000.1]]))
    z = torch.randn(10, 1)
    for _ in range(2000):
        codebook.follow(z, codebook.nearest(z))
    assert codebook.codes[1].item() == np.float32(1000.1)
    assert codebook.codes[0].item() == pytest.approx(z.mean().item(), abs=1e-6)
    back = torch.full((10, 1), 1000.0)
    codebook.follow(back, codebook.nearest(back))
    assert codebook.codes[1].item() == pytest.approx(1000, abs=1e-2)


def test_averages_in_training_lower_the_papers_second_term():
    """|sg[z] - e|^2 falls as it does by gradient steps on that term."""
    codebook, z = Codebook(8, 1, 2, 0.9), torch.randn(200, 2)
    gaps = []
    for _ in range(30):
        gaps.append((z - codebook(z)).square().mean().item())
        codebook.follow(z, codebook.nearest(z))
    assert gaps[-1] < 0.8 * gaps[0] and all(b <= a + 1e-6 for a, b in pairwise(gaps))


def test_perplexity_counts_codes_in_use():
    codebook = Codebook(8, 1, 1, 0.9)
    assert codebook.perplexity(torch.tensor([3] * 7)).item() == pytest.approx(1)
    assert codebook.perplexity(torch.arange(8)).item() == pytest.approx(8)
    assert codebook.perplexity(torch.tensor([1, 1, 5, 5])).item() == pytest.approx(2)


def test_codes_begin_where_latent_vectors_are():
    module, x = VQVAE(**QUICK)._make_module(4), torch.randn(50, 4)
    module.prepare(x, None)
    with torch.no_grad():
        parts = module.net.encoder(x).reshape(-1, 2)
    begun = set(map(tuple, module.codebook.codes.tolist()))
    assert len(begun) == 16 and begun < set(map(tuple, parts.tolist()))
    module.prepare(x[:2], None)  # with fewer latent vectors than codes, some have several
    gaps = (module.codebook.codes[:, None] - parts[:4]).abs().amax(dim=2)
    assert gaps.amin(dim=1).max() < 1e-6 and gaps.amin(dim=0).max() < 1e-6


# ---- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_the_error_and_the_weighted_commitment(training):
    module, x = VQVAE(**QUICK, commitment=3.0)._make_module(4).train(training), torch.randn(20, 4)
    before = module.codebook.codes.clone()
    z = module.net.encoder(x)
    q = before[module.codebook.nearest(z)].reshape(20, 4)
    parts = module.loss(x)
    torch.testing.assert_close(parts["reconstruction"], (x - module.net.decoder(q)).square().mean())
    torch.testing.assert_close(parts["commitment"], (z - q).square().mean())
    torch.testing.assert_close(parts["loss"], parts["reconstruction"] + 3 * parts["commitment"])
    assert torch.equal(module.codebook.codes, before) != training


def test_the_encoders_gradient_is_that_of_the_decoders_input_and_of_the_commitment():
    module, x = VQVAE(**QUICK, commitment=0.7)._make_module(4).eval(), torch.randn(20, 4)
    module.loss(x)["loss"].backward()
    ours = [p.grad.clone() for p in module.net.encoder.parameters()]
    module.zero_grad()
    z = module.net.encoder(x)
    q = module.codebook(z).detach().requires_grad_()
    error = (x - module.net.decoder(q)).square().mean()
    (slope,) = torch.autograd.grad(error, q)
    ((slope + 0.7 * 2 * (z - q).detach() / z.numel()) * z).sum().backward()
    for got, p in zip(ours, module.net.encoder.parameters(), strict=True):
        torch.testing.assert_close(got, p.grad)


def test_more_codes_reconstruct_better():
    X, fresh = factor_rows(1000), factor_rows(300, seed=1)
    fitted = [VQVAE(**{**QUICK, "n_codes": n}, decay=0.9).fit(X) for n in (2, 8, 64)]
    errors = [-detector.score_samples(fresh).mean() for detector in fitted]
    assert errors[0] > 3 * errors[1] and errors[1] > 1.2 * errors[2]


def test_there_are_no_more_reconstructions_than_combinations_of_codes():
    detector = VQVAE(**{**QUICK, "n_codes": 3}).fit(factor_rows(500))
    far = np.random.RandomState(0).randn(3000, 6) * 50
    assert len(np.unique(detector.reconstruct(far).round(6), axis=0)) <= 3**2


def test_history_counts_steps_and_has_the_parts():
    history = VQVAE(**{**QUICK, "max_steps": 120}).fit(factor_rows(200)).history_
    parts = {"reconstruction", "commitment", "perplexity"}
    assert set(history) == {"stage", "epoch", "step", "loss", "seconds", *parts}
    assert history["stage"].unique().tolist() == ["vqvae"]
    assert history["step"].tolist() == [50, 100, 120]
    assert history["reconstruction"].is_monotonic_decreasing
    assert history["perplexity"].between(1, 16).all() and history["perplexity"].iloc[-1] > 4


@pytest.mark.parametrize("shape", [(2, 1), (3, 1), (2, 5), (40, 1)])
def test_tables_with_few_rows_or_one_column_work(shape):
    X = np.random.RandomState(0).randn(*shape)
    detector = VQVAE(**{**QUICK, "max_steps": 20}).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()


# ---- scores ----------------------------------------------------------------------------------


def test_scores_are_the_error_and_the_distance_from_codes():
    X = factor_rows(100)
    settings = {**QUICK, "max_steps": 20}
    by_error, by_code = (
        VQVAE(**settings, score_type=s).fit(X) for s in ("reconstruction", "latent")
    )
    Z = torch.from_numpy(by_error.units_.to_standard(X))
    net = by_error.module_.net
    with torch.no_grad():
        z = net.encoder(Z)
        q = net.latent.codes[net.latent.nearest(z)].reshape(z.shape)
        error = (Z - net.decoder(q)).square().mean(dim=1)
        gap = (z - q).square().mean(dim=1)
    np.testing.assert_allclose(by_error.score_samples(X), -error.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(by_code.score_samples(X), -gap.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("score_type", ["reconstruction", "latent"])
def test_planted_anomalies_score_above_normal_rows(score_type):
    rows = factor_rows(700)
    anomalies = np.random.RandomState(1).randn(60, 6) * rows.std(axis=0)
    detector = VQVAE(**QUICK, score_type=score_type).fit(rows[:500])
    truth = np.r_[np.zeros(200), np.ones(60)]
    area = roc_auc_score(truth, detector.anomaly_score(np.r_[rows[500:], anomalies]))
    assert area > (0.95 if score_type == "reconstruction" else 0.8)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"decay": 1.0}, "decay.*Got 1.0 instead"),
        ({"commitment": -0.1}, "commitment.*Got -0.1 instead"),
        ({"n_codes": 0}, "n_codes.*Got 0 instead"),
        ({"score_type": "error"}, "score_type.*Got 'error' instead"),
        ({"code_dim": 0}, "code_dim.*Got 0 instead"),
        ({"n_parts": 0}, "n_parts.*Got 0 instead"),
    ],
)
def test_a_bad_value_is_refused_by_name(parameters, message):
    with pytest.raises(ValueError, match=message):
        VQVAE(**{**QUICK, **parameters}).fit(factor_rows(20))
