"""The ground floors: trees, abstract values, loop nests, graphs, errors."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import wengert as wg
from wengert import errors, nest, owned, tree
from wengert.graph import Graph, evaluate, verify
from wengert.ops.elementwise import exp, tanh
from wengert.ops.linear import Sum
from wengert.transforms.staging import stage
from wengert.types import Aval, normalize_axes


def test_trees():
    x = {"a": [1, (2, None)], "b": 3}
    leaves, structure = tree.flatten(x)
    assert leaves == [1, 2, 3]
    assert tree.unflatten(structure, leaves) == x
    assert tree.paths(structure) == ["['a'][0]", "['a'][1][0]", "['b']"]
    with pytest.raises(errors.ArgumentError, match="structures differ"):
        tree.map(lambda a, b: a, [1], [1, 2])
    with pytest.raises(errors.ArgumentError, match="3 leaves, not 1"):
        tree.unflatten(structure, [1])


def test_a_registered_class_is_a_node():
    class Box:
        def __init__(self, inside):
            self.inside = inside

    tree.register(Box, lambda b: ([b.inside], [".inside"], None), lambda aux, c: Box(c[0]))
    doubled = tree.map(lambda v: v * 2, Box([1, 2]))
    assert doubled.inside == [2, 4]
    g = wg.grad(lambda box: np.sum(box.inside[0] ** 2))(Box([np.ones(2)]))
    assert g.inside[0].tolist() == [2, 2]


def test_abstract_values():
    assert repr(Aval.of(np.ones((2, 3), np.float32))) == "float32[2, 3]"
    assert Aval.of(2).weak
    assert not Aval.of(np.float64(2)).weak
    assert normalize_axes((-1, 0), 3) == (0, 2)
    with pytest.raises(ValueError, match="duplicate"):
        normalize_axes((0, -3), 3)


def test_nests():
    matmul = nest.Nest((2, 2, 3), ((0, 2), (2, 1)), (0, 1), "add", "mul")
    assert str(matmul) == "y[i,j] add= mul(x0[i,k], x1[k,j])  for i<2 j<2 k<3"
    nest.verify(matmul, ((2, 3), (3, 2)))
    for wrong, shapes, why in [
        (matmul._replace(combine=None), ((2, 3), (3, 2)), "disagree"),
        (matmul._replace(combine="sub"), ((2, 3), (3, 2)), "unknown combine"),
        (matmul._replace(out=(0, 0)), ((2, 3), (3, 2)), "not a set"),
        (matmul, ((2, 3),), "operands"),
        (matmul, ((2, 2), (3, 2)), "past an axis"),
        (matmul, ((2,), (3, 2)), "read with"),
        (matmul._replace(loads=((None, 2), (2, 1))), ((2, 3), (3, 2)), "index 0 alone"),
    ]:
        with pytest.raises(ValueError, match=why):
            nest.verify(wrong, shapes)
    empty = nest.evaluate(nest.Nest((2, 0), ((0, 1),), (0,), "add"), (np.ones((2, 0)),), {})
    assert empty.tolist() == [0, 0]


def test_graphs_are_verified():
    g = Graph()
    a = g.input(Aval((3,), np.dtype(float)))
    b = g.emit(exp, (a,))
    g.outputs = [b]
    verify(g)
    assert str(g).splitlines() == ["in   %0: float64[3]", "%1: float64[3] = exp(%0)", "out  %1"]
    x = np.arange(3.0)
    assert evaluate(g, x)[0].tolist() == np.exp(x).tolist()
    g.lines.reverse()
    g.lines.append(g.lines[0])
    with pytest.raises(ValueError, match="defined twice"):
        verify(g)
    other = Graph()
    with pytest.raises(errors.LevelError, match="another graph"):
        other.emit(tanh, (a,))
    with pytest.raises(errors.ShapeError):
        g.emit(wg.ops.elementwise.add, (a, g.input(Aval((2,), np.dtype(float)))))
    wrong = Graph()
    a = wrong.input(Aval((3,), np.dtype(float)))
    v = wrong.emit(Sum((0,), False), (a,))
    v.aval = Aval((1,), np.dtype(float))
    with pytest.raises(ValueError, match="should be"):
        verify(wrong)


def test_a_staged_function_is_the_function(x, close):
    def f(x):
        return np.sum(np.tanh(x) ** 2) + np.linalg.norm(x) * wg.softmax(x)[1]

    for h in (f, wg.grad(f), wg.hessian(f), lambda x: wg.jvp(f, x, np.ones(3))[1]):
        close(evaluate(stage(h, x).graph, x)[0], h(x))
    rows = np.stack([x, 2 * x])
    close(evaluate(stage(wg.vmap(wg.grad(f)), rows).graph, rows)[0], wg.vmap(wg.grad(f))(rows))


def test_a_staged_training_step_updates_its_state(x, close):
    w = wg.tensor(np.ones((3, 2)), requires_grad=True)
    data = np.arange(12.0).reshape(4, 3) / 10

    def step(x):
        w.grad = None
        loss = np.mean(np.tanh(x @ w) ** 2)
        loss.backward()
        with wg.no_grad():
            w.__isub__(0.1 * w.grad)
        return loss

    before = w.data.copy()
    staged = stage(step, data)
    close(w, before)
    assert staged.written == [w]
    loss, after = evaluate(staged.graph, data, w.data)
    close(step(data), loss)
    close(w, after)


def test_a_branch_while_staging_is_refused(x):
    with pytest.raises(errors.LevelError, match="not known while"):
        stage(lambda x: x if x[0] > 0 else -x, x)
    assert wg.trace.MODES == 0


def test_the_import_is_numpy_alone():
    code = (
        "import sys; import numpy; before = set(sys.modules); import wengert; "
        "new = {m.split('.')[0] for m in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names) - {'wengert', 'numpy'}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_public_names():
    for name in wg.__all__:
        assert getattr(wg, name) is not None
    public = {n for n in vars(wg) if not n.startswith("_")}
    modules = {n for n in public if isinstance(getattr(wg, n), ModuleType)}
    opened = {n for n in wg._NAMES if n in public}  # those that somebody has asked for already
    assert public - modules - opened == {n for n in wg.__all__ if not n.startswith("_")} - modules
    for name in wg._NAMES:
        assert getattr(wg, name) is not None
        assert name in dir(wg)
    assert wg.nn.Linear is not None
    assert "optim" in dir(wg)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = wg.nonsense


def test_the_package_is_typed_and_small():
    root = Path(wg.__file__).parent
    assert (root / "py.typed").exists()

    def size(*skip):
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as z:
            for path in root.rglob("*"):
                if path.suffix in (".py", ".npz") and not {*skip} & {*path.parts}:
                    z.write(path, path.relative_to(root.parent))  # as a wheel names it
        return len(wheel.getvalue())

    assert size("llvm", "native") < 1_050_000  # what writes machine code apart
    assert size() < 1_150_000


@pytest.mark.parametrize(
    ("data", "places"),
    [
        ([[1.0, 2.0], [3.0]], ["data[0] : shape [2]", "data[1] : shape [1]"]),
        ([[1.0, 2.0], 3.0], ["data[0] : shape [2]", "data[1] : shape []"]),
        (
            [[[1.0], [2.0]], [[3.0], [4.0, 5.0]]],
            ["data[1][0] : shape [1]", "data[1][1] : shape [2]"],
        ),
        ([np.ones(2), np.ones(3)], ["data[0] : shape [2]", "data[1] : shape [3]"]),
    ],
)
def test_ragged_lists_make_no_tensor(data, places):
    with pytest.raises(errors.ShapeError, match="rows of different shapes") as caught:
        wg.tensor(data)
    for part in (*places, "fix: ", "test_small_rooms.py"):
        assert part in str(caught.value)


def test_words_make_no_tensor():
    with pytest.raises(errors.ArgumentError, match="could not convert string to float"):
        wg.tensor(["one"], dtype=float)


def test_what_nobody_can_write_is_kept_as_it_is():
    fixed = np.frombuffer(np.arange(4.0).tobytes()).reshape(2, 2)
    open_to_all, locked = np.ones(3), np.ones(3)
    locked.flags.writeable = False  # until its owner changes that
    assert [owned.immutable(x) for x in (fixed, fixed[0], open_to_all, locked)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert owned.own(fixed) is fixed
    assert owned.own(locked) is not locked
