"""Attention layers, transformers and GPT: what they may look at, caches, sampling, options."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import OptionError, ShapeError
from wengert.nn import functional as F
from wengert.nn.transformer import drawn
from wengert.testing import check_grads

F64 = {"dtype": np.float64}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def slow_attention(layer, x, context=None, causal=False):
    """Head by head."""
    context = x if context is None else context
    each, out = layer.d // layer.heads, []
    q, k, v = (
        part(y).numpy()
        for part, y in ((layer.query, x), (layer.key, context), (layer.value, context))
    )
    for h in range(layer.heads):
        g = h * layer.kv_heads // layer.heads
        mine, theirs = slice(h * each, (h + 1) * each), slice(g * each, (g + 1) * each)
        s = q[..., mine] @ np.swapaxes(k[..., theirs], 1, 2) / np.sqrt(each)
        if causal:
            s = np.where(np.tri(*s.shape[1:], dtype=bool), s, -np.inf)
        p = np.exp(s - s.max(-1, keepdims=True))
        out.append(p / p.sum(-1, keepdims=True) @ v[..., theirs])
    return layer.out(np.concatenate(out, -1)).numpy()


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_its_heads(kv_heads, causal):
    layer = nn.MultiheadAttention(8, 4, kv_heads=kv_heads, causal=causal, rng=0, **F64)
    x = normal(2, 5, 8)
    np.testing.assert_allclose(
        layer(x).numpy(), slow_attention(layer, x, causal=causal), rtol=1e-11, atol=1e-13
    )


def test_attention_to_a_context_and_masks():
    layer = nn.MultiheadAttention(8, 2, d_context=3, rng=0, **F64)
    x, c = normal(2, 5, 8), normal(2, 4, 3)
    np.testing.assert_allclose(layer(x, c).numpy(), slow_attention(layer, x, c), rtol=1e-11)
    mask = np.array([True, True, False, False])
    np.testing.assert_allclose(
        layer(x, c, mask=mask).numpy(), slow_attention(layer, x, c[:, :2]), rtol=1e-11
    )
    added = np.where(mask, 0.0, -np.inf)
    np.testing.assert_allclose(
        layer(x, c, mask=added).numpy(), layer(x, c, mask=mask).numpy(), rtol=1e-12
    )


def test_attention_against_torch(torch):
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True).double()
    ours = nn.MultiheadAttention(8, 2, **F64)
    w, b = (getattr(theirs, f"in_proj_{k}").detach().numpy() for k in ("weight", "bias"))
    with wg.no_grad():
        for i, part in enumerate((ours.query, ours.key, ours.value)):
            part.weight[...], part.bias[...] = w[8 * i : 8 * i + 8].T, b[8 * i : 8 * i + 8]
        ours.out.weight[...] = theirs.out_proj.weight.detach().numpy().T
        ours.out.bias[...] = theirs.out_proj.bias.detach().numpy()
    x = normal(2, 5, 8)
    t, u = torch.tensor(x, requires_grad=True), wg.tensor(x, requires_grad=True)
    ty, y = theirs(t, t, t, need_weights=False)[0], ours(u)
    (ty**2).sum().backward()
    (y**2).sum().backward()
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(u.grad.numpy(), t.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_rotary_products_depend_on_the_distance():
    q, k = normal(1, 6), normal(1, 6, seed=1)
    dots = [[(nn.rotary(q, s) @ nn.rotary(k, t).T).item() for t in range(4)] for s in range(4)]
    for s in range(3):
        np.testing.assert_allclose(dots[s + 1][1:], dots[s][:-1], rtol=1e-12)
    assert abs(dots[0][1] - dots[0][0]) > 1e-3
    check_grads(lambda x: nn.rotary(x, 3), (normal(2, 4),))
    with pytest.raises(ShapeError, match="pairs"):
        nn.rotary(normal(2, 3))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm_first": False, "activation": "relu"},
        {"activation": "swiglu", "norm": "rms", "rotary": True, "causal": True, "bias": False},
        {"cross": True, "activation": "geglu"},
    ],
)
def test_gradients_of_blocks(options):
    block = nn.TransformerBlock(4, 2, 6, rng=0, **F64, **options)
    params = {n: p.numpy() for n, p in block.named_parameters()}
    context = [normal(1, 2, 4, seed=2)] if options.get("cross") else []

    def f(x, *values):
        return wg.functional_call(block, dict(zip(params, values)), x, *context)

    check_grads(f, (normal(1, 3, 4), *params.values()), order=1)
    assert set(wg.grad(lambda p: f(normal(1, 3, 4), *p.values()).sum())(params)) == set(params)


def test_a_causal_model_does_not_look_ahead():
    model = nn.GPT(11, 2, 2, 8, 6, rng=0, **F64).eval()
    x = np.array([[1, 2, 3, 4, 5, 6]])
    y = model(x).numpy()
    for t in range(1, 6):
        other = x.copy()
        other[0, t:] = 9
        np.testing.assert_allclose(model(other).numpy()[0, :t], y[0, :t], rtol=1e-12)
        assert not np.allclose(model(other).numpy()[0, t], y[0, t])


@pytest.mark.parametrize("rotary", [False, True])
def test_the_cache_gives_what_a_whole_call_gives(rotary):
    model = nn.GPT(11, 2, 4, 8, 7, rotary=rotary, kv_heads=2, rng=0, **F64).eval()
    x = np.random.default_rng(0).integers(0, 11, (2, 7))
    whole = model(x).numpy()
    cache = [nn.KVCache() for _ in model.blocks]
    parts = [model(x[:, a:b], cache=cache).numpy() for a, b in ((0, 3), (3, 4), (4, 7))]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=1e-10, atol=1e-13)
    assert len(cache[0]) == 7


def test_sampling_is_seeded_greedy_and_limited():
    model = nn.GPT(11, 1, 2, 8, 5, dropout=0.5, rng=0)
    model.blocks[0].eval()
    a, b = (model.generate([1, 2], 9, rng=3) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert a.shape == (11,)
    assert model.training
    assert not model.blocks[0].training
    greedy = model.generate(np.array([[1, 2], [3, 4]]), 8, temperature=0)
    model.eval()
    for row in greedy:
        for t in range(2, 10):
            logits = model(row[None, max(0, t - 5) : t]).numpy()[0, -1]
            assert row[t] == logits.argmax()
    with pytest.raises(ShapeError, match="at least one token"):
        model.generate([], 1)
    with pytest.raises(OptionError, match="temperature"):
        model.generate([1], 1, temperature=-1)
    with pytest.raises(ShapeError, match="up to 5 places"):
        model(np.zeros((1, 6), int))


def test_draws_have_the_probabilities_of_the_softmax():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    n = 20_000
    counts = np.bincount(drawn(np.tile(logits, (n, 1)), 1.0, None, np.random.default_rng(0)))
    p = np.exp(logits)
    assert (abs(counts / n - p) < 5 * np.sqrt(p * (1 - p) / n)).all()
    few = drawn(np.tile(logits, (1000, 1)), 1.0, 2, np.random.default_rng(0))
    assert set(few) == {0, 1}


def test_a_small_model_learns_a_sequence():
    model = nn.GPT(5, 1, 2, 16, 8, rng=0)
    x = np.tile(np.arange(5), 4)[None, :9]
    step = wg.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(model(x[:, :8]).reshape(-1, 5), x[0, 1:9])
        model.zero_grad()
        loss.backward()
        step.step()
    assert float(loss.detach()) < 0.1
    np.testing.assert_array_equal(model.generate([0, 1], 6, temperature=0), np.arange(8) % 5)


def test_options_are_checked():
    for make in (
        lambda: nn.MultiheadAttention(6, 4),
        lambda: nn.MultiheadAttention(8, 4, kv_heads=3),
        lambda: nn.TransformerBlock(8, 2, norm="batch"),
        lambda: nn.FeedForward(8, activation="sine"),
    ):
        with pytest.raises(OptionError):
            make()
    with pytest.raises(ShapeError, match="batch, place, feature"):
        nn.MultiheadAttention(4, 2, rng=0)(np.ones((3, 4), np.float32))
    with pytest.raises(ShapeError, match="up to 3 places"):
        nn.PositionalEncoding(3, 4)(np.ones((1, 5, 4), np.float32))


def test_an_untied_head_and_a_whole_transformer():
    model = nn.GPT(7, 1, 2, 4, 5, tied=False, rng=0)
    assert model.head.weight is not model.table.weight
    assert model(np.array([[1, 2]])).shape == (1, 2, 7)
    whole = nn.Transformer(8, 2, encoder=1, decoder=2, rng=0)
    x = normal(2, 4, 8).astype(np.float32)
    source_mask = np.array([True, True, True, False])
    y = whole(x, x[:, :3], source_mask=source_mask)
    other = x.copy()
    other[:, 3] = 7.0
    np.testing.assert_allclose(
        whole(other, x[:, :3], source_mask=source_mask).numpy(), y.numpy(), rtol=1e-5, atol=1e-6
    )
