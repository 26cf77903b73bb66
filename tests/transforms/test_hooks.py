"""Hooks on tensors, nodes and leaves: their order, against PyTorch and as documented."""

import pytest

import wengert as wg

# ------------------------------------------------------------------ call sequences on both engines


class Log:
    """Tensors of one engine, and what its hooks were called with."""

    def __init__(self, make, grad, backward, array):
        self.make, self.grad, self.backward, self.array = make, grad, backward, array
        self.events = []

    def leaf(self, *values):
        return self.make(list(values), True)

    def plain(self, *values):
        return self.make(list(values), False)

    def note(self, label, *values):
        def shown(v):
            if isinstance(v, tuple | list):
                return [shown(x) for x in v]
            return None if v is None else self.array(v).tolist()

        self.events.append((label, *[shown(v) for v in values]))

    def hook(self, label, factor=None):
        def f(g):
            self.note(label, g)
            return None if factor is None else g * factor

        return f

    def pre(self, label, factor=None):
        def f(outputs):
            self.note(label, outputs)
            return None if factor is None else tuple(g * factor for g in outputs)

        return f

    def post(self, label, factor=None):
        def f(inputs, outputs):
            self.note(label, inputs, outputs)
            if factor is not None:
                return tuple(None if g is None else g * factor for g in inputs)
            return None

        return f

    def after(self, label):
        return lambda t: self.note(label, t.grad)


def chain(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    z = y * y
    y.register_hook(log.hook("y1"))
    z.register_hook(log.hook("z"))
    y.register_hook(log.hook("y2"))
    z.sum().backward()
    log.note("x.grad", x.grad)


def retained_last(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    y.retain_grad()
    y.register_hook(log.hook("a", 10.0))
    y.register_hook(log.hook("b", 2.0))
    (y * y).sum().backward()
    log.note("grads", y.grad, x.grad)


def retained_twice(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    y.retain_grad()
    loss = (y * y).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    log.note("grads", y.grad, x.grad)


def diamond(log):
    x = log.leaf(1.0, 2.0)
    a = x * 3.0
    b = a * 2.0
    c = a * a
    for name, t in (("a", a), ("b", b), ("c", c)):
        t.register_hook(log.hook(name, 2.0))
        t.grad_fn.register_prehook(log.pre(name + " pre"))
        t.grad_fn.register_hook(log.post(name + " post"))
    (b + c).sum().backward()
    log.note("x.grad", x.grad)


def node_hooks_replace(log):
    x, w = log.leaf(1.0, 2.0), log.leaf(3.0, 4.0)
    y = x * w
    y.grad_fn.register_hook(log.post("post1", 2.0))
    y.grad_fn.register_prehook(log.pre("pre1", 3.0))
    y.register_hook(log.hook("tensor", 5.0))
    y.grad_fn.register_prehook(log.pre("pre2"))
    y.grad_fn.register_hook(log.post("post2"))
    y.sum().backward()
    log.note("grads", x.grad, w.grad)


def constants_have_no_gradient(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    y.grad_fn.register_hook(log.post("y"))
    z = log.plain(3.0, 4.0) * y
    z.grad_fn.register_hook(log.post("z"))
    z.sum().backward()


def leaves(log):
    x = log.leaf(1.0, 2.0)
    x.register_post_accumulate_grad_hook(log.after("x after"))
    x.register_hook(log.hook("x first", 2.0))
    x.register_hook(log.hook("x second", 3.0))
    y = x * x + x
    y.sum().backward()
    (x * 2.0).sum().backward()
    log.note("x.grad", x.grad)


def nodes_of_leaves(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    end = y.grad_fn.next_functions[0][0]
    log.events.append(("name", end.name().rpartition(":")[2], y.grad_fn.next_functions[1]))
    end.register_hook(log.post("x node"))
    end.register_prehook(log.pre("x pre", 2.0))
    x.register_post_accumulate_grad_hook(log.after("x after"))
    x.register_hook(log.hook("x"))
    y.sum().backward()
    log.note("x.grad", x.grad)


def removal(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    first = y.register_hook(log.hook("first"))
    y.register_hook(log.hook("second"))
    with y.register_hook(log.hook("third")):
        y.sum().backward(retain_graph=True)
    first.remove()
    first.remove()
    y.sum().backward()


def written_in_place(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    y.retain_grad()
    y.register_hook(log.hook("old"))
    y *= 3.0
    y.register_hook(log.hook("new"))
    y.sum().backward()
    log.note("grads", y.grad, x.grad)


def part_written(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    y.register_hook(log.hook("old"))
    y[0] = 7.0
    y.register_hook(log.hook("new"))
    (y * y).sum().backward()
    log.note("x.grad", x.grad)


def captured(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    z = y * y
    factor = y.register_hook(log.hook("y", 10.0))
    y.grad_fn.register_prehook(log.pre("y pre"))
    node = y.grad_fn.register_hook(log.post("y post"))
    z.grad_fn.register_hook(log.post("z post"))
    log.note("of y", log.grad(z.sum(), [y], retain_graph=True))
    factor.remove()
    log.note("of both", log.grad(z.sum(), [x, y], retain_graph=True))
    log.note("untouched", x.grad)
    node.remove()


def into_a_leaf(log):
    x, w = log.leaf(1.0, 2.0), log.leaf(3.0, 4.0)
    y = x * w
    end = y.grad_fn.next_functions[0][0]
    end.register_prehook(log.pre("pre", 2.0))
    end.register_hook(log.post("post"))
    x.register_hook(log.hook("x", 5.0))
    x.register_post_accumulate_grad_hook(log.after("after"))
    y.sum().backward(inputs=[x])
    log.note("grads", x.grad, w.grad)


def into_a_result(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    y.register_hook(log.hook("y", 10.0))
    (y * y).sum().backward(inputs=[y])
    log.note("grads", y.grad, x.grad)


def captured_leaf(log):
    x, w = log.leaf(1.0, 2.0), log.leaf(3.0, 4.0)
    y = x * w
    x.register_hook(log.hook("x", 2.0))
    w.register_hook(log.hook("w"))
    x.register_post_accumulate_grad_hook(log.after("x after"))
    log.note("of x", log.grad(y.sum(), [x], retain_graph=True))
    y.sum().backward(inputs=[x])
    log.note("grads", x.grad, w.grad)


def other_branches_stay_silent(log):
    x, w = log.leaf(1.0, 2.0), log.leaf(3.0, 4.0)
    a, b = x * 2.0, w * 3.0
    a.register_hook(log.hook("a"))
    b.register_hook(log.hook("b"))
    a.grad_fn.register_hook(log.post("a post"))
    b.grad_fn.register_hook(log.post("b post"))
    log.note("of x", log.grad((a * b).sum(), [x]))


def several_results(log):
    x = log.leaf(1.0, 2.0)
    y = x * x
    y.register_hook(log.hook("y"))
    log.backward([y, (y * 2.0).sum()], [log.plain(1.0, 10.0), None])
    log.note("x.grad", x.grad)


def second_order(log):
    x = log.leaf(1.0, 2.0)
    y = x * x
    y.register_hook(lambda g: g * x)
    (g,) = log.grad((y * y).sum(), [x], create_graph=True)
    log.note("first", g)
    g.register_hook(log.hook("g"))
    g.sum().backward()
    log.note("second", x.grad)


def gradients_of_hooks_are_not_recorded(log):
    x = log.leaf(1.0, 2.0)
    y = x * x

    def hook(g):
        new = g * x
        log.events.append(("recorded", new.requires_grad, g.requires_grad))
        return new

    y.register_hook(hook)
    y.sum().backward()
    log.note("x.grad", x.grad)
    log.events.append(("plain", x.grad.requires_grad))


def added_while_running(log):
    x = log.leaf(1.0, 2.0)
    y = x * 2.0
    y.register_hook(lambda g: y.register_hook(log.hook("late")) and None)
    y.register_hook(log.hook("early"))
    y.sum().backward(retain_graph=True)
    log.events.append(("between",))
    y.sum().backward()


PROGRAMS = [
    chain, retained_last, retained_twice, diamond, node_hooks_replace, constants_have_no_gradient,
    leaves, nodes_of_leaves, removal, written_in_place, part_written, captured,
    into_a_result, into_a_leaf, captured_leaf,
    other_branches_stay_silent, several_results, second_order,
    gradients_of_hooks_are_not_recorded, added_while_running,
]  # fmt: skip


def mine():
    return Log(
        lambda v, leaf: wg.tensor(v, requires_grad=leaf), wg.autograd.grad, wg.autograd.backward,
        lambda t: t.detach().numpy(),
    )  # fmt: skip


def theirs(torch):
    return Log(
        lambda v, leaf: torch.tensor(v, requires_grad=leaf, dtype=torch.float64),
        torch.autograd.grad, torch.autograd.backward, lambda t: t.detach().clone().numpy(),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using backward\\(\\) with create_graph")
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_same_calls_as_pytorch(torch, program):
    a, b = mine(), theirs(torch)
    program(a)
    program(b)
    assert a.events == b.events
    assert a.events


def test_leaves_come_last(torch):
    """The one difference: PyTorch visits a leaf as soon as its own sum is complete."""

    def program(log):
        x, w = log.leaf(1.0, 2.0), log.leaf(3.0, 4.0)
        y = x * 2.0
        y.register_hook(log.hook("y"))
        x.register_hook(log.hook("x"))
        w.register_hook(log.hook("w"))
        (y * w).sum().backward()

    a, b = mine(), theirs(torch)
    program(a)
    program(b)
    assert [e[0] for e in a.events] == ["y", "x", "w"] or [e[0] for e in a.events] == [
        "y",
        "w",
        "x",
    ]
    assert sorted(a.events) == sorted(b.events)
