"""The picture of a sound: one time axis, scores at their frames, what is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from skgenad import GroupedDetector, Mahalanobis
from skgenad.inspection import SpectrogramDisplay
from skgenad.preprocessing import LogMelFrames

pytest.importorskip("librosa")
RATE = 8000


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted():
    features = LogMelFrames(8, 3, n_fft=256, hop_length=200, sampling_rate=RATE)
    sound = 0.1 * np.random.RandomState(0).randn(10 * RATE)
    (frames,) = features.fit_transform([sound])
    return features, Mahalanobis(device="cpu", random_state=0).fit(frames), sound


def test_a_knock_is_where_it_is_in_both_panels(fitted):
    features, detector, sound = fitted
    knocked = sound.copy()
    knocked[3 * RATE : 3 * RATE + 100] += 5
    display = SpectrogramDisplay.from_estimator(detector, knocked, features=features)
    (frames,) = features.transform([knocked])
    np.testing.assert_array_equal(display.scores, detector.anomaly_score(frames))
    np.testing.assert_array_equal(display.image_.get_array(), features.spectrogram(knocked))
    times, loud = display.line_.get_xdata(), display.spectrogram.sum(axis=0).argmax()
    np.testing.assert_allclose(times, features.frame_times(len(frames)))
    assert abs(times[display.scores.argmax()] - 3) <= 0.051
    left, right, *_ = display.image_.get_extent()
    assert (right - left) * (loud + 0.5) / display.spectrogram.shape[1] + left == pytest.approx(3)
    assert display.axes_[0].get_xlim() == display.axes_[1].get_xlim() == (left, right)
    assert display.threshold == -detector.offset_
    (path,) = display.beyond_.get_paths()[:1]
    assert path.vertices[:, 1].min() >= display.threshold


def test_panels_are_as_wide_as_each_other_and_bands_have_their_frequencies(fitted):
    features, detector, sound = fitted
    display = SpectrogramDisplay.from_estimator(detector, sound, features=features, cmap="gray")
    display.figure_.draw_without_rendering()
    above, below = (panel.get_position() for panel in display.axes_)
    assert (above.x0, above.x1) == pytest.approx((below.x0, below.x1))
    assert above.y0 > below.y1
    labels = [label.get_text() for label in display.axes_[0].get_yticklabels()]
    frequencies = features.frequencies()
    assert [labels[0], labels[-1]] == [f"{frequencies[0]:.0f}", f"{frequencies[-1]:.0f}"]
    assert display.image_.get_cmap().name == "gray"
    assert display.colorbar_.ax.get_ylabel() == "dB"


def test_plain_arrays_are_drawn_in_axes_of_others():
    figure, axes = plt.subplots(1, 2)
    display = SpectrogramDisplay(spectrogram=np.zeros((4, 10)), scores=np.arange(7.0))
    display.plot(axes[1], colorbar=False)
    assert display.figure_ is figure and display.beyond_ is display.colorbar_ is None
    np.testing.assert_array_equal(display.line_.get_xdata(), 1.5 + np.arange(7))
    assert display.axes_[0].get_title(loc="left") == "mel band"


def test_a_single_frame_beyond_the_threshold_is_filled():
    scores = np.array([0.0, 0.0, 3.0, 0.0, 0.0])
    display = SpectrogramDisplay(spectrogram=np.zeros((4, 5)), scores=scores, threshold=1.0).plot()
    (path,) = display.beyond_.get_paths()
    np.testing.assert_allclose(path.get_extents().bounds, (4 / 3, 1, 4 / 3, 2))


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_a_detector_of_clips_has_the_features_and_the_threshold(fitted, reduce):
    features, _, sound = fitted
    clips = sound.reshape(10, -1)
    detector = GroupedDetector(
        Mahalanobis(device="cpu"), features=features, reduce=reduce, random_state=0
    ).fit(clips)
    display = SpectrogramDisplay.from_estimator(detector, clips[3])
    np.testing.assert_array_equal(display.scores, -detector.instance_scores(clips[3:4])[0])
    assert display.threshold == -detector.offset_ and display.hop == 200 / RATE


def test_mistakes_are_said(fitted):
    features, detector, sound = fitted
    with pytest.raises(TypeError, match="LogMelFrames, needs .* spectrogram.* Pass features="):
        SpectrogramDisplay.from_estimator(detector, sound)
    with pytest.raises(TypeError, match="needs a detector with offset_"):
        SpectrogramDisplay.from_estimator(features, sound)
    with pytest.raises(ValueError, match="There are 5 scores of frames, but 4 spectra"):
        SpectrogramDisplay(spectrogram=np.zeros((2, 4)), scores=np.zeros(5)).plot()
