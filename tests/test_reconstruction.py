"""Reconstructions and maps of their errors, for every detector that has them."""

import pickle
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgenad import CANCE, MPDR, VAE, Autoencoder
from skgenad._core.anomaly_maps import AnomalyMapMixin, ReconstructionMixin
from skgenad._core.detector import IMAGE_CHUNK, SCORING_CHUNK
from skgenad.autoencoders import PCAFeatures
from skgenad.energies import Reconstruction
from skgenad.preprocessing import LatentFeatures

from ._settings import ALL_ROWS, DETECTORS, VARIANTS, normal_rows, takes, tiny
from .test_images import SCALED, on_images, pixels


def variants(mixin):
    """Name and settings of every detector that reconstructs in those settings."""
    found = [(name, extra) for name, extra in VARIANTS if has(tiny(name, **extra), mixin)]
    return pytest.mark.parametrize(("name", "extra"), found, ids=str)


def has(detector, mixin):
    method = "anomaly_map" if mixin is AnomalyMapMixin else "reconstruct"
    return isinstance(detector, mixin) and hasattr(detector, method)


def imaged(name, extra, shape=(1, 8, 8)):
    """Make the variant of a detector for images."""
    return on_images(type(tiny(name)), shape, **extra)


with_rows, with_maps = variants(ReconstructionMixin), variants(AnomalyMapMixin)
METHODS = ["reconstruct", "anomaly_map"]
# The score is minus the mean of the map, times this factor, for these settings.
ERROR_SCORES = {
    "Autoencoder": {},
    "CANCE": {"score_type": "error", "density_network": None, "max_steps": 1000},
    "MPDR": {"score_type": "energy"},
    "NAE": {"temperature": 1.0},
    "VAE": {"score_type": "reconstruction"},
    "VQVAE": {"score_type": "reconstruction"},
    "WAE": {},
}


def test_detectors_with_an_autoencoder_have_it():
    names = {d.__name__ for d in DETECTORS if issubclass(d, ReconstructionMixin)}
    assert names >= {*ERROR_SCORES, "DAGMM", "GANomaly"}
    assert not {"EBM", "Mahalanobis"} & names
    for detector in DETECTORS:
        assert issubclass(detector, AnomalyMapMixin) == (
            issubclass(detector, ReconstructionMixin) and takes(detector, "image_shape")
        )


# ---- rows ---------------------------------------------------------------------------------------


@with_rows
def test_rows_come_back_in_their_units(name, extra):
    X = normal_rows()
    detector = tiny(name, **extra).fit(X)
    back = detector.reconstruct(X)
    assert back.shape == X.shape and back.dtype == np.float64 and np.isfinite(back).all()
    # However little it was trained, it is nearer than the units of any other column are.
    assert (((X - back) / X.std(axis=0)) ** 2).mean() < 3


def test_a_table_with_names_comes_back_as_an_array():
    frame = pd.DataFrame(normal_rows(), columns=list("abcd"))
    detector = tiny("Autoencoder").fit(frame)
    assert isinstance(detector.reconstruct(frame), np.ndarray)
    with pytest.raises(ValueError, match="feature names should match"):
        detector.reconstruct(frame.rename(columns={"a": "e"}))


@with_rows
def test_columns_times_powers_of_two_are_reconstructed_to_the_bit(name, extra):
    X, factors = normal_rows(), 2.0 ** np.array([-20, 3, 0, 11])
    back = tiny(name, **extra).fit(X).reconstruct(X)
    other = tiny(name, **extra).fit(X * factors).reconstruct(X * factors)
    np.testing.assert_array_equal(other, back * factors)


@with_rows
def test_any_split_and_order_of_rows_gives_the_same_reconstructions(name, extra):
    detector = tiny(name, **extra).fit(normal_rows())
    X = normal_rows(SCORING_CHUNK + 100, seed=2)
    back = detector.reconstruct(X)
    order = np.random.RandomState(1).permutation(len(X))
    np.testing.assert_array_equal(detector.reconstruct(X[order]), back[order])
    for part in (slice(5, 6), slice(0, 7), slice(1000, 1100)):
        np.testing.assert_array_equal(detector.reconstruct(X[part]), back[part])


@with_rows
def test_copies_reconstruct_alike(name, extra, tmp_path):
    X = normal_rows()
    detector = tiny(name, **extra).fit(X)
    before, back = dict(vars(detector)), detector.reconstruct(X)
    assert all(vars(detector)[key] is before[key] for key in before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(detector)).reconstruct(X), back)
    detector.save(tmp_path / "detector")
    np.testing.assert_array_equal(type(detector).load(tmp_path / "detector").reconstruct(X), back)


def test_constant_columns_come_back_as_the_constant():
    X = normal_rows()
    X[:, 1] = 7.25
    other = X.copy()
    other[:, 1] = -3
    for name in ("Autoencoder", "VAE", "DAGMM"):
        assert (tiny(name).fit(X).reconstruct(other)[:, 1] == 7.25).all()


def test_a_trained_autoencoder_gives_back_rows_and_not_those_that_break_their_pattern():
    X = normal_rows(500)
    X[:, 3] = X[:, :3] @ [1, 2, 3]  # three columns say what the fourth must be
    settings = {"latent_dim": 3, "latent_space": "euclidean", "network": (32,)}
    detector = Autoencoder(**settings, max_steps=300, learning_rate=1e-2, random_state=0).fit(X)
    error = np.abs(X - detector.reconstruct(X)) / X.std(axis=0)
    assert (error.mean(axis=0) < 0.15).all()
    wrong = X[:50].copy()
    wrong[:, 3] += 6 * X[:, 3].std() * np.random.RandomState(0).choice([-1, 1], 50)
    off = np.abs(wrong - detector.reconstruct(wrong)) / X.std(axis=0)
    assert (off.max(axis=1) > 10 * error.mean()).mean() > 0.9


def test_the_error_is_that_of_the_score():
    X = normal_rows()
    for name, extra in ERROR_SCORES.items():
        detector = tiny(name, **extra).fit(X)
        error = ((X - detector.reconstruct(X)) / detector.units_.scale) ** 2
        np.testing.assert_allclose(error.mean(axis=1), -detector.score_samples(X), rtol=1e-4)


def test_a_vae_reconstructs_by_the_mean_of_its_posterior():
    X = normal_rows()
    features = LatentFeatures(tiny("VAE", score_type="likelihood")).fit(X)
    back = features.inverse_transform(features.transform(X))
    np.testing.assert_allclose(features.detector_.reconstruct(X), back, rtol=1e-4, atol=1e-4)


def test_principal_components_are_projected_on():
    X = normal_rows(200)
    detector = CANCE(features=PCAFeatures(2), max_steps=5, random_state=0, **ALL_ROWS).fit(X)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    leading = np.linalg.svd(Z, full_matrices=False)[2][:2]
    expected = Z @ leading.T @ leading * X.std(axis=0) + X.mean(axis=0)
    np.testing.assert_allclose(detector.reconstruct(X), expected, rtol=1e-4, atol=1e-4)


def test_features_of_ones_own_are_reconstructed_too():
    X = normal_rows()
    for features in (StandardScaler(), LatentFeatures(tiny("Autoencoder"))):
        detector = tiny("CANCE", features=features).fit(X)
        used = detector.module_.features.features
        expected = used.inverse_transform(used.transform(X))
        np.testing.assert_allclose(detector.reconstruct(X), expected, rtol=1e-4, atol=1e-4)


# ---- maps ---------------------------------------------------------------------------------------


@with_maps
def test_maps_have_the_size_of_images_and_the_error_for_their_mean(name, extra):
    X = pixels(shape=(3, 7, 6))
    detector = imaged(name, extra, (3, 7, 6)).fit(X)
    maps = detector.anomaly_map(X)
    assert maps.shape == (40, 7, 6) and maps.dtype == np.float64 and (maps >= 0).all()
    difference = X / 255 - detector.reconstruct(X).reshape(X.shape)
    error = np.abs(difference) if extra.get("distance") == "l1" else difference**2
    np.testing.assert_allclose(maps, error.mean(axis=1), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ERROR_SCORES)
def test_the_mean_of_a_map_is_the_error_that_scores(name):
    X = pixels()
    detector = on_images(type(tiny(name)), **ERROR_SCORES[name]).fit(X)
    means = detector.anomaly_map(X).mean(axis=(1, 2))
    np.testing.assert_allclose(means, detector.anomaly_score(X), rtol=1e-5)


def in_distance(cls, distance):
    energy = Reconstruction(latent_dim=2, distance=distance)
    parameters = {"energy": energy} if cls is MPDR else {"distance": distance}
    return on_images(cls, (2, 15, 13), **parameters)


@pytest.mark.parametrize(
    "cls", [*(d for d in DETECTORS if takes(d, "distance", "image_shape")), MPDR]
)
@pytest.mark.parametrize("distance", ["l1", "ssim"])
def test_maps_are_in_the_detectors_own_distance(cls, distance):
    X = pixels(shape=(2, 15, 13))
    detector = in_distance(cls, distance).fit(X)
    maps = detector.anomaly_map(X)
    assert maps.shape == (40, 15, 13)
    inside = maps if distance == "l1" else maps[:, 5:-5, 5:-5]
    np.testing.assert_allclose(inside.mean(axis=(1, 2)), detector.anomaly_score(X), rtol=1e-4)
    if distance == "ssim":
        frame = np.pad(inside, ((0, 0), (5, 5), (5, 5)), mode="edge")
        np.testing.assert_array_equal(maps, frame)


def test_the_map_is_without_the_scale_and_the_temperature_of_an_energy():
    X = pixels()
    scaled = on_images(MPDR, energy=SCALED, learning_rate=0.05).fit(X)
    scale = float(scaled.module_.base.log_scale.exp().detach())
    means = scaled.anomaly_map(X).mean(axis=(1, 2))
    assert abs(scale - 1) > 0.01
    np.testing.assert_allclose(scale * means, scaled.anomaly_score(X), rtol=1e-5)
    nae = on_images(type(tiny("NAE")), temperature=0.25).fit(X)
    np.testing.assert_allclose(nae.anomaly_map(X).mean(axis=(1, 2)), nae.energy(X), rtol=1e-5)


def test_a_defect_is_where_the_map_is_high():
    X = pixels(300)
    detector = Autoencoder(image_shape=(1, 8, 8), latent_dim=4, max_steps=300, random_state=0)
    broken = pixels(20, seed=1) / 255
    broken[:, 0, 6, 1] = 1 - broken[:, 0, 6, 1].round()
    maps = detector.fit(X).anomaly_map(broken)
    assert (maps.reshape(20, -1).argmax(axis=1) == 6 * 8 + 1).mean() > 0.9


@with_maps
def test_images_rows_and_types_have_the_same_maps_and_reconstructions(name, extra, tmp_path):
    X = pixels()
    detector = imaged(name, extra).fit(X)
    detector.save(tmp_path / "detector")
    twins = [
        detector,
        pickle.loads(pickle.dumps(detector)),
        type(detector).load(tmp_path / "detector"),
    ]
    for method in METHODS:
        values = getattr(detector, method)(X)
        for images in (X, X / 255, X.reshape(40, -1), (X / 255).reshape(40, -1)):
            for twin in twins:
                np.testing.assert_array_equal(getattr(twin, method)(images), values)


@with_maps
def test_any_split_and_order_of_images_gives_the_same_maps(name, extra):
    detector = imaged(name, extra, (3, 8, 9)).fit(pixels(shape=(3, 8, 9)))
    X = pixels(IMAGE_CHUNK + 20, (3, 8, 9), seed=1)
    order = np.random.RandomState(0).permutation(len(X))
    for method in METHODS:
        values = getattr(detector, method)(X)
        np.testing.assert_array_equal(getattr(detector, method)(X[order]), values[order])
        for part in (slice(5, 6), slice(50, 80)):
            np.testing.assert_array_equal(getattr(detector, method)(X[part]), values[part])


def test_memory_beyond_what_is_returned_is_that_of_a_chunk():
    shape = (1, 28, 28)
    detector = on_images(Autoencoder, shape).fit(pixels(20, shape))
    for method in METHODS:
        beyond = []
        for n in (200, 1800):
            X = np.zeros((n, *shape), np.uint8)
            getattr(detector, method)(X[:100])
            tracemalloc.start()
            result = getattr(detector, method)(X)
            beyond.append(tracemalloc.get_traced_memory()[1] - result.nbytes)
            tracemalloc.stop()
        assert beyond[1] - beyond[0] < 50_000 and beyond[1] < 6 * IMAGE_CHUNK * 28 * 28 * 8


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_is_refused(method):
    with pytest.raises(NotFittedError):
        getattr(Autoencoder(), method)(normal_rows())
    call = getattr(on_images(Autoencoder).fit(pixels()), method)
    with pytest.raises(ValueError, match="wants"):
        call(pixels(shape=(1, 8, 7)))
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        call(2 + pixels() / 255)
    with pytest.raises(ValueError, match="NaN"):
        call(np.full((2, 64), np.nan))
    with pytest.raises(ValueError, match="60 features"):
        call(np.zeros((2, 60)))


def test_a_map_of_tables_is_refused_with_what_to_do():
    X = normal_rows()
    for cls in (Autoencoder, VAE):
        with pytest.raises(ValueError, match=r"fitted on a table. Fit it with image_shape=.*or"):
            tiny(cls).fit(X).anomaly_map(X)
    # That of the fit counts.
    detector = on_images(Autoencoder).fit(pixels()).set_params(image_shape=None)
    assert detector.anomaly_map(pixels()).shape == (40, 8, 8)


@pytest.mark.parametrize("energy", ["scalar", "masked"])
@pytest.mark.parametrize("method", METHODS)
def test_energies_without_a_reconstruction_do_not_have_it(energy, method):
    detector = tiny("MPDR", energy=energy)
    fitted = tiny("MPDR", energy=energy).fit(normal_rows())
    for mpdr in (detector, fitted, fitted.set_params(energy="reconstruction")):
        with pytest.raises(AttributeError, match=f"'MPDR' has no .*{method}") as caught:
            getattr(mpdr, method)
        assert f"energy='{energy}' has no" in str(caught.value.__cause__)
    assert hasattr(MPDR(), method) and hasattr(tiny("MPDR").fit(normal_rows()), method)
    assert not hasattr(make_pipeline(tiny("EBM"))[-1], method)
