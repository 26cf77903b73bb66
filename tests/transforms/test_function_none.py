"""None from `Function.backward` is no gradient at all, as in PyTorch: not zeros."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn, optim
from wengert.errors import DisconnectedError
from wengert.nn import functional as F

torch = pytest.importorskip("torch")


def functions(base, sum_):
    """The same rules, here and there."""

    class Second(base):
        """x + w, of which only w has a gradient."""

        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(w)
            return x * w

        @staticmethod
        def backward(ctx, g):
            (w,) = ctx.saved_tensors
            return None, g * w * w

    class Nothing(base):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return None

    class Both(base):
        @staticmethod
        def forward(ctx, x, w):
            return x * 2, w * 3

        @staticmethod
        def backward(ctx, gx, gw):
            return gx * 2, None

    class Asked(base):
        """What PyTorch's own examples do: a gradient for what needs one."""

        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            needs = ctx.needs_input_grad
            return g * w if needs[0] else None, g * x if needs[1] else None

    return Second, Nothing, Both, Asked, sum_


OURS = functions(wg.autograd.Function, np.sum)
THEIRS = functions(torch.autograd.Function, torch.sum)


def leaf(world, v):
    if world is OURS:
        return wg.tensor(np.array(v), requires_grad=True)
    return torch.tensor(v, dtype=torch.float64, requires_grad=True)


def only_none(world):
    second, *_, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    total(second.apply(x, w)).backward()
    return x, w


def beside_another(world):
    second, *_, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    (total(second.apply(x, w)) + total(x * x)).backward()
    return x, w


def twice(world):
    second, *_, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    (total(second.apply(x, w)) + total(second.apply(w, x))).backward()
    return x, w


def through_operations(world):
    second, *_, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    total(second.apply(x * x * 2.0 + w[0], w)).backward()
    return x, w


def operations_with_another_way(world):
    second, *_, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    y = x * x
    (total(second.apply(y, w)) + total(y * 3.0)).backward()
    return x, w


def nothing_at_all(world):
    _, nothing, *_, total = world
    x = leaf(world, [1.0, 2.0])
    total(nothing.apply(x)).backward()
    return (x,)


def nothing_in_a_sum(world):
    _, nothing, *_, total = world
    x = leaf(world, [1.0, 2.0])
    (total(nothing.apply(x * 3.0)) + total(x)).backward()
    return (x,)


def several_outputs(world):
    *_, both, _, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    a, b = both.apply(x, w)
    total(a * b).backward()
    return x, w


def what_is_asked_for(world):
    *_, asked, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    total(asked.apply(x, w * 1.0)).backward()
    return x, w


def accumulated(world):
    second, *_, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    total(x * w).backward()
    total(second.apply(x, w)).backward()
    return x, w


def second_order(world):
    second, *_, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    auto = wg.autograd if world is OURS else torch.autograd
    y = total(second.apply(x, w)) + total(x * x * w)
    gx, gw = auto.grad(y, (x, w), create_graph=True)
    total(gx * gw).backward()
    return x, w


def second_order_of_what_has_none(world):
    second, *_, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    auto = wg.autograd if world is OURS else torch.autograd
    y = total(second.apply(x, w * w))
    (gw,) = auto.grad(y, (w,), create_graph=True)
    total(gw * gw).backward()
    return x, w


def kept_and_hooked(world):
    second, *_, total = world
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    y = x * 2.0
    y.retain_grad()
    z = second.apply(y, w)
    seen = []
    z.grad_fn.register_hook(lambda gs, _: seen.append([g is None for g in gs]))
    total(z).backward()
    assert seen == [[True, False]]
    assert y.grad is None
    return x, w


CASES = [
    only_none, beside_another, twice, through_operations, operations_with_another_way,
    nothing_at_all, nothing_in_a_sum, several_outputs, what_is_asked_for, accumulated,
    second_order, second_order_of_what_has_none, kept_and_hooked,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("debug", [False, True])
def test_as_in_pytorch(case, debug):
    theirs = case(THEIRS)
    with wg.debug() if debug else np.errstate():
        ours = case(OURS)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-15)


@pytest.mark.parametrize("world", [OURS, THEIRS])
def test_a_gradient_that_is_asked_for(world):
    second, *_, total = world
    auto, error = (
        (wg.autograd, DisconnectedError) if world is OURS else (torch.autograd, RuntimeError)
    )
    x, w = leaf(world, [1.0, 2.0]), leaf(world, [3.0, 4.0])
    y = total(second.apply(x, w))
    with pytest.raises(error, match="allow_unused"):
        auto.grad(y, (x, w), retain_graph=True)
    gx, gw = auto.grad(y, (x, w), allow_unused=True, retain_graph=True)
    assert gx is None
    assert gw.tolist() == [9.0, 16.0]
    gx, gw = auto.grad(y, (x, w), materialize_grads=True, retain_graph=True)
    assert gx.tolist() == [0.0, 0.0]
    with pytest.raises(error, match="allow_unused"):
        auto.grad(y, (x,))


def test_transforms_give_zeros():
    """They have a place for every argument."""
    second = OURS[0]
    x, w = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    f = lambda x, w: np.sum(second.apply(x, w))
    for form in (f, wg.compile(f)):
        gx, gw = wg.grad(form, argnums=(0, 1))(x, w)
        assert gx.tolist() == [0.0, 0.0]
        assert gw.tolist() == [9.0, 16.0]
    gx, gw = wg.vmap(wg.grad(f, argnums=(0, 1)))(x, w)
    assert gx.tolist() == [0.0, 0.0]
    assert gw.tolist() == [9.0, 16.0]
    np.testing.assert_array_equal(wg.jacrev(f)(x, w), [0, 0])
    h = wg.jacrev(wg.grad(f, argnums=1), argnums=1)(x, w)
    np.testing.assert_array_equal(h, [[6, 0], [0, 8]])
    along_w = wg.jvp(lambda w: second.apply(x, w), (w,), (np.ones(2),))[1]
    assert along_w.tolist() == [9.0, 16.0]
    along_x = wg.jvp(lambda x: second.apply(x, w), (x,), (np.ones(2),))[1]
    assert along_x.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("once", [False, True])
def test_rules_for_plain_arrays(once):
    """A backward that cannot take tensors, in a sweep that is recorded."""
    mark = wg.autograd.function.once_differentiable if once else lambda f: f

    class Plain(wg.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(w)
            return x * w

        @staticmethod
        @mark
        def backward(ctx, g):
            (w,) = ctx.saved_tensors
            return None, g * (w if once else np.array([float(v) for v in w]))

    x, w = leaf(OURS, [1.0, 2.0]), leaf(OURS, [3.0, 4.0])
    np.sum(Plain.apply(x * 1.0, w)).backward(create_graph=True)
    assert x.grad is None
    assert w.grad.detach().tolist() == [3.0, 4.0]
    batched = wg.vmap(wg.grad(lambda x, w: np.sum(Plain.apply(x, w)), argnums=(0, 1)))
    gx, gw = batched(np.ones((3, 2)), np.ones((3, 2)) * 5)
    assert (gx == 0).all()
    assert (gw == 5).all()


def test_lanes_that_differ():
    """None in some lanes is zero in these."""

    class Sometimes(wg.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x)
            return x * w

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return (g if float(x[0]) > 0 else None), None

    f = lambda x: np.sum(Sometimes.apply(x, wg.tensor(np.ones(2))))
    x = np.array([[1.0, 2.0], [-1.0, 2.0], [3.0, 1.0]])
    assert wg.vmap(wg.grad(f))(x).tolist() == [[1, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize("compiled", [False, True])
def test_an_optimizer_leaves_what_has_no_gradient_alone(compiled):
    """Zeros would let weight decay and momentum move it."""
    model = nn.Linear(2, 2, rng=0, dtype="float64")
    adam = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)

    class Frozen(wg.autograd.Function):
        @staticmethod
        def forward(ctx, w, b):
            return w + b

        @staticmethod
        def backward(ctx, g):
            return None, g.sum(axis=0)

    def step(x):
        adam.zero_grad()
        loss = F.mse_loss(x @ Frozen.apply(model.weight, model.bias), np.ones((3, 2)))
        loss.backward()
        adam.step()
        return loss

    run = wg.compile(step) if compiled else step
    before, bias = model.weight.numpy().copy(), model.bias.numpy().copy()
    for _ in range(3):
        run(np.ones((3, 2)))
    np.testing.assert_array_equal(model.weight.numpy(), before)
    assert (model.bias.numpy() != bias).all()
    assert model.weight.grad is None


def test_a_graph_that_was_not_swept_is_freed_all_the_same():
    nothing = OURS[1]
    x = leaf(OURS, [1.0, 2.0])
    hidden = x * 3.0
    y = np.sum(nothing.apply(hidden))
    y.backward()
    assert x.grad is None
    (hidden * 2.0).sum().backward()  # nobody has used this part up
    assert x.grad.tolist() == [6.0, 6.0]
