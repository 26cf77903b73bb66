"""Side effects in Python are neither lost nor doubled; exceptions leave what they would leave."""

import collections
import io
import itertools
import logging
import os
import queue
import random
import threading
import time
import warnings

import numpy as np
import pytest
from calls import BACKENDS, near, programs

import wengert as wg
from wengert.errors import CompileWarning

X = np.arange(6.0).reshape(2, 3) + 1
CASES = {}


def case(said):
    """Register () -> (function, () -> what it has changed), and what the warning says."""

    def add(make):
        CASES[make.__name__] = make, said
        return make

    return add


@case("it changes `log`")
def append():
    log = []

    def f(x):
        log.append(1)
        return x * 2

    return f, lambda: log


class Counter:
    n = 0

    def __init__(self):
        self.n, self.log, self.inner, self.last = 0, [], {"deep": [0]}, None

    def count(self, x):
        self.n += 1
        return x * self.n

    def keep(self, x):
        self.log.append(np.sum(x))
        return x * 2

    def deep(self, x):
        self.inner["deep"][0] += 1
        return x * self.inner["deep"][0]

    def remember(self, x):
        self.last = x * 3
        return x * 2

    def of_the_class(self, x):
        type(self).n += 1
        return x * type(self).n

    def new(self, x):
        self.more = getattr(self, "more", 0) + 1
        return x * self.more


def counted(name, read, said):
    def make():
        c = Counter()
        Counter.n = 0
        return getattr(c, name), lambda: read(c)

    CASES[f"method_{name}"] = make, said


counted("count", lambda c: c.n, "it changes `self.n`")
counted("keep", lambda c: [float(v) for v in c.log], "it changes `self.log`")
counted("deep", lambda c: c.inner, "it changes `self.inner['deep'][0]`")
counted("remember", lambda c: None if c.last is None else np.sum(c.last), "it changes `self.last`")
counted("of_the_class", lambda c: Counter.n, "it changes `Counter.n`")
counted("new", lambda c: c.more, "it changes `self.more`")


@case("it changes `self.n`")
def slots():
    class Slotted:
        __slots__ = ("n",)

        def __init__(self):
            self.n = 0

        def f(self, x):
            self.n += 1
            return x * self.n

    c = Slotted()
    return c.f, lambda: c.n


@case("it changes `n`")
def nonlocal_variable():
    n = 0

    def f(x):
        nonlocal n
        n += 1
        return x * n

    return f, lambda: n


@case("it changes `TOTAL`")
def global_variable():
    global TOTAL
    TOTAL = 0

    def f(x):
        global TOTAL
        TOTAL += 1
        return x * TOTAL

    return f, lambda: TOTAL


@case("it changes `MADE_LATE`")
def new_global():
    globals().pop("MADE_LATE", None)

    def f(x):
        global MADE_LATE
        MADE_LATE = globals().get("MADE_LATE", 0) + 1
        return x * MADE_LATE

    return f, lambda: MADE_LATE


def container(name, made, change, said):
    def make():
        c = made()

        def f(x):
            change(c)
            return x * len(c)

        return f, lambda: repr(c)

    CASES[name] = make, said


container("dict", dict, lambda c: c.update({len(c): 1}), "it changes `c")
container("set", set, lambda c: c.add(len(c)), "it changes `c`")
container("deque", collections.deque, lambda c: c.append(1), "it changes `c`")
container("counter", collections.Counter, lambda c: c.update("ab"), "it changes `c")
container("defaultdict", lambda: collections.defaultdict(list), lambda c: c["a"].append(1),
          "it changes `c")  # fmt: skip
container("bytearray", bytearray, lambda c: c.append(1), "it changes `c`")
container("long_list", lambda: [0] * 1000, lambda c: c.__setitem__(3, c[3] + 1), "it changes `c[3]")
container("nested", lambda: [[[0]]], lambda c: c[0][0].append(1), "it changes `c[0][0]`")
container("array", lambda: np.zeros(3), lambda c: c.__setitem__(0, c[0] + 1), "it changes `c`")


@case("it changes `items`")
def default_argument():
    def f(x, items=[]):  # noqa: B006 - that is what is tested
        items.append(1)
        return x * len(items)

    return f, lambda: f.__defaults__


@case("it changes `")
def attribute_of_a_function():
    def f(x):
        f.n = getattr(f, "n", 0) + 1
        return x * f.n

    return f, lambda: f.n


@case("it may read on in the iterator `it`")
def iterator():
    it = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    return lambda x: x * next(it), lambda: None


@case("it may read on in the iterator `it`")
def generator():
    it = (float(k) for k in itertools.count())

    def f(x):
        for k in it:
            return x * k
        return x

    return f, lambda: None


@case("it prints")
def printing():
    out = io.StringIO()

    def f(x):
        print("here", file=out)
        return x * 2

    return f, out.getvalue


@case("it uses a file")
def file_method():
    class Log:
        def __init__(self):
            self.file = io.StringIO()

    log = Log()

    def write(text):
        log.__dict__["file"].write(text)

    def f(x):
        write("a")
        return x * 2

    return f, log.file.getvalue


@case("it uses the clock")
def logged():
    out = io.StringIO()
    logger = logging.Logger("of the test")
    logger.addHandler(logging.StreamHandler(out))

    def f(x):
        logger.warning("here")
        return x * 2

    return f, out.getvalue


@case("it changes `q.")
def queued():
    q = queue.Queue()

    def f(x):
        q.put(1)
        return x * 2

    return f, q.qsize


@case("it draws from numpy.random")
def numpy_random():
    np.random.seed(0)  # noqa: NPY002 - that is what is tested
    return lambda x: x * np.random.rand(), lambda: None  # noqa: NPY002 - the same


@case("it draws from Python's random")
def python_random():
    random.seed(0)
    return lambda x: x * random.random(), lambda: None


@case("it draws from `stream` itself")
def numpy_generator():
    stream = np.random.default_rng(0)
    return lambda x: x * stream.normal(), lambda: None


@case("it draws from `legacy` itself")
def numpy_random_state():
    legacy = np.random.RandomState(0)
    return lambda x: x * legacy.rand(), lambda: None


@case("it asks the operating system")
def environment():
    os.environ.pop("WENGERT_OF_THE_TEST", None)

    def f(x):
        n = int(os.environ.get("WENGERT_OF_THE_TEST", "0")) + 1
        os.environ["WENGERT_OF_THE_TEST"] = str(n)
        return x * n

    return f, lambda: os.environ["WENGERT_OF_THE_TEST"]


@case("it changes `seen`")
def hook_of_a_leaf():
    seen = []
    w = wg.tensor(np.ones((2, 3)), requires_grad=True)
    w.register_hook(lambda g: seen.append(1))

    def f(x):
        (x * w).sum().backward()
        return x * 2

    return f, lambda: (len(seen), w.grad.tolist())


@case("it changes `seen`")
def hook_of_a_result():
    seen = []
    w = wg.tensor(np.ones((2, 3)), requires_grad=True)

    def f(x):
        y = x * w
        y.register_hook(lambda g: seen.append(1))
        y.sum().backward()
        return x * 2

    return f, lambda: (len(seen), w.grad.tolist())


@case("it prints")
def caught_by_the_function():
    out = io.StringIO()

    def f(x):
        try:
            print("here", file=out)
        except Exception:
            return x * 0
        return x * 2

    return f, out.getvalue


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_lost_or_doubled(name, backend):
    make, said = CASES[name]
    runs, messages = [], []
    for compiled in (False, True):
        f, state = make()
        g = wg.compile(f, backend=backend) if compiled else f
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runs.append([(np.asarray(g(X)), repr(state())) for _ in range(4)])
        messages = [str(w.message) for w in caught if issubclass(w.category, CompileWarning)]
    near(*runs)
    assert len(messages) == 1, messages
    assert said in messages[0]


def test_a_cache_that_is_filled_once_is_no_effect():
    class Lazy:
        table = None

        def run(self, x):
            if self.table is None:
                self.table = np.linspace(0, 1, 3)
            return x * self.table

    c = Lazy()
    g = wg.compile(c.run, backend="numpy")
    for _ in range(3):
        np.testing.assert_allclose(g(X), X * np.linspace(0, 1, 3))
    assert programs(g) == 1


def test_functions_of_its_own_may_change_what_is_its_own():
    def f(x):
        rows, seen = [], {}

        def add(row):
            rows.append(row * 2)
            seen[len(rows)] = row
            return len(rows)

        for row in x:
            add(row)
        return np.stack(rows), seen

    g = wg.compile(f, backend="numpy")
    near(f(X), g(X))
    near(f(X), g(X))
    assert programs(g) == 1


def test_a_container_among_the_arguments_that_is_changed():
    def f(state):
        state["n"] = state["n"] + 1
        return state["n"] * 2

    results = []
    for g in (f, wg.compile(f, backend="numpy")):
        state = {"n": X.copy()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CompileWarning)
            results.append(([g(state) for _ in range(3)], state))
    near(*results)


# ------------------------------------------------------------------ exceptions


class Broken(Exception):
    pass


def stepping(fail):
    w = wg.tensor(np.ones(3), requires_grad=True)
    log = []

    def f(x):
        (w * x).sum().backward()
        with wg.no_grad():
            w[...] = w * 0.5
        fail(log)
        return w * 2

    return f, w


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exception_leaves_what_it_leaves_uncompiled(backend):
    def fail(log):
        raise Broken("here")

    states = []
    for compiled in (False, True):
        f, w = stepping(fail)
        g = wg.compile(f, backend=backend) if compiled else f
        for _ in range(3):
            with pytest.raises(Broken, match="here"):
                g(X)
        states.append([w.detach(), w.grad])
    near(*states)


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors_of_the_house_are_the_same(backend):
    def f(x, y):
        return x @ y

    g = wg.compile(f, backend=backend)
    t = wg.tensor(X)
    for _ in range(2):
        errors = []
        for h in (f, g):
            with pytest.raises(wg.errors.ShapeError) as caught:
                h(t, X)
            errors.append(str(caught.value))
        assert errors[0] == errors[1]
        np.testing.assert_allclose(g(t, X.T).numpy(), X @ X.T)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_value_that_is_refused_in_the_middle_of_many_runs(backend):
    from wengert.nn import functional as F

    w = wg.tensor(np.linspace(-1, 1, 9).reshape(3, 3), requires_grad=True)

    def f(x, y):
        loss = F.cross_entropy(x @ w, y)
        loss.backward()
        return loss.detach()

    g = wg.compile(f, backend=backend)
    good, bad = np.array([0, 2]), np.array([0, 3])
    first = g(X, good)
    grad = w.grad.numpy().copy()
    with pytest.raises(IndexError) as caught:
        g(X, bad)
    with pytest.raises(IndexError) as plain:
        f(X, bad)
    assert str(caught.value).split("\n")[0] == str(plain.value).split("\n")[0]
    np.testing.assert_array_equal(w.grad.numpy(), grad)
    w.grad = None
    near(first, g(X, good))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_operation_that_fails_on_its_values(backend):
    w = wg.tensor(np.ones((2, 2)))

    def f(x):
        w[...] = w + 1
        return np.linalg.inv(x)

    states = []
    for compiled in (False, True):
        w = wg.tensor(np.ones((2, 2)))
        g = wg.compile(f, backend=backend) if compiled else f
        good = [g(np.array([[2.0, 0.0], [0.0, k]])) for k in (1.0, 4.0)]
        with pytest.raises(np.linalg.LinAlgError, match=r"[Ss]ingular"):
            g(np.zeros((2, 2)))
        states.append([good, w.detach(), g(np.eye(2)), w.detach()])
    near(*states)


def test_an_interrupted_recording_leaves_no_trace():
    w = wg.tensor(np.ones(3), requires_grad=True)
    log, stop = [], [True]

    def f(x):
        y = np.tanh(w * x)
        log.append(1)
        if stop[0]:
            raise KeyboardInterrupt
        log.pop()
        return y.sum()

    g = wg.compile(f, backend="numpy")
    with pytest.raises(KeyboardInterrupt):
        g(X)
    assert type(w.data) is np.ndarray
    assert not wg.trace.MODES
    stop[0] = False
    log.clear()
    near(f(X), g(X))
    near(f(X), g(X))


def test_a_function_that_goes_on_without_a_number_is_not_recorded():
    def f(x):
        try:
            k = float(np.sum(x))
        except Exception:
            k = 0.0
        return x * k

    g = wg.compile(f, backend="numpy")
    with pytest.warns(CompileWarning, match="goes on when it is refused"):
        near(f(X), g(X))
    near(f(X), g(X))


def test_a_function_that_asks_what_it_was_given():
    def f(x):
        return x * (2.0 if isinstance(x, np.ndarray) else 3.0)

    g = wg.compile(f, backend="numpy")
    with pytest.warns(CompileWarning, match="asks whether a value is an array or a tensor"):
        near(f(X), g(X))


def test_the_message_has_its_parts_and_the_line_of_the_user():
    def f(x):
        if np.sum(x) > 0:
            return x
        return -x

    g = wg.compile(f, backend="numpy")
    with pytest.warns(CompileWarning) as caught:
        g(X)
    text = str(caught[0].message)
    line = f.__code__.co_firstlineno + 1
    assert caught[0].filename == __file__
    assert "f runs uncompiled: " in text
    assert "fix: wg.where(condition, a, b)" in text
    assert f"test_compile_effects.py:{line}, in f" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        g(X)
        g(-X)


def test_time_and_threads():
    def clock(x):
        return x * time.perf_counter()

    def started(x):
        threading.Thread(target=lambda: None).start()
        return x

    for f in (clock, started):
        g = wg.compile(f, backend="numpy")
        with pytest.warns(CompileWarning, match=r"it (uses the clock|starts a thread)"):
            g(X)
