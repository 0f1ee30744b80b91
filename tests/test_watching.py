"""scikit-learn's own callbacks: what they are told, alone, in pipelines and in searches."""

import copy
import importlib.util
import pickle
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skgenad
from skgenad import CheckpointFolder
from skgenad._core import watching
from skgenad.metrics import NormalOnlyCV

from ._settings import DETECTORS, normal_rows, tiny
from .test_docs import PAGES, snippets_of

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has none before 1.9")


class Recorder:
    """Writes down all that it is told."""

    max_propagation_depth = None

    def __init__(self, stop_at=None):
        self.told, self.stop_at = [], stop_at

    def setup(self, estimator, context):
        self.told.append("setup")

    def on_fit_task_begin(self, estimator, context, *, X=None):
        path = path_of(context)
        self.told.append(("begin", *path))
        assert X is not None or not path[-1].startswith(("fit", "epoch"))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        path = path_of(context)
        self.told.append(("end", *path))
        self.fitted = fitted_estimator
        return self.stop_at is not None and path[-1] == self.stop_at

    def teardown(self, estimator, context):
        self.told.append("teardown")

    @property
    def begun(self):
        return [item[1:] for item in self.told if item[0] == "begin"]

    @property
    def ended(self):
        return [item[1:] for item in self.told if item[0] == "end"]


def path_of(context):
    """Names of a task and of those that it is in, from the outermost one."""
    parents = () if context.parent is None else path_of(context.parent)
    number = f" {context.task_id}" if context.task_name == "epoch" else ""
    return (*parents, f"{context.task_name}{number}")


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_tells_of_all_that_its_history_has(detector):
    recorder, X = Recorder(), normal_rows()
    fitted = tiny(detector).set_callbacks(recorder).fit(X)
    epochs = zip(fitted.history_["stage"], fitted.history_["epoch"], strict=True)
    wanted = [("fit", stage, f"epoch {epoch - 1}") for stage, epoch in epochs]
    assert [path for path in recorder.begun if len(path) == 3] == wanted
    assert sorted(recorder.begun) == sorted(recorder.ended)
    assert recorder.told[0] == "setup" and recorder.told[-1] == "teardown"
    assert recorder.ended[-1] == ("fit",)
    np.testing.assert_array_equal(recorder.fitted.predict(X), fitted.predict(X))
    # They change nothing, and leave nothing.
    np.testing.assert_array_equal(fitted.score_samples(X), tiny(detector).fit(X).score_samples(X))
    assert vars(fitted).keys() - vars(tiny(detector).fit(X)).keys() == {"_skl_callbacks"}


def test_tasks_say_how_many_there_will_be():
    numbers = {}

    class Numbers(Recorder):
        def on_fit_task_begin(self, estimator, context):
            numbers[path_of(context)] = context.max_subtasks

    tiny("NAE", max_steps=120).set_callbacks(Numbers()).fit(normal_rows())
    assert numbers[("fit",)] == 2
    assert numbers[("fit", "pretrain")] == 1 and numbers[("fit", "energy")] == 3
    assert numbers[("fit", "energy", "epoch 2")] == 0


def test_a_callback_can_end_a_stage():
    recorder = Recorder(stop_at="epoch 1")
    detector = tiny("VAE", max_steps=1000).set_callbacks(recorder).fit(normal_rows())
    assert len(detector.history_) == 2
    assert recorder.ended[-2:] == [("fit", "vae"), ("fit",)]


class Failing(Recorder):
    def on_fit_task_end(self, estimator, context):
        raise RuntimeError("on purpose")


def test_a_failure_tears_down_and_leaves_the_detector_as_it_was():
    failing = Failing()
    detector = tiny("VAE").set_callbacks(failing)
    before = dict(vars(detector))
    with pytest.raises(RuntimeError, match="on purpose"):
        detector.fit(normal_rows())
    assert vars(detector) == before
    assert failing.told[-1] == "teardown"


def test_a_stage_that_ends_early_is_ended():
    recorder = Recorder()
    detector = tiny("Autoencoder", max_steps=200, learning_rate=1e30).set_callbacks(recorder)
    with pytest.warns(skgenad.DivergenceWarning):
        detector.fit(normal_rows())
    assert sorted(recorder.begun) == sorted(recorder.ended)


def test_a_fit_that_goes_on_tells_of_all_its_epochs(tmp_path):
    every = CheckpointFolder(tmp_path / "run", seconds=0)
    X, recorder = normal_rows(), Recorder()

    class Kill(Recorder):
        def on_fit_task_begin(self, estimator, context):
            if path_of(context)[-1] == "epoch 1" and path_of(context)[1] == "energy":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny("NAE", max_steps=120).set_callbacks(Kill()).fit(X, checkpoint=every)
    resumed = tiny("NAE", max_steps=120).set_callbacks(recorder).fit(X, checkpoint=every)
    whole = Recorder()
    tiny("NAE", max_steps=120).set_callbacks(whole).fit(X)
    # Of a stage that was done there is no more to tell than that.
    assert recorder.ended == [path for path in whole.ended if path[1:] != ("pretrain", "epoch 0")]
    assert len(resumed.history_) == 4


def test_pipelines_hand_theirs_on():
    recorder = Recorder()
    pipeline = make_pipeline(StandardScaler(), tiny("VAE")).set_callbacks(recorder)
    pipeline.fit(normal_rows())
    assert ("fit", "fit", "vae", "epoch 0") in recorder.ended
    assert recorder.told.count("setup") == recorder.told.count("teardown") == 1
    assert "_parent_callback_ctx" not in vars(pipeline[-1])


def test_searches_hand_theirs_on():
    X = normal_rows()
    recorder, y = Recorder(), np.zeros(len(X))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), tiny("VAE")),
        {"vae__latent_dim": [1, 2]},
        cv=NormalOnlyCV(2),
        scoring=lambda estimator, X, y: float(estimator.score_samples(X).mean()),
        refit=True,
    )
    search.set_callbacks(recorder).fit(X, y)
    epochs = [path for path in recorder.ended if path[-1] == "epoch 0"]
    assert len(epochs) == 2 * 2 + 1
    assert all(path[-2] == "vae" for path in epochs)


def test_scikit_learns_own_bar_shows_stages(capfd):
    pytest.importorskip("rich")
    bar = callback.ProgressBar(max_propagation_depth=None)
    make_pipeline(StandardScaler(), tiny("NAE")).set_callbacks(bar).fit(normal_rows())
    shown = capfd.readouterr().out
    assert "NAE - pretrain" in shown and "NAE - energy" in shown


def test_scikit_learns_own_monitor_scores_the_fitted_detector():
    X, y = normal_rows(), np.ones(60)
    monitor = callback.ScoringMonitor(scoring="accuracy")
    detector = tiny("VAE", contamination=0.2).set_callbacks(monitor).fit(X, y)
    (row,) = monitor.get_logs().data
    assert row["accuracy"] == np.mean(detector.predict(X) == 1) == 0.8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the packages themselves
@pytest.mark.parametrize("package", ["rich", "tensorboard", "mlflow"])
def test_the_guides_snippet_runs(package, tmp_path, monkeypatch, capfd):
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    (snippet,) = [
        snippet
        for snippet in snippets_of(PAGES["guide/training.rst"])
        if snippet.needs == [f"needs-{package}"]
    ]
    exec(compile(snippet.code, "training.rst", "exec"), namespace := {"__name__": "snippet"})
    if package == "rich":
        assert "VAE" in capfd.readouterr().out
        assert namespace["search"].best_score_ > 0.5
        return
    if package == "mlflow":
        run = namespace["mlflow"].last_active_run()
        history = namespace["mlflow"].MlflowClient().get_metric_history(run.info.run_id, "energy")
        assert run.info.status == "FINISHED" and len(history) > 1
        assert set(run.data.params) == {"max_steps", "latent_dim"}
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "runs" / "nae")).Reload()
    steps = [event.step for event in events.Scalars("Loss/train_loss")]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > 4  # stages do not overlap
    assert {"negative_energy", "energy"} <= set(events.Tags()["scalars"])


def test_copies_share_callbacks_as_scikit_learns_do():
    recorder = Recorder()
    detector = tiny("VAE").set_callbacks(recorder)
    assert clone(detector)._skl_callbacks == [recorder]
    fitted = detector.fit(normal_rows())
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        loaded.score_samples(normal_rows()), fitted.score_samples(normal_rows())
    )
    assert copy.deepcopy(fitted)._skl_callbacks[0].told == recorder.told
    assert "_skl_callbacks" not in vars(detector.set_callbacks())


def test_older_releases_have_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)  # to import it is an error
    spec = importlib.util.spec_from_file_location("skgenad._core.older", watching.__file__)
    older = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(older)
    assert not hasattr(older.CallbackSupportMixin, "set_callbacks")
    assert not hasattr(older.CallbackSupportMixin(), "_skl_callbacks")
