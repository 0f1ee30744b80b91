"""skorch's callbacks: each stock one works in every trained detector, or is refused in words."""

import copy
import json
import pickle
import threading

import numpy as np
import pytest
import skorch.callbacks
import torch
from sklearn.base import clone
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    Freezer,
    GradientNormClipping,
    Initializer,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    MlflowLogger,
    NeptuneLogger,
    ParamMapper,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    SacredLogger,
    TensorBoard,
    TrainEndCheckpoint,
    Unfreezer,
    WandbLogger,
)

from skgenad.metrics import anomaly_roc_auc

from ._settings import having, normal_rows, tiny

TRAINED = having("callbacks")
trained_detectors = pytest.mark.parametrize("detector", TRAINED, ids=lambda d: d.__name__)


class Writer:
    """Stands for TensorBoard's SummaryWriter: it holds a lock, so it cannot be copied."""

    def __init__(self):
        self.lock, self.scalars, self.closed = threading.Lock(), [], 0

    def add_scalar(self, tag, scalar_value, global_step):
        self.scalars.append((tag, float(scalar_value), global_step))

    def close(self):
        self.closed += 1


class Run(dict):
    """Stands for the runs and experiments of loggers: takes whatever it is told."""

    info = type("Info", (), {"run_id": "1"})

    def __init__(self):
        super().__init__()
        self.logged = []

    def __missing__(self, key):
        return self

    def __getattr__(self, name):
        if name.startswith("__") or name == "get_params":
            raise AttributeError(name)
        return lambda *args, **kwargs: self.logged.append((name, args, kwargs))


def last_loss(net, X, y):
    return net.history[-1, "batches", :, "train_loss"][-1]


class Neptune(NeptuneLogger):
    """Without the package: it asks for its classes."""

    def _log_integration_version(self):
        pass

    @staticmethod
    def _model_summary_file(model):
        return type(model).__name__


def works(folder):
    """Make every stock callback in a way in which it works without rows held out."""
    return {
        "BatchScoring": BatchScoring(last_loss, on_train=True, name="score"),
        "Callback": Callback(),
        "Checkpoint": Checkpoint("train_loss_best", dirname=folder, load_best=True),
        "EarlyStopping": EarlyStopping("train_loss", load_best=True),
        "EpochScoring": EpochScoring(last_loss, on_train=True, name="score"),
        "EpochTimer": EpochTimer,
        "Freezer": Freezer("nothing.of.this.name"),
        "GradientNormClipping": GradientNormClipping(1.0),
        "LRScheduler": LRScheduler("StepLR", step_size=1),
        "MlflowLogger": MlflowLogger(Run(), Run()),
        "NeptuneLogger": Neptune(Run(), close_after_train=False),
        "ParamMapper": ParamMapper("*", fn=lambda p: None),
        "PassthroughScoring": PassthroughScoring("train_loss", on_train=True),
        "PrintLog": PrintLog(sink=lambda text: None),
        "ProgressBar": ProgressBar(),
        "TrainEndCheckpoint": TrainEndCheckpoint(dirname=folder),
        "TensorBoard": TensorBoard(Writer()),
        "SacredLogger": SacredLogger(Run(), log_on_batch_end=True),
        "Unfreezer": Unfreezer("*"),
        "WandbLogger": WandbLogger(Run(), save_model=False),
    }


# Refused by detectors of several stages, or by all; the last one is no callback.
OTHERS = {"Initializer", "InputShapeSetter", "LoadInitState", "WarmRestartLR"}
CHANGING = ["GradientNormClipping", "LRScheduler", "Checkpoint", "EarlyStopping", "Unfreezer"]


def test_every_stock_callback_is_looked_at(tmp_path):
    assert set(works(str(tmp_path))) | OTHERS == set(skorch.callbacks.__all__)


@trained_detectors
def test_every_stock_callback_works(detector, tmp_path):
    X = normal_rows()
    plain = tiny(detector).fit(X)
    callbacks = works(str(tmp_path))
    changing = [[(name, callbacks.pop(name))] for name in CHANGING]
    for given in [*changing, list(callbacks.items())]:
        fitted = tiny(detector, callbacks=given).fit(X)
        assert list(fitted.history_["stage"]) == list(plain.history_["stage"]), given
        assert np.isfinite(fitted.score_samples(X)).all()
    # The last ones only look on.
    np.testing.assert_array_equal(fitted.score_samples(X), plain.score_samples(X))


@trained_detectors
def test_the_net_has_skorchs_history(detector):
    histories = {}

    class Keep(Callback):
        def on_train_end(self, net, **kwargs):
            histories[net.stage.name] = net.history

    table = tiny(detector, max_steps=120, callbacks=[Keep()]).fit(normal_rows()).history_
    epochs = []
    for name, history in histories.items():
        rows = table[table["stage"] == name]
        assert history[:, "train_loss"] == rows["loss"].tolist()
        assert history[:, "dur"] == rows["seconds"].tolist()
        best = np.minimum.accumulate(rows["loss"]) == rows["loss"]
        assert history[:, "train_loss_best"] == best.tolist()
        epochs += history[:, "epoch"]
        if "validation_loss" in rows:
            assert history[:, "valid_loss"] == rows["validation_loss"].tolist()
            assert any(history[:, "valid_loss_best"])
        batches = [b for row in history[:, "batches"] for b in row if "train_loss" in b]
        assert len(batches) == rows["step"].iloc[-1]
        json.dumps(history.to_list())
    assert epochs == list(range(1, len(table) + 1))
    assert not [name for name in table if name.startswith(("train_", "valid_"))]


def test_epochs_count_on_over_continued_training():
    writer = Writer()
    detector = tiny("MPDR", callbacks=[TensorBoard(writer)])
    for _ in range(3):
        detector.partial_fit(normal_rows())
    steps = [step for tag, _, step in writer.scalars if tag == "Loss/train_loss"]
    assert steps == list(range(1, len(detector.history_) + 1))
    detector.fit(normal_rows())  # anew
    steps = [step for tag, _, step in writer.scalars if tag == "Loss/train_loss"]
    assert steps[-1] == len(detector.history_) < len(steps)


VALIDATING = [d for d in TRAINED if "validation_fraction" in d._get_param_names()]


@pytest.mark.parametrize("detector", VALIDATING, ids=lambda d: d.__name__)
def test_callbacks_see_the_rows_held_out(detector, tmp_path):
    X = normal_rows()
    settings = {"validation_fraction": 0.3, "max_steps": 200}
    plain = tiny(detector, **settings).fit(X)
    if "validation_loss" not in plain.history_:
        pytest.skip("its validation rows are for its units alone")
    path = str(tmp_path / "{net.stage.name}.pt")
    rows = []

    def size(net, X, y):
        rows.append(len(X))
        return 1.0

    callbacks = [
        EpochScoring(size, name="one"),
        BatchScoring(size, name="two", lower_is_better=False),
        PassthroughScoring("valid_loss"),
        Checkpoint(f_params=path, f_optimizer=None, f_criterion=None, f_history=None),
        EarlyStopping(),
    ]
    fitted = tiny(detector, **settings, callbacks=callbacks).fit(X)
    assert set(rows) == {18}
    assert (fitted.history_["one"] == 1).all() and (fitted.history_["two"] == 1).all()
    assert fitted.history_["event_cp"].any()
    np.testing.assert_array_equal(fitted.score_samples(X), plain.score_samples(X))
    state = torch.load(path.replace("{net.stage.name}", fitted.history_["stage"].iloc[-1]))
    assert state.keys() == fitted.module_.state_dict().keys()


def test_a_net_predicts_energies_and_trains_on():
    X = normal_rows()
    plain = tiny("Autoencoder").fit(X)
    seen = []

    def predicted(net, X, y):
        seen.append(net.predict(X.numpy()))
        return seen[-1].mean()

    scoring = EpochScoring(predicted, on_train=True, name="energy")
    each = BatchScoring(predicted, on_train=True, name="each")
    fitted = tiny("Autoencoder", callbacks=[scoring, each]).fit(X)
    np.testing.assert_allclose(seen[-1], fitted._score(X) * -1, rtol=1e-5)
    np.testing.assert_array_equal(fitted.score_samples(X), plain.score_samples(X))
    assert fitted.history_["energy"].iloc[-1] == pytest.approx(seen[-1].mean())


def test_a_net_whose_inputs_are_no_rows_says_so():
    def predicted(net, X, y):
        return net.predict(X).mean()

    with pytest.raises(NotImplementedError, match="stage 'decoder' is trained on what was made"):
        tiny("CANCE", callbacks=[EpochScoring(predicted, name="x", on_train=True)]).fit(
            normal_rows()
        )


def test_a_freezer_freezes_for_the_stage():
    X = normal_rows()
    before = {}

    class Start(Callback):
        def on_train_begin(self, net, **kwargs):
            before.update({n: p.detach().clone() for n, p in net.module_.named_parameters()})

    pattern = "net.encoder.*"
    fitted = tiny("Autoencoder", callbacks=[Start(), Freezer(pattern)]).fit(X)
    frozen = [n for n in before if n.startswith("net.encoder.")]
    moved = {n for n, p in fitted.module_.named_parameters() if not torch.equal(p, before[n])}
    assert frozen and moved == before.keys() - set(frozen)
    assert all(p.requires_grad for p in fitted.module_.parameters())


def test_what_a_callback_draws_is_repeatable_and_moves_nothing(global_rng_untouched):
    X, drawn = normal_rows(), []

    class Draw(Callback):
        def on_batch_begin(self, net, **kwargs):
            drawn.append(float(torch.rand(())))

    plain = tiny("Autoencoder").fit(X).score_samples(X)
    for _ in range(2):
        scores = tiny("Autoencoder", callbacks=[Draw()]).fit(X).score_samples(X)
        np.testing.assert_array_equal(scores, plain)
    half = len(drawn) // 2
    assert drawn[:half] == drawn[half:] and len(set(drawn)) == half
    noise = Initializer("*.weight", fn=torch.nn.init.uniform_)
    first, second = (tiny("Autoencoder", callbacks=[noise]).fit(X) for _ in range(2))
    np.testing.assert_array_equal(first.score_samples(X), second.score_samples(X))
    assert not np.array_equal(first.score_samples(X), plain)


def test_a_learning_rate_scheduler_takes_the_schedules_place():
    rates = []

    class Rates(Callback):
        def on_batch_begin(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    policy = LRScheduler("StepLR", step_size=1, gamma=0.5)
    tiny("Autoencoder", max_steps=150, learning_rate=1e-2, callbacks=[policy, Rates()]).fit(
        normal_rows()
    )
    assert rates == pytest.approx([1e-2] * 50 + [5e-3] * 50 + [2.5e-3] * 50)


def test_a_print_log_prints(capfd):
    tiny("Autoencoder", callbacks=[PrintLog()]).fit(normal_rows())
    out, _ = capfd.readouterr()
    assert "train_loss" in out and "epoch" in out


def test_skorchs_progress_bar_counts_our_steps(capfd):
    tiny("Autoencoder", max_steps=120, callbacks=[ProgressBar()]).fit(normal_rows())
    _, err = capfd.readouterr()
    assert "/50" in err and "/4 " not in err


# ---- refused ---------------------------------------------------------------------------------


@trained_detectors
def test_what_watches_rows_held_out_is_refused_before_training_without_them(detector):
    kinds = (EarlyStopping(), EarlyStopping, Checkpoint(), ("mine", WandbLogger(Run())))
    scores = (EpochScoring(last_loss), BatchScoring(last_loss), PassthroughScoring("x"))
    for callback in (*kinds, *scores, LRScheduler("ReduceLROnPlateau", monitor="valid_loss")):
        steps = []

        class Count(Callback):
            def on_batch_begin(self, net, **kwargs):
                steps.append(1)  # noqa: B023

        made = tiny(detector, callbacks=[Count(), callback])
        if "validation_fraction" in made.get_params():
            made.set_params(validation_fraction=0.0)
        with pytest.raises(ValueError, match=r"callbacks\[1\], .*(held out|holds out).* or|;") as e:
            made.fit(normal_rows())
        assert "train_loss" in str(e.value) or "on_train=True" in str(e.value) or "save" in str(e)
        assert ("validation_fraction=0.2" in str(e.value)) == (
            "validation_fraction" in made.get_params()
        )
        assert not steps and not hasattr(made, "module_")


REFUSED = [
    (lambda net: None, TypeError, "is a function.*skorch.callbacks.Callback.*on_epoch_end"),
    (print, TypeError, "is a function"),
    ("log", TypeError, "of type str"),
    (3, TypeError, "of type int"),
    (dict, TypeError, "is a function"),
    (("a", "b", "c"), TypeError, "a pair"),
    (("a", print), TypeError, "is a function"),
    (TensorBoard, TypeError, "cannot be made without arguments.*TensorBoard\\(...\\)"),
    (EpochScoring("accuracy", on_train=True), ValueError, "scoring\\(net, X, y\\)"),
    (EpochScoring(None, on_train=True), ValueError, "net.predict"),
    (EpochScoring(accuracy_score, on_train=True), ValueError, "net.predict"),
    (BatchScoring(make_scorer(accuracy_score), on_train=True), ValueError, "net.predict"),
    (InputShapeSetter(), ValueError, "leave it out"),
    (Checkpoint("train_loss_best", f_pickle="a.pkl"), ValueError, "f_params"),
    (TrainEndCheckpoint(f_pickle="a.pkl"), ValueError, "f_params"),
    (EarlyStopping("no_such"), ValueError, "monitor='no_such'.* It has .*'train_loss'"),
    (Checkpoint("no_such", dirname=""), ValueError, "monitor='no_such'.*'train_loss_best'"),
    (LRScheduler("ReduceLROnPlateau", monitor="no_such"), ValueError, "'train_loss'"),
]


@pytest.mark.parametrize(("callback", "error", "words"), REFUSED)
def test_what_cannot_work_is_refused_in_words(callback, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = tiny("Autoencoder", callbacks=[callback])
    with pytest.raises(error, match=words):
        made.fit(normal_rows())
    assert not hasattr(made, "module_") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("callback", [Initializer("*"), LoadInitState(Checkpoint())])
def test_what_would_begin_every_stage_anew_is_refused_of_several(callback):
    with pytest.raises(ValueError, match="stages 'manifold'.*'energy'"):
        tiny("MPDR", callbacks=[callback]).fit(normal_rows())


def test_one_stage_can_begin_from_a_file(tmp_path):
    X, folder = normal_rows(), str(tmp_path)
    keep = TrainEndCheckpoint(dirname=folder)
    first = tiny("Autoencoder", callbacks=[keep]).fit(X)
    second = tiny("Autoencoder", callbacks=[keep, LoadInitState(keep)])
    assert len(second.fit(X).history_) == 2 * len(first.history_)
    assert second.history_["loss"].iloc[-1] < first.history_["loss"].iloc[-1]
    weights = Initializer("*", fn=torch.nn.init.zeros_)
    zero = tiny("Autoencoder", max_steps=1, learning_rate=1e-12, callbacks=[weights]).fit(X)
    assert all(p.abs().max() < 1e-6 for p in zero.module_.parameters())


# ---- copies ----------------------------------------------------------------------------------


class Odd(Callback):
    """A user's: its attributes are no parameters of its constructor."""

    def __init__(self):
        self.lines, self.lock, self.writer = [], threading.Lock(), Writer()

    def on_epoch_end(self, net, **kwargs):
        self.lines.append(net.history[-1, "train_loss"])


def with_locks():
    return [Odd(), ("board", TensorBoard(Writer())), EarlyStopping("train_loss"), EpochTimer]


def copied_in_part(made, copies):
    """Copy a detector that has `with_locks`, and look at what the copy has."""
    given = made.callbacks
    twin = copies(made)
    assert made.callbacks is given and type(twin.callbacks) is list
    odd, (name, board), stopper, timer = twin.callbacks
    assert odd is not given[0] and odd.lock is given[0].lock and odd.writer is given[0].writer
    assert odd.lines == given[0].lines and odd.lines is not given[0].lines
    assert name == "board" and board is not given[1][1] and board.writer is given[1][1].writer
    assert stopper is not given[2] and timer is EpochTimer
    return twin


@trained_detectors
@pytest.mark.parametrize("copies", [clone, copy.deepcopy])
def test_copies_have_callbacks_of_their_own_that_share_what_cannot_be_copied(detector, copies):
    copied_in_part(tiny(detector, callbacks=with_locks()), copies)


@pytest.mark.parametrize("copies", [clone, copy.deepcopy])
def test_copies_of_a_fitted_detector_train_with_their_own_callbacks(copies):
    given = with_locks()
    made = tiny("Autoencoder", callbacks=given).fit(normal_rows())
    twin = copied_in_part(made, copies)
    assert made.callbacks is given and hasattr(twin, "module_") == (copies is copy.deepcopy)
    n = len(given[0].lines)
    twin.fit(normal_rows())
    assert len(given[0].lines) == n < len(twin.callbacks[0].lines)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_search_with_callbacks_that_cannot_be_copied(n_jobs, recwarn):
    X, y = normal_rows(), np.tile([0, 1], 30)
    writer = Writer()
    board = TensorBoard(writer)
    made = tiny("Autoencoder", callbacks=(board,))
    search = GridSearchCV(
        made,
        {"max_steps": [5, 6]},
        scoring=anomaly_roc_auc,
        cv=2,
        n_jobs=n_jobs,
        error_score="raise",
    )
    if n_jobs:
        with pytest.warns(UserWarning, match=r"callbacks\[0\]=TensorBoard cannot be pickled"):
            search.fit(X, y)
    else:
        search.fit(X, y)
        assert len(writer.scalars) > 5
    assert search.best_estimator_.callbacks[0].writer is writer


@pytest.mark.parametrize("fitted", [False, True])
def test_pickles_keep_the_callbacks_that_can_be_pickled(fitted):
    scoring = EpochScoring(lambda net, X, y: 0.5, on_train=True, name="half")
    given = [EarlyStopping("train_loss"), TensorBoard(Writer()), ("half", scoring)]
    made = tiny("Autoencoder", callbacks=given)
    if fitted:
        made.fit(normal_rows())
    with pytest.warns(UserWarning, match=r"callbacks\[1\]=TensorBoard cannot be pickled") as caught:
        again = pickle.loads(pickle.dumps(made))
    assert len(caught) == 1 and made.callbacks is given
    stopper, (name, half) = again.callbacks
    assert isinstance(stopper, EarlyStopping) and name == "half"
    assert (again.fit(normal_rows()).history_["half"] == 0.5).all()


def test_a_pickle_without_trouble_does_not_warn():
    made = tiny("Autoencoder", callbacks=(EarlyStopping("train_loss"), EpochTimer))
    again = pickle.loads(pickle.dumps(made.fit(normal_rows())))
    assert type(again.callbacks) is tuple and again.callbacks[1] is EpochTimer


def test_with_tensorboard_itself(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    made = tiny("MPDR", callbacks=[TensorBoard(SummaryWriter(str(tmp_path)))])
    fitted = clone(made).fit(normal_rows())
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    steps = [event.step for event in events.Scalars("Loss/train_loss")]
    assert steps == list(range(1, len(fitted.history_) + 1))
