"""GANomaly: its losses by hand, whose weights each of them moves, scores, what it does."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from skgenad import GANomaly

from ._settings import ALL_ROWS
from .test_vqvae import factor_rows

pytestmark = pytest.mark.usefixtures("drawing")

QUICK = {
    **ALL_ROWS,
    "network": (32,),
    "latent_dim": 3,
    "max_steps": 300,
    "random_state": 0,
    "device": "cpu",
}


def a_module(**parameters):
    """Make a module whose spectral norms stand still."""
    return GANomaly(**QUICK, **parameters)._make_module(4).double().eval()


def gradients(module):
    """Gradients of all weights, 0 where there is none."""
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in module.named_parameters()
    }


def of_the_discriminator(name):
    return name.startswith("discriminator.")


# ---- losses ----------------------------------------------------------------------------------


def test_the_losses_are_those_of_the_paper_by_hand():
    weights = {"adversarial_penalty": 2.0, "contextual_penalty": 30.0, "encoding_penalty": 5.0}
    module, x = a_module(**weights), torch.randn(20, 4).double()
    parts = module.loss(x)
    z = module.net.encoder(x)
    back = module.net.decoder(z)
    once_more = module.second(back)
    a, b = (F.leaky_relu(module.discriminator.encoder(each), 0.2) for each in (x, back))
    weight, bias = module.discriminator.last.weight[0], module.discriminator.last.bias
    real, fake = (torch.sigmoid(features @ weight + bias) for features in (a, b))
    expected = {
        "adversarial": ((a - b) ** 2).sum() / 60,
        "contextual": (x - back).abs().sum() / 80,
        "encoding": ((z - once_more) ** 2).sum() / 60,
        "discriminator": -(real.log().mean() + (1 - fake).log().mean()) / 2,
    }
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value)
    total = 2 * expected["adversarial"] + 30 * expected["contextual"] + 5 * expected["encoding"]
    torch.testing.assert_close(parts["loss"], total + expected["discriminator"])


def test_the_weights_are_the_papers_unless_told_otherwise():
    detector = GANomaly()
    weights = detector.adversarial_penalty, detector.contextual_penalty, detector.encoding_penalty
    assert weights == (1, 50, 1)


def test_cross_entropies_are_torchs():
    module, x, back = a_module(), torch.randn(9, 4).double(), torch.randn(9, 4).double()
    real, fake = module.discriminator(x), module.discriminator(back)
    ours = module.discriminator_loss(x, back)
    entropy = F.binary_cross_entropy_with_logits
    expected = (entropy(real, torch.ones(9).double()) + entropy(fake, torch.zeros(9).double())) / 2
    torch.testing.assert_close(ours, expected)


def test_of_rows_that_are_their_own_reconstructions_it_says_no_better_than_log_2():
    module = a_module()
    with torch.no_grad():
        module.discriminator.last.bias.fill_(0.7)
        module.discriminator.last.raw_weight.mul_(1e-3)  # which a norm of 1 undoes
        same = torch.ones(9, 4).double()
    told = module.discriminator(same)
    ours = module.discriminator_loss(same, same)
    expected = (F.softplus(-told) + F.softplus(told)).mean() / 2
    assert ours.item() == pytest.approx(expected.item()) and ours >= np.log(2)


def test_each_loss_has_a_gradient_in_its_own_networks_alone():
    module, x = a_module(), torch.randn(20, 4).double()
    module.loss(x)["loss"].backward()
    together = gradients(module)
    assert all(gradient.abs().sum() > 0 for gradient in together.values())
    module.zero_grad()
    module.discriminator_loss(x, module.reconstruct(x).detach()).backward()
    alone = gradients(module)
    for name, gradient in together.items():
        if of_the_discriminator(name):
            torch.testing.assert_close(gradient, alone[name])
        else:
            assert (alone[name] == 0).all()
    module.zero_grad()
    z = module.net.encode(x)
    back = module.net.decode(z)
    features = module.discriminator.features
    loss = (features(x) - features(back)).square().mean() + 50 * (x - back).abs().mean()
    loss = loss + (z - module.second(back)).square().mean()
    names = [name for name, _ in module.named_parameters() if not of_the_discriminator(name)]
    weights = dict(module.named_parameters())
    for name, gradient in zip(
        names, torch.autograd.grad(loss, [weights[name] for name in names]), strict=True
    ):
        torch.testing.assert_close(together[name], gradient)


@pytest.mark.parametrize("moved", ["generator", "discriminator"])
def test_a_step_of_one_side_leaves_the_other(moved):
    module, x = a_module(), torch.randn(20, 4).double()
    (stage,) = GANomaly(**QUICK)._stages(module)
    before = copy.deepcopy(dict(module.named_parameters()))
    module.loss(x)["loss"].backward()
    stage.optimizers[moved].step()
    for name, value in module.named_parameters():
        assert torch.equal(value, before[name]) == (
            of_the_discriminator(name) != (moved == "discriminator")
        )


def test_all_weights_are_trained_by_one_side():
    module = a_module()
    (stage,) = GANomaly(**QUICK)._stages(module)
    groups = [group for o in stage.optimizers.values() for group in o.param_groups]
    trained = [id(p) for group in groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in module.parameters())
    assert all(group["betas"] == (0.5, 0.999) for group in groups)


def test_features_differ_by_no_more_than_rows_do():
    """However long it is trained: the norms of all layers stay 1."""
    detector = GANomaly(**{**QUICK, "learning_rate": 5e-2}).fit(factor_rows(300))
    features = detector.module_.discriminator.features
    x, y = torch.randn(500, 6), torch.randn(500, 6)
    with torch.no_grad():
        change = (features(x) - features(y)).norm(dim=1)
    assert (change <= 1.05 * (x - y).norm(dim=1)).all()


def test_weights_can_be_trained_after_a_loss():
    module = a_module()
    module.loss(torch.randn(5, 4).double())
    assert all(p.requires_grad for p in module.parameters())


def test_the_discriminator_learns_to_tell_and_the_generator_to_hide():
    """Against a generator that stands still the cross-entropy falls below log 2."""
    module, x = a_module().train(), 3 * torch.randn(200, 4).double()
    (stage,) = GANomaly(**QUICK, learning_rate=1e-2)._stages(module)

    def train(side, n_steps):
        for _ in range(n_steps):
            module.zero_grad()
            parts = module.loss(x)
            parts["loss"].backward()
            stage.optimizers[side].step()
        return parts

    told = train("discriminator", 100)
    assert told["discriminator"] < 0.5 < np.log(2)
    hidden = train("generator", 200)
    assert hidden["adversarial"] < 0.3 * told["adversarial"]
    assert hidden["discriminator"] > told["discriminator"]


# ---- training and scores ---------------------------------------------------------------------


def test_history_counts_steps_and_has_the_parts():
    history = GANomaly(**{**QUICK, "max_steps": 120}).fit(factor_rows(200)).history_
    parts = {"adversarial", "contextual", "encoding", "discriminator"}
    assert set(history) == {"stage", "epoch", "step", "loss", "seconds", *parts}
    assert history["stage"].unique().tolist() == ["ganomaly"]
    assert history["step"].tolist() == [50, 100, 120]
    assert history["contextual"].is_monotonic_decreasing


def test_the_score_is_the_latent_distance():
    X = factor_rows(100)
    detector = GANomaly(**{**QUICK, "max_steps": 20}).fit(X)
    Z, module = torch.from_numpy(detector.units_.to_standard(X)), detector.module_
    with torch.no_grad():
        z = module.net.encoder(Z)
        back = module.net.decoder(z)
        gap = (z - module.second(back)).abs().sum(dim=1) / 3
    np.testing.assert_allclose(detector.score_samples(X), -gap.numpy(), rtol=1e-4, atol=1e-6)
    expected = detector.units_.from_standard(back.numpy())
    np.testing.assert_allclose(detector.reconstruct(X), expected, rtol=1e-5)


def test_without_other_losses_it_is_an_autoencoder_of_absolute_errors():
    X = factor_rows(500)
    detector = GANomaly(**{**QUICK, "learning_rate": 5e-3}, adversarial_penalty=0).fit(X)
    error = np.abs(X - detector.reconstruct(X)) / X.std(axis=0)
    assert error.mean() < 0.25  # of two factors and noise; the mean of all rows has some 0.8


def test_without_its_weight_the_second_encoder_learns_nothing():
    X = factor_rows(300)
    with_it, without = (
        GANomaly(**{**QUICK, "max_steps": 200}, encoding_penalty=w).fit(X).history_ for w in (1, 0)
    )
    assert with_it["encoding"].iloc[-1] < 0.2 * without["encoding"].iloc[-1]


def test_planted_anomalies_score_above_normal_rows():
    rows = factor_rows(700)
    anomalies = np.random.RandomState(1).randn(60, 6) * rows.std(axis=0)
    detector = GANomaly(**QUICK).fit(rows[:500])
    truth = np.r_[np.zeros(200), np.ones(60)]
    assert roc_auc_score(truth, detector.anomaly_score(np.r_[rows[500:], anomalies])) > 0.8


@pytest.mark.parametrize("shape", [(2, 1), (3, 1), (2, 5), (40, 1)])
def test_tables_with_few_rows_or_one_column_work(shape):
    X = np.random.RandomState(0).randn(*shape)
    detector = GANomaly(**{**QUICK, "max_steps": 20}).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"adversarial_penalty": -1.0}, "adversarial_penalty.*Got -1.0 instead"),
        ({"contextual_penalty": -1.0}, "contextual_penalty.*Got -1.0 instead"),
        ({"encoding_penalty": -1.0}, "encoding_penalty.*Got -1.0 instead"),
        ({"latent_dim": 0}, "latent_dim.*Got 0 instead"),
    ],
)
def test_a_bad_value_is_refused_by_name(parameters, message):
    with pytest.raises(ValueError, match=message):
        GANomaly(**{**QUICK, **parameters}).fit(factor_rows(20))
