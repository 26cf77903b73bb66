"""Right calls of the public transforms, and what takes the place of one argument at a time.

Every line of `CALLS` is a call by keyword, and arguments with which it works.
"""

import numpy as np

import wengert as wg
from wengert import numeric

X = np.array([0.5, -1.0, 2.0])
A = np.array([[2.0, 0.5, 0.0], [0.5, 3.0, 0.1], [0.0, 0.1, 1.5]])


def total(x):
    return np.sum(np.sin(x) * x)


def wave(x):
    return np.sin(x) * x


def matvec(v):
    return A @ v


def loss(w, x, y):
    return np.sum((x @ w - y) ** 2)


def _function(f, b):
    return type(
        "F", (wg.autograd.Function,), {"forward": staticmethod(f), "backward": staticmethod(b)}
    )


def _newton(f, x):
    for _ in range(60):
        x = x - f(x) / wg.grad(f)(x)
    return x


def _iterate(f, x):
    for _ in range(200):
        x = f(x)
    return x


def _vjp(f, fwd, bwd):
    g = wg.custom_vjp(f)
    g.defvjp(fwd, bwd)
    return g


def _jvp(f, rule):
    g = wg.custom_jvp(f)
    g.defjvp(rule)
    return g


def _budget(b):
    with wg.memory_budget(b):
        y = total(wg.tensor(X, requires_grad=True))
    y.backward()


def _hooks(pack, unpack):
    x = wg.tensor(X, requires_grad=True)
    with wg.saved_tensors_hooks(pack, unpack):
        y = np.sum(np.sin(x))
    y.backward()


CALLS = {
    "grad": (lambda f, x: wg.grad(f)(x), {"f": total, "x": X}),
    "value_and_grad": (lambda f, x: wg.value_and_grad(f)(x), {"f": total, "x": X}),
    "grad argnums": (lambda argnums: wg.grad(total, argnums)(X), {"argnums": 0}),
    "grad has_aux": (lambda f: wg.grad(f, has_aux=True)(X), {"f": lambda x: (total(x), 1)}),
    "vjp": (lambda f, x, g: wg.vjp(f, x)[1](g), {"f": wave, "x": X, "g": X}),
    "jvp": (
        lambda f, primals, tangents: wg.jvp(f, primals, tangents),
        {"f": wave, "primals": (X,), "tangents": (X,)},
    ),
    "vmap": (lambda f, x: wg.vmap(f)(x), {"f": total, "x": A}),
    "vmap in_axes": (
        lambda in_axes, out_axes: wg.vmap(wave, in_axes, out_axes)(A),
        {"in_axes": 0, "out_axes": 0},
    ),
    "jacobian": (lambda f, x: wg.jacobian(f)(x), {"f": wave, "x": X}),
    "jacfwd": (lambda f, x: wg.jacfwd(f)(x), {"f": wave, "x": X}),
    "jacrev": (lambda f, x: wg.jacrev(f)(x), {"f": wave, "x": X}),
    "hessian": (lambda f, x: wg.hessian(f)(x), {"f": total, "x": X}),
    "hvp": (
        lambda f, primals, tangents: wg.hvp(f, primals, tangents),
        {"f": total, "primals": (X,), "tangents": (X,)},
    ),
    "vhp": (
        lambda f, primals, tangents: wg.vhp(f, primals, tangents),
        {"f": total, "primals": (X,), "tangents": (X,)},
    ),
    "batch_jacobian": (lambda f, x: wg.batch_jacobian(f)(x), {"f": wave, "x": A}),
    "per_sample_grad": (
        lambda f, params, x, y: wg.per_sample_grad(f, params, x, y),
        {"f": lambda w, x, y: (x @ w - y) ** 2, "params": X, "x": A, "y": X},
    ),
    "hessian_diagonal": (lambda f, x: wg.hessian_diagonal(f)(x), {"f": total, "x": X}),
    "hessian_diagonal samples": (
        lambda samples: wg.hessian_diagonal(total, samples=samples)(X),
        {"samples": 4},
    ),
    "laplacian": (lambda f, x: wg.laplacian(f)(x), {"f": total, "x": X}),
    "laplacian chunk": (lambda chunk: wg.laplacian(total, chunk=chunk)(X), {"chunk": 2}),
    "fisher_product": (
        lambda f, params, v, likelihood: wg.fisher_product(f, params, v, likelihood),
        {"f": lambda w: A * w, "params": X, "v": X, "likelihood": "categorical"},
    ),
    "gauss_newton_product": (
        lambda f, loss, params, v: wg.gauss_newton_product(f, loss, params, v),
        {"f": matvec, "loss": total, "params": X, "v": X},
    ),
    "checkpoint": (lambda f, x: wg.grad(wg.checkpoint(f))(x), {"f": total, "x": X}),
    "checkpoint policy": (
        lambda policy: wg.grad(wg.checkpoint(total, policy=policy))(X),
        {"policy": wg.checkpoint.policies.dots},
    ),
    "checkpoint_sequential": (
        lambda layers, segments: wg.checkpoint_sequential(layers, segments)(X),
        {"layers": [np.sin, np.cos], "segments": 1},
    ),
    "checkpoint_name": (
        lambda name: wg.grad(wg.checkpoint(lambda x: total(wg.checkpoint_name(x, name))))(X),
        {"name": "a"},
    ),
    "custom_vjp": (
        lambda f, fwd, bwd: wg.grad(lambda x: np.sum(_vjp(f, fwd, bwd)(x)))(X),
        {"f": wave, "fwd": lambda x: (wave(x), x), "bwd": lambda x, g: (g * np.cos(x),)},
    ),
    "custom_vjp nondiff": (
        lambda nondiff_argnums: wg.custom_vjp(wave, nondiff_argnums),
        {"nondiff_argnums": (0,)},
    ),
    "custom_jvp": (
        lambda f, rule: wg.jvp(_jvp(f, rule), (X,), (X,)),
        {"f": wave, "rule": lambda primals, tangents: (wave(*primals), tangents[0])},
    ),
    "custom_gradient": (
        lambda f: wg.grad(lambda x: np.sum(wg.custom_gradient(f)(x)))(X),
        {"f": lambda x: (wave(x), lambda g: g * x)},
    ),
    "external": (
        lambda f, vjp: wg.grad(lambda x: np.sum(wg.external(f, vjp=vjp)(x)))(X),
        {"f": wave, "vjp": lambda args, g: (g * args[0],)},
    ),
    "external jvp": (
        lambda jvp: wg.jvp(wg.external(wave, jvp=jvp), (X,), (X,)),
        {"jvp": lambda primals, tangents: tangents[0]},
    ),
    "external differences": (
        lambda differences: wg.grad(
            lambda x: np.sum(wg.external(wave, differences=differences)(x))
        )(X),
        {"differences": "central"},
    ),
    "linearize": (lambda f, x: wg.linearize(f, x)[1](x), {"f": wave, "x": X}),
    "linear_transpose": (lambda f, x: wg.linear_transpose(f, x)(x), {"f": matvec, "x": X}),
    "cond": (
        lambda pred, true_fun, false_fun, x: wg.cond(pred, true_fun, false_fun, x),
        {"pred": True, "true_fun": wave, "false_fun": np.cos, "x": X},
    ),
    "cond false": (
        lambda true_fun, false_fun, x: wg.cond(False, true_fun, false_fun, x),
        {"true_fun": wave, "false_fun": np.cos, "x": X},
    ),
    "cond grad": (
        lambda pred, true_fun, false_fun: wg.grad(
            lambda x: np.sum(wg.cond(pred, true_fun, false_fun, x))
        )(X),
        {"pred": True, "true_fun": wave, "false_fun": np.cos},
    ),
    "switch": (
        lambda index, branches, x: wg.switch(index, branches, x),
        {"index": 0, "branches": [wave, np.cos], "x": X},
    ),
    "scan": (
        lambda f, init, xs: wg.scan(f, init, xs),
        {"f": lambda c, x: (c + x, c * x), "init": 0.0, "xs": X},
    ),
    "scan grad": (
        lambda f, init: wg.grad(lambda xs: wg.scan(f, init, xs)[0])(X),
        {"f": lambda c, x: (c + x, c * x), "init": 0.0},
    ),
    "scan length": (
        lambda length, unroll, checkpoint: wg.scan(
            lambda c, x: (c + x, c * x), 0.0, X, length, False, unroll, checkpoint=checkpoint
        ),
        {"length": 3, "unroll": 1, "checkpoint": False},
    ),
    "while_loop": (
        lambda cond_fun, body_fun, init_val: wg.while_loop(cond_fun, body_fun, init_val),
        {"cond_fun": lambda x: np.sum(x) < 10, "body_fun": lambda x: x + 1.0, "init_val": X},
    ),
    "while_loop grad": (
        lambda cond_fun, body_fun: wg.grad(lambda x: np.sum(wg.while_loop(cond_fun, body_fun, x)))(
            X
        ),
        {"cond_fun": lambda x: np.sum(x) < 10, "body_fun": lambda x: x + 1.0},
    ),
    "fori_loop": (
        lambda lower, upper, body_fun, init_val: wg.fori_loop(lower, upper, body_fun, init_val),
        {"lower": 0, "upper": 3, "body_fun": lambda i, x: x + i, "init_val": X},
    ),
    "fori_loop grad": (
        lambda body_fun: wg.grad(lambda x: np.sum(wg.fori_loop(0, 3, body_fun, x)))(X),
        {"body_fun": lambda i, x: x + i},
    ),
    "map": (lambda f, xs: wg.map(f, xs), {"f": np.sin, "xs": X}),
    "map batch_size": (
        lambda batch_size: wg.map(np.sin, X, batch_size=batch_size),
        {"batch_size": 2},
    ),
    "custom_root": (lambda f, x0: wg.custom_root(f, x0), {"f": lambda x: x**3 - 2.0, "x0": 1.0}),
    "custom_root grad": (
        lambda f, solver, tangent_solve, params: wg.grad(
            lambda a: wg.custom_root(f, 1.0, solver, tangent_solve, (a,))
        )(2.0),
        {
            "f": lambda x, a: x**3 - a,
            "solver": lambda f, x: _newton(f, x),
            "tangent_solve": lambda g, y: y / g(1.0),
            "params": None,
        },
    ),
    "custom_root tol": (
        lambda tol: wg.custom_root(lambda x: x**3 - 2.0, 1.0, tol=tol),
        {"tol": 1e-8},
    ),
    "custom_fixed_point": (lambda f, x0: wg.custom_fixed_point(f, x0), {"f": np.cos, "x0": 1.0}),
    "custom_fixed_point grad": (
        lambda f, solver, tangent_solve: wg.grad(
            lambda a: wg.custom_fixed_point(f, 1.0, solver, tangent_solve, (a,))
        )(0.5),
        {
            "f": lambda x, a: np.cos(a * x),
            "solver": lambda f, x: _iterate(f, x),
            "tangent_solve": None,
        },
    ),
    "custom_linear_solve": (
        lambda matvec, b: wg.custom_linear_solve(matvec, b),
        {"matvec": matvec, "b": X},
    ),
    "custom_linear_solve grad": (
        lambda matvec, solve, transpose_solve: wg.grad(
            lambda b: np.sum(wg.custom_linear_solve(matvec, b, solve, transpose_solve))
        )(X),
        {
            "matvec": matvec,
            "solve": lambda mv, b: np.linalg.solve(A, b),
            "transpose_solve": lambda mv, b: np.linalg.solve(A.T, b),
        },
    ),
    "custom_linear_solve tol": (
        lambda tol: wg.custom_linear_solve(matvec, X, tol=tol),
        {"tol": 1e-4},
    ),
    "argmin": (lambda f, x0: wg.argmin(f, x0), {"f": lambda x: np.sum((x - 1.0) ** 2), "x0": X}),
    "argmin grad": (
        lambda f, solver, tangent_solve: wg.grad(
            lambda a: wg.argmin(f, 0.0, a, solver=solver, tangent_solve=tangent_solve)
        )(2.0),
        {
            "f": lambda x, a: (x - a) ** 2,
            "solver": lambda f, x: _newton(wg.grad(f), x),
            "tangent_solve": lambda g, y: y / g(1.0),
        },
    ),
    "argmin tol": (lambda tol: wg.argmin(lambda x: (x - 1) ** 2, 0.0, tol=tol), {"tol": 1e-8}),
    "ridge": (lambda a, b, lam: wg.ridge(a, b, lam), {"a": A, "b": X, "lam": 1.0}),
    "quadratic_program": (
        lambda Q, q, G, h: wg.quadratic_program(Q, q, G, h),
        {"Q": A, "q": X, "G": np.eye(3), "h": X},
    ),
    "quadratic_program A": (
        lambda A, b: wg.quadratic_program(np.eye(3), X, A=A, b=b),
        {"A": np.ones((1, 3)), "b": np.ones(1)},
    ),
    "odeint": (
        lambda f, y0, t: wg.odeint(f, y0, t),
        {"f": lambda y, t: -y, "y0": X, "t": np.array([0.0, 1.0])},
    ),
    "odeint grad": (
        lambda f, t: wg.grad(lambda y: np.sum(wg.odeint(f, y, t)[-1]))(X),
        {"f": lambda y, t: -y, "t": np.array([0.0, 1.0])},
    ),
    "odeint adjoint f": (
        lambda f: wg.grad(
            lambda y: np.sum(wg.odeint(f, y, np.array([0.0, 1.0]), adjoint="continuous")[-1])
        )(X),
        {"f": lambda y, t: -y},
    ),
    "odeint options": (
        lambda method, rtol, atol, steps, max_steps, adjoint: wg.odeint(
            lambda y, t: -y,
            X,
            np.array([0.0, 1.0]),
            method=method,
            rtol=rtol,
            atol=atol,
            steps=steps,
            max_steps=max_steps,
            adjoint=adjoint,
        ),
        {
            "method": "dopri5",
            "rtol": 1e-7,
            "atol": 1e-9,
            "steps": 1,
            "max_steps": 1000,
            "adjoint": "discrete",
        },
    ),
    "odeint rk4 steps": (
        lambda steps: wg.odeint(
            lambda y, t: -y, X, np.array([0.0, 1.0]), method="rk4", steps=steps
        ),
        {"steps": 4},
    ),
    "jet": (
        lambda f, primals, series: wg.jet(f, primals, series),
        {"f": np.sin, "primals": (X,), "series": ((X, X),)},
    ),
    "unroll": (lambda step, x, n: wg.unroll(step, x, n), {"step": np.sin, "x": X, "n": 3}),
    "unroll truncate": (
        lambda truncate: wg.unroll(np.sin, X, 4, truncate=truncate),
        {"truncate": 2},
    ),
    "adapt": (
        lambda loss, params, x, y: wg.adapt(loss, params, x, y),
        {"loss": loss, "params": X, "x": A, "y": X},
    ),
    "adapt options": (
        lambda lr, steps, order, lam, tol: wg.adapt(
            loss, X, A, X, lr=lr, steps=steps, order=order, lam=lam, tol=tol
        ),
        {"lr": 0.01, "steps": 1, "order": "second", "lam": 1.0, "tol": None},
    ),
    "adapt implicit": (
        lambda lr, steps, lam, tol: wg.grad(
            lambda p: np.sum(
                wg.adapt(loss, p, A, X, lr=lr, steps=steps, order="implicit", lam=lam, tol=tol)
            )
        )(X),
        {"lr": 0.01, "steps": 400, "lam": 1.0, "tol": 1e-2},
    ),
    "maml": (
        lambda loss, params, tasks: wg.maml(loss)(params, tasks),
        {"loss": loss, "params": X, "tasks": [((A, X), (A, X))]},
    ),
    "maml options": (
        lambda lr, steps, order, lam: wg.maml(loss, lr=lr, steps=steps, order=order, lam=lam)(
            X, [((A, X), (A, X))]
        ),
        {"lr": 0.01, "steps": 1, "order": "second", "lam": 1.0},
    ),
    "straight_through": (
        lambda hard, soft: wg.straight_through(hard, soft),
        {"hard": np.round(X), "soft": X},
    ),
    "Function": (
        lambda forward, backward: wg.grad(lambda x: np.sum(_function(forward, backward).apply(x)))(
            X
        ),
        {"forward": lambda ctx, x: np.sin(x), "backward": lambda ctx, g: g},
    ),
    "reparameterized scale": (lambda std: wg.reparameterized("normal")(0.0, std), {"std": 1.0}),
    "reparameterized path": (
        lambda family, noise: wg.reparameterized(family, noise)(0.0, 1.0),
        {
            "family": lambda z, a, b: a + b * z,
            "noise": lambda rng, shape: rng.standard_normal(shape),
        },
    ),
    "reparameterized": (lambda family: wg.reparameterized(family)(0.0, 1.0), {"family": "normal"}),
    "score_function": (
        lambda log_prob, sample, f, baseline: wg.score_function(log_prob, sample, f, baseline),
        {
            "log_prob": lambda s: -np.sum(s * s, -1) / 2,
            "sample": A,
            "f": lambda s: np.sum(s, -1),
            "baseline": 0.0,
        },
    ),
    "magic_box": (lambda x: wg.magic_box(x), {"x": X}),
    "stop_gradient": (lambda x: wg.stop_gradient(x), {"x": X}),
    "memory_budget": (lambda budget: _budget(budget), {"budget": "1MB"}),
    "explain_gradient": (lambda f: wg.explain_gradient(f)(X), {"f": total}),
    "psum": (lambda name: wg.vmap(lambda x: wg.psum(x, name), axis_name="i")(X), {"name": "i"}),
    "numeric.grad": (lambda f, x: numeric.grad(f)(x), {"f": total, "x": X}),
    "numeric.jacobian": (lambda f, x: numeric.jacobian(f)(x), {"f": wave, "x": X}),
    "numeric.hessian": (lambda f, x: numeric.hessian(f)(x), {"f": total, "x": X}),
    "numeric.jvp": (lambda f, x, v: numeric.jvp(f, x, v), {"f": wave, "x": X, "v": X}),
    "numeric.gradcheck": (lambda f, x: numeric.gradcheck(f, x), {"f": total, "x": X}),
    "numeric.gradgradcheck": (lambda f, x: numeric.gradgradcheck(f, x), {"f": total, "x": X}),
    "numeric.steps": (lambda f, x: numeric.steps(f, x), {"f": total, "x": X}),
    "compare": (lambda f, x: wg.compare(f, x), {"f": total, "x": X}),
    "saved_tensors_hooks": (
        lambda pack, unpack: _hooks(pack, unpack),
        {"pack": lambda x: x, "unpack": lambda x: x},
    ),
}

ABSURD = {
    "int": 3,
    "None": None,
    "text": "f",
    "negative": -1.5,
    "nan": float("nan"),
    "array": np.ones(2),
    "object": object(),
    "empty": np.zeros(0),
    "ints": [1, 2],
    "dict": {"a": 1},
    "bools": np.array([True, False, True]),
    "complex": 1j,
    "strings": np.array(["a", "b"]),
    "objects": np.array([None, 1]),
    "no arguments": lambda: 1.0,
    "many arguments": lambda a, b, c, d, e, f, g: a,
    "gives None": lambda *a: None,
    "gives text": lambda *a: "text",
    "gives more": lambda *a: np.ones(7),
    "gives object": lambda *a: object(),
    "gives a triple": lambda *a: (1.0, 2.0, 3.0),
    "gives a dict": lambda *a: {"k": 1.0},
    "gives nothing": lambda *a: (),
    "gives ints": lambda *a: np.arange(3),
    "gives complex": lambda *a: 1j * np.ones(3),
    "gives strings": lambda *a: np.array(["a"]),
    "a class": int,
}
