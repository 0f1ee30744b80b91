"""skorch's callbacks that users bring: which can work in a fit, and how they are copied.

skorch's stock callbacks are made for nets with targets, rows held out and one stage. What cannot
work is refused before training, in words that say what to write.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from joblib import wrap_non_picklable_objects
from sklearn.base import BaseEstimator
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Initializer,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    ParamMapper,
    PassthroughScoring,
    TrainEndCheckpoint,
    WandbLogger,
)

from skgenad._warn import warn

_SCORING = (BatchScoring, EpochScoring)
_OF_VALIDATION = ("valid_loss", "valid_loss_best")


# ---- which can work -------------------------------------------------------------------------


def check_callbacks(
    callbacks: Sequence[Any] | None, stages: Sequence[Any], has_held_out: bool, detector: type
) -> None:
    """Raise an error that says what to write, unless each callback can work in all stages.

    Parameters
    ----------
    callbacks : sequence or None
        What the user gave.
    stages : sequence of Stage
        The stages that will be run.
    has_held_out : bool
        Whether rows were held out for stages that validate.
    detector : type
        Class of the detector; only some have a `validation_fraction`.
    """
    stages = [stage for stage in stages if stage.n_steps]
    blind = [stage.name for stage in stages if not has_held_out or stage.validate is None]
    for place, callback in _named(callbacks or ()):
        if callback is None or not stages:
            continue
        problem = _problem_of_stages(callback, [stage.name for stage in stages])
        if problem is None and blind:
            problem = _problem_without_validation(callback, blind[0], has_held_out, detector)
        problem = problem or _problem_of_its_own(callback)
        if problem is not None:
            raise ValueError(f"{place}, {_shown(callback)}: {problem}")


def may_draw(callback: Callback) -> bool:
    """Whether a callback may draw from torch's default generators."""
    return not _is_stock(callback) or isinstance(callback, ParamMapper)


def _named(callbacks: Sequence[Any]) -> Iterator[tuple[str, Callback | None]]:
    """Yield each callback as an object, with its place among the parameters."""
    for i, item in enumerate(callbacks):
        place, callback = f"callbacks[{i}]", item
        if isinstance(item, (tuple, list)):
            if len(item) != 2 or not isinstance(item[0], str):
                raise TypeError(f"{place}={item!r} must be a callback or a pair (name, callback).")
            callback = item[1]
        if callback is not None:
            callback = _as_object(place, callback)
        yield place, callback


def _as_object(place: str, callback: Any) -> Callback:
    if isinstance(callback, type) and issubclass(callback, Callback):
        try:
            return callback()
        except TypeError as error:
            raise TypeError(
                f"{place}={callback.__name__} is a class that cannot be made without arguments "
                f"({error}): pass an object, {callback.__name__}(...)."
            ) from None
    is_callback = isinstance(callback, Callback) or hasattr(callback, "on_train_begin")
    if isinstance(callback, type) or not is_callback:
        kind = "a function" if callable(callback) else f"of type {type(callback).__name__}"
        raise TypeError(
            f"{place}={callback!r} is {kind}, and skorch calls the methods of objects. Derive a "
            "class from skorch.callbacks.Callback that does its work in a method such as "
            "on_epoch_end(self, net, **kwargs), and pass an object of it."
        )
    return callback


def _shown(callback: Any) -> str:
    name, given = type(callback).__name__, []
    for key in ("monitor", "scoring", "name"):
        value = getattr(callback, key, None)
        if value is not None:
            given.append(f"{key}={getattr(value, '__name__', repr(value))}")
    return f"{name}({', '.join(given)})"


def _problem_without_validation(
    callback: Callback, stage: str, has_held_out: bool, detector: type
) -> str | None:
    """Say what a callback lacks where a stage has no validation loss."""
    without = _way_without_validation(callback)
    if without is None:
        return None
    names = detector._get_param_names()  # type: ignore[attr-defined]
    if has_held_out:
        return f"stage {stage!r} validates on no rows; {without}."
    if "validation_fraction" in names:
        return f"no rows are held out: set validation_fraction=0.2, or {without}."
    if "stopping" in names:
        return f"no rows are held out: set stopping=EarlyStopping(), or {without}."
    return f"{detector.__name__} holds out no rows for validation; {without}."


def _way_without_validation(callback: Callback) -> str | None:
    """Say what a callback that looks at rows held out could do instead."""
    watches = getattr(callback, "monitor", None) in _OF_VALIDATION
    if isinstance(callback, Checkpoint) and watches:
        return "watch monitor='train_loss_best', or keep every epoch with monitor=None"
    if isinstance(callback, (EarlyStopping, LRScheduler)) and watches:
        return "watch monitor='train_loss'"
    if isinstance(callback, WandbLogger) and callback.save_model:
        return "pass save_model=False"
    if isinstance(callback, (*_SCORING, PassthroughScoring)) and not callback.on_train:
        return "score the training rows with on_train=True"
    return None


def _problem_of_stages(callback: Callback, stages: Sequence[str]) -> str | None:
    """Say why a callback does harm in a fit of several stages."""
    if len(stages) < 2:
        return None
    names = ", ".join(map(repr, stages))
    if isinstance(callback, LoadInitState):
        return (
            f"every one of the stages {names} would begin from the same file. Continue a fit by "
            "partial_fit or warm_start, or let save and load keep it."
        )
    if isinstance(callback, Initializer):
        return (
            f"every one of the stages {names} would set the weights anew. Use ParamMapper with a "
            "schedule that looks at net.stage.name."
        )
    return None


def _problem_of_its_own(callback: Callback) -> str | None:
    """Say why a callback can work with no detector."""
    if isinstance(callback, _SCORING):
        scoring = callback.scoring
        module = str(getattr(scoring, "__module__", ""))
        if not callable(scoring) or module.startswith("sklearn.metrics"):
            return (
                "metrics compare predictions with targets, and detectors are trained without any. "
                "Pass a function scoring(net, X, y), which gets rows X and y=None: net.predict(X) "
                "gives their energies, net.history what was measured so far."
            )
    if isinstance(callback, InputShapeSetter):
        return "networks have the number of columns already; leave it out."
    if isinstance(callback, (Checkpoint, TrainEndCheckpoint)) and callback.f_pickle:
        return "the net that trains a stage cannot be pickled. Leave f_pickle None; f_params works."
    return None


# ---- what they remember ---------------------------------------------------------------------

# Stock callbacks of which a stage that was interrupted goes on, and what they remember.
_MEMORIES: dict[str, tuple[str, ...]] = {
    "EarlyStopping": ("misses_", "dynamic_threshold_", "best_epoch_"),
    **dict.fromkeys(("EpochScoring", "BatchScoring", "PassthroughScoring"), ("best_score_",)),
    **dict.fromkeys(("PrintLog", "ProgressBar", "TensorBoard", "MlflowLogger", "EpochTimer"), ()),
    **dict.fromkeys(("Checkpoint", "TrainEndCheckpoint", "GradientNormClipping"), ()),
}


def check_memories(callbacks: Sequence[Any] | None) -> None:
    """Raise ValueError, unless what each callback remembers can be put back."""
    for place, callback in _named(callbacks or ()):
        if callback is None or _tells(callback):
            continue
        if getattr(callback, "load_best", False):
            advice = "leave load_best=False"
        elif _is_stock(callback) and type(callback).__name__ in _MEMORIES:
            continue
        else:
            advice = (
                "give it the methods state_dict(), which returns what it remembers in JSON values, "
                "{} if nothing, and load_state_dict(state)"
            )
        raise ValueError(
            f"{place}, {_shown(callback)}: what it remembers would be lost where a fit goes on "
            f"from a checkpoint; {advice}, or leave it out."
        )


def memory_of(callback: Any) -> Any:
    """Return what a callback remembers, in JSON values."""
    if _tells(callback):
        return callback.state_dict()
    values = {name: getattr(callback, name) for name in _MEMORIES[type(callback).__name__]}
    return {n: v.item() if hasattr(v, "item") else v for n, v in values.items()}


def remember(callback: Any, memory: Any) -> None:
    """Put back what a callback remembers."""
    if _tells(callback):
        callback.load_state_dict(memory)
        return
    for name in _MEMORIES[type(callback).__name__]:
        setattr(callback, name, memory[name])


def _tells(callback: Any) -> bool:
    return hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict")


def _is_stock(callback: Any) -> bool:
    return type(callback).__module__.startswith("skorch.")


def missing_column(callback: Any, history: Any) -> str | None:
    """Say that the history lacks what a stock callback watches, if that is so.

    Parameters
    ----------
    callback : Callback
        One that raised an error.
    history : History
        That of the net.

    Returns
    -------
    problem : str or None
        What to write.
    """
    name = getattr(callback, "monitor", None)
    is_stock = isinstance(callback, (EarlyStopping, Checkpoint, LRScheduler))
    if not is_stock or not isinstance(name, str) or not history or name in history[-1]:
        return None
    names = ", ".join(repr(key) for key in history[-1] if key != "batches")
    return (
        f"callbacks: {_shown(callback)} watches what the history does not have. It has {names}; "
        "put callbacks that write down more before it."
    )


# ---- how they are copied --------------------------------------------------------------------


def copied_callbacks(callbacks: Any, memo: dict[int, Any] | None = None) -> Any:
    """Copy callbacks; what in them cannot be copied, such as TensorBoard's writer, is shared.

    Parameters
    ----------
    callbacks : sequence or None
        What the user gave.
    memo : dict, default=None
        That of a deep copy which this is a part of.

    Returns
    -------
    copies : sequence or None
        Of the same type.
    """
    memo = {} if memo is None else memo
    if not isinstance(callbacks, (list, tuple)):
        return copy.deepcopy(callbacks, memo)
    for item in callbacks:
        callback = item[-1] if isinstance(item, (list, tuple)) and item else item
        state = getattr(callback, "__dict__", {})
        parts = state.values() if isinstance(state, Mapping) else ()
        # Parts first: of a callback that has one which cannot be copied, the rest can.
        for part in () if isinstance(callback, type) else (*parts, callback):
            try:
                copy.deepcopy(part, dict(memo))
            except Exception:  # whatever its copying raises, it cannot be copied
                memo[id(part)] = part
    return copy.deepcopy(callbacks, memo)


def _portable(callbacks: Any) -> Any:
    """Leave out callbacks that cannot be pickled, with a warning that names them."""
    if not isinstance(callbacks, (list, tuple)) or _why_not_pickled(callbacks) is None:
        return callbacks
    kept: list[Any] = []
    for i, item in enumerate(callbacks):
        # cloudpickle, which joblib brings along, knows functions without a name, too.
        wrapped = item if isinstance(item, type) else _wrapped(item)
        why = _why_not_pickled(item) and _why_not_pickled(wrapped)
        if why is None:
            kept.append(item if _why_not_pickled(item) is None else wrapped)
            continue
        warn(
            f"callbacks[{i}]={type(item).__name__} cannot be pickled ({why}) and was left out of "
            "the copy. Give it to the copy by set_params(callbacks=...), if it is to train again.",
        )
    return type(callbacks)(kept)


def _wrapped(item: Any) -> Any:
    return wrap_non_picklable_objects(item, keep_wrapper=False)


def _why_not_pickled(value: Any) -> str | None:
    try:
        pickle.dumps(value)
    except Exception as error:  # whatever its pickling raises, it cannot be pickled
        return f"{type(error).__name__}: {error}"
    return None


class WithCallbacks(BaseEstimator):
    """Base of what has a constructor parameter `callbacks`: clones, copies and pickles.

    scikit-learn's clone and Python's copies would fail on callbacks that hold what cannot be
    copied. Here copies have callbacks of their own, which share that alone.
    """

    # Detectors whose constructor lacks the parameter read this value.
    callbacks: Sequence[Any] | None = None

    def __sklearn_clone__(self) -> Self:
        twin = copy.copy(self)
        if "callbacks" in vars(twin):
            twin.callbacks = None
        new = super(WithCallbacks, twin).__sklearn_clone__()
        if "callbacks" in vars(self):
            new.callbacks = copied_callbacks(vars(self)["callbacks"])
        return new

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in vars(self).items():
            copied = copied_callbacks if name == "callbacks" else copy.deepcopy
            twin.__dict__[name] = copied(value, memo)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if state.get("callbacks"):
            state["callbacks"] = _portable(state["callbacks"])
        return state
