"""Log-mel frames: the challenge's formula, its order, and what files and waveforms must be."""

import pickle
import sys
import weakref

import numpy as np
import pytest
from sklearn.base import clone

import skgenad
from skgenad import GroupedDetector, Mahalanobis
from skgenad.pipeline import make_pipeline
from skgenad.preprocessing import LogMelFrames
from skgenad.preprocessing._sound_files import read_file

librosa = pytest.importorskip("librosa")
soundfile = pytest.importorskip("soundfile")
RATE = 16000


def noise(n=RATE, seed=0):
    return (0.1 * np.random.RandomState(seed).randn(n)).astype(np.float32)


def written(path, wave, rate=RATE, **settings):
    soundfile.write(path, wave, rate, **settings)
    return path


def quick(**settings):
    return LogMelFrames(
        **{"n_mels": 16, "n_frames": 3, "n_fft": 256, "hop_length": 100, **settings}
    )


@pytest.mark.parametrize(
    "settings", [{}, {"power": 1.0, "n_mels": 64, "n_frames": 1, "n_fft": 512}]
)
def test_frames_are_those_of_the_challenges_baseline(settings):
    wave, features = noise(), LogMelFrames(**settings)
    (frames,) = features.fit_transform([wave])
    n_mels, k, power = features.n_mels, features.n_frames, features.power
    mel = librosa.feature.melspectrogram(
        y=wave, sr=RATE, n_fft=features.n_fft, hop_length=512, n_mels=n_mels, power=power
    )
    decibels = 20.0 / power * np.log10(mel + np.finfo(float).eps)
    n = decibels.shape[1] - k + 1
    wanted = np.zeros((n, n_mels * k))
    for t in range(k):
        wanted[:, n_mels * t : n_mels * (t + 1)] = decibels[:, t : t + n].T
    assert frames.shape == (32 - k + 1, n_mels * k) and frames.dtype == np.float32
    np.testing.assert_allclose(frames, wanted, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(features.spectrogram(wave)[:, 3], frames[3, :n_mels])


def test_a_shift_by_a_hop_shifts_frames_by_one():
    wave, features = noise(4000), quick()
    one, later = features.fit_transform([wave, wave[100:]])
    inside = slice(2, -4)  # beyond the ends there is silence
    np.testing.assert_allclose(later[inside], one[1:][inside], atol=1e-3)
    # What frames share is the same spectrum.
    np.testing.assert_array_equal(one[1:, :16], one[:-1, 16:32])


@pytest.mark.parametrize("hertz", [300, 1000, 3500, 7000])
def test_a_sine_falls_into_the_band_of_its_frequency(hertz):
    features = LogMelFrames(n_frames=1)
    (frames,) = features.fit_transform([np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)])
    bands = features.frequencies()
    loudest = frames[2:-2].mean(axis=0).argmax()
    assert bands[loudest - 1] < hertz < bands[loudest + 1]
    assert features.get_feature_names_out()[loudest] == f"{bands[loudest]:.0f} Hz t"


def test_decibels_of_waves_twice_as_large():
    wave = noise()
    for power in (1.0, 2.0):
        one, two = quick(power=power).fit_transform([wave, 2 * wave])
        np.testing.assert_allclose(two - one, 20 * np.log10(2), atol=1e-3)
    (silence,) = quick().fit_transform([np.zeros(1000)])
    np.testing.assert_allclose(silence, 10 * np.log10(np.finfo(float).eps), atol=1e-3)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_files_and_waveforms_agree(tmp_path, ending):
    waves = [noise(n, n) for n in (2000, 3000)]
    paths = [written(tmp_path / f"{n}.{ending}", w, subtype="PCM_24") for n, w in enumerate(waves)]
    features = quick().fit(paths)
    wanted = features.transform(waves)
    for given in (paths, [str(path) for path in paths], np.array([str(path) for path in paths])):
        for one, other in zip(features.transform(given), wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)
    assert [len(one) for one in wanted] == [21 - 2, 31 - 2]
    same = features.transform(np.stack([waves[0], waves[0]]))
    np.testing.assert_array_equal(same[0], same[1])


def test_the_mean_of_a_sound_is_one_row():
    waves = [noise(2000), noise(1500, 1)]
    rows = quick(pool="mean").fit_transform(waves)
    frames = quick().fit_transform(waves)
    assert rows.shape == (2, 48) and rows.dtype == np.float32
    np.testing.assert_allclose(rows, [one.mean(axis=0) for one in frames], rtol=1e-5)


def test_frames_are_a_view_of_the_spectra():
    (frames,) = quick().fit_transform([noise()])
    assert frames.base is not None and not frames.flags.writeable
    assert frames.strides == (16 * 4, 4)


def test_one_channel_is_taken(tmp_path):
    left, right = noise(2000), noise(2000, 1)
    path = written(tmp_path / "both.wav", np.column_stack([left, right]), subtype="FLOAT")
    for channel, wave in enumerate((left, right)):
        features = quick(channel=channel).fit([path])
        one, other = features.transform([path, wave])
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"both.wav' has 2 channel\(s\); channel=2 counts from 0"):
        quick(channel=2).fit([path]).transform([path])


def test_the_rate_is_that_of_the_first_file_if_it_is_not_given(tmp_path):
    path = written(tmp_path / "a.wav", noise(2000), 8000)
    features = quick(sampling_rate=None).fit([path])
    assert features.sampling_rate_ == 8000
    np.testing.assert_allclose(features.frame_times(2), [100 / 8000, 200 / 8000])
    other = written(tmp_path / "b.wav", noise(2000), 16000)
    with pytest.raises(ValueError, match="b.wav' has 16000 samples a second, not .*=8000"):
        features.transform([path, other])
    with pytest.raises(ValueError, match="Waveforms do not say .* Pass sampling_rate"):
        quick(sampling_rate=None).fit([noise()])


@pytest.mark.parametrize("ending", ["wav", "flac", "aiff", "w64", "rf64"])
def test_a_file_that_is_cut_off_is_no_shorter_sound(tmp_path, ending):
    path = written(tmp_path / f"cut.{ending}", noise())
    features = quick().fit([path])
    assert len(features.transform([path])[0]) == 159
    whole = path.read_bytes()
    for share in (0.5, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=f"cut.{ending}' (is cut off|cannot be read to its)"):
            features.transform([path])


def test_a_file_from_a_pipe_whose_header_knows_no_length_is_read(tmp_path):
    path = written(tmp_path / "pipe.wav", noise(2000))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(quick().fit_transform([path])[0]) == 19


def test_what_is_no_sound_is_refused(tmp_path):
    good = written(tmp_path / "good.wav", noise(2000))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no sound at all, but many words")
    written(tmp_path / "nothing.wav", np.zeros(0))
    written(tmp_path / "short.flac", noise(255))
    written(tmp_path / "nan.wav", np.full(2000, np.nan), subtype="FLOAT")
    features = quick().fit([good])
    for name, message in (
        ("empty.wav", "empty.wav' cannot be read as sound: it is empty"),
        ("text.wav", "text.wav' cannot be read as sound: "),
        ("nothing.wav", r"nothing.wav' has 0 samples, and a frame needs 256"),
        ("short.flac", r"short.flac' has 255 samples, and a frame needs 256 \(0.016 s\)"),
        ("nan.wav", "nan.wav' has samples that are NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            features.transform([good, tmp_path / name])
    for path in (tmp_path / "gone.wav", tmp_path):
        with pytest.raises(FileNotFoundError, match="There is no file '"):
            features.transform([path])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "no sound in X: 0 sample"),
        ("a.wav", r"X is one file. Pass a list of them: \['a.wav'\]"),
        (noise(), r"X is one waveform. Pass a list of them: \[X\]"),
        (3, "must be a list of files or of waveforms, got int"),
        ([np.zeros((2, 1000))], r"X\[0\] must be the path .* of shape \(2, 1000\)"),
        ([None], r"X\[0\] must be the path of a file .* got NoneType"),
        ([noise(), noise().astype(np.int16)], r"X\[1\] must be a waveform of floats, got int16"),
        ([np.full(1000, np.inf)], r"X\[0\] has values that are NaN, infinite"),
        ([np.full(1000, 1e200)], r"X\[0\] has values that are NaN, infinite or too large"),
        ([1e30 * noise()], r"X\[0\] has values too large for energies in float32"),
        ([noise(199)], r"X\[0\] has 199 samples, and a frame needs 256"),
    ],
)
def test_mistakes_of_waveforms_are_said(X, message):
    with pytest.raises(ValueError, match=message):
        quick().fit([noise()]).transform(X)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_mels": 0}, "'n_mels' parameter of LogMelFrames must be an int"),
        ({"pool": "max"}, "'pool' parameter of LogMelFrames"),
        ({"power": 0.0}, "'power' parameter of LogMelFrames"),
        ({"sampling_rate": 16e3}, "'sampling_rate' .* Write sampling_rate=16000"),
        (
            {"n_mels": 128},
            r"of n_mels=128 bands lie between .* n_fft=256 .* Write fewer .* n_fft=512",
        ),
    ],
)
def test_mistakes_of_settings_are_said(settings, message):
    with pytest.raises(ValueError, match=message):
        quick(**settings).fit([noise()])


@pytest.mark.filterwarnings("ignore:Empty filters")
def test_bands_without_a_frequency_are_those_whose_weights_are_nothing():
    found = []
    for n_mels in range(50, 110, 3):
        empty = (librosa.filters.mel(sr=RATE, n_fft=256, n_mels=n_mels).max(axis=1) == 0).sum()
        try:
            LogMelFrames(n_mels, n_fft=256).fit([noise()])
        except ValueError as error:
            found.append(n_mels)
            assert str(error).startswith(f"{empty} of n_mels={n_mels} bands")
        else:
            assert not empty
    assert 0 < len(found) < 20


def test_pipelines_of_clips_are_saved(tmp_path):
    clips = [noise(2000, seed) for seed in range(40)]
    model = make_pipeline(quick(n_mels=4, pool="mean"), Mahalanobis(random_state=0)).fit(clips)
    scores = model.score_samples(clips)
    assert scores.shape == (40,) and model.predict([np.sin(np.arange(2000.0))])[0] == -1
    skgenad.save(model, tmp_path / "file")
    for copy in (skgenad.load(tmp_path / "file"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copy.score_samples(clips), scores)
    assert repr(clone(model)) == repr(model)


@pytest.mark.parametrize("pool", [None, "mean"])
def test_one_file_is_in_memory_at_a_time(tmp_path, monkeypatch, pool):
    paths = [written(tmp_path / f"{k}.wav", noise(2000, k)) for k in range(4)]
    features, alive = quick(pool=pool).fit(paths), []

    def reading(*args):
        assert [ref() for ref in alive] == [None] * len(alive)
        wave = read_file(*args)
        alive.append(weakref.ref(wave))
        return wave

    monkeypatch.setattr("skgenad.preprocessing._log_mel.read_file", reading)
    features.transform(paths)
    assert len(alive) == 4


def test_without_the_packages_the_extra_is_named(monkeypatch, tmp_path):
    path = written(tmp_path / "a.wav", noise(2000))
    fitted = quick().fit([path])
    for module in ("librosa", "soundfile"):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, module, None)
            with pytest.raises(ImportError, match=rf'{module}.*pip install "skgenad\[audio\]"'):
                fitted.transform([path])


def test_detectors_of_clips_read_files_and_are_saved(tmp_path):
    paths = [written(tmp_path / f"{k}.wav", noise(2000, k)) for k in range(20)]
    odd = written(tmp_path / "odd.flac", noise(1500) + 0.3 * np.sin(np.arange(1500.0)))
    model = GroupedDetector(
        Mahalanobis(), features=quick(n_mels=4, n_frames=2), random_state=0
    ).fit(paths)
    scores = model.score_samples([*paths[:3], odd])
    assert scores.argmin() == 3 and model.predict([odd])[0] == -1
    assert [len(one) for one in model.instance_scores([paths[0], odd])] == [20, 15]
    skgenad.save(model, tmp_path / "file")
    for copy in (skgenad.load(tmp_path / "file"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copy.score_samples([*paths[:3], odd]), scores)
    # A clip's score is its own, whatever it is scored with.
    np.testing.assert_array_equal(model.score_samples([odd]), scores[3:])
