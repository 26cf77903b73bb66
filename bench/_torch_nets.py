"""The networks of `nets.py` and `char_gpt.py` in PyTorch's usual form, with given weights."""

from __future__ import annotations

from typing import Any

import numpy as np


def copied(torch: Any, parameter: Any, value: Any) -> None:
    """Put an array of ours into a parameter of theirs."""
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(np.asarray(value))))


def perceptron(torch: Any, state: dict[str, Any]) -> Any:
    layers: list[Any] = []
    for name in [n for n in state if n.endswith("weight")]:
        w = state[name]
        linear = torch.nn.Linear(*w.shape)
        copied(torch, linear.weight, w.T)
        copied(torch, linear.bias, state[name.replace("weight", "bias")])
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def convolutional(torch: Any, state: dict[str, Any], channels_last: bool) -> Any:
    """Two convolutions with pools, and a linear layer; ours flattens with the channels last."""
    n = torch.nn

    class ChannelsLast(n.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1).flatten(1)

    names = [k for k in state if k.endswith("weight")]
    parts: list[Any] = []
    for name in names:
        w, b = state[name], state[name.replace("weight", "bias")]
        if w.ndim == 4:
            conv = n.Conv2d(w.shape[2], w.shape[3], w.shape[0], padding=w.shape[0] // 2)
            copied(torch, conv.weight, w.transpose(3, 2, 0, 1))
            copied(torch, conv.bias, b)
            parts += [conv, n.ReLU(), n.MaxPool2d(2)]
        else:
            linear = n.Linear(*w.shape)
            copied(torch, linear.weight, w.T)
            copied(torch, linear.bias, b)
            parts += [ChannelsLast(), linear]
    model = n.Sequential(*parts)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def gpt(torch: Any, state: dict[str, Any], heads: int, activation: str = "gelu") -> Any:
    """A GPT with tied weights, attention by `scaled_dot_product_attention`."""
    n, f = torch.nn, torch.nn.functional
    vocab, d = state["table.weight"].shape
    depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))

    class Block(n.Module):
        def __init__(self, i: int) -> None:
            super().__init__()
            at = f"blocks.{i}."
            self.a, self.b = n.LayerNorm(d), n.LayerNorm(d)
            self.qkv, self.out = n.Linear(d, 3 * d), n.Linear(d, d)
            self.up, self.down = n.Linear(d, 4 * d), n.Linear(4 * d, d)
            for norm, name in ((self.a, "attention_norm"), (self.b, "network_norm")):
                copied(torch, norm.weight, state[f"{at}{name}.weight"])
                copied(torch, norm.bias, state[f"{at}{name}.bias"])
            parts = [f"{at}attention.{p}" for p in ("query", "key", "value")]
            copied(torch, self.qkv.weight, np.concatenate([state[f"{p}.weight"].T for p in parts]))
            copied(torch, self.qkv.bias, np.concatenate([state[f"{p}.bias"] for p in parts]))
            for linear, name in (
                (self.out, "attention.out"), (self.up, "network.into"), (self.down, "network.out"),
            ):  # fmt: skip
                copied(torch, linear.weight, state[f"{at}{name}.weight"].T)
                copied(torch, linear.bias, state[f"{at}{name}.bias"])

        def forward(self, x: Any) -> Any:
            batch, places, _ = x.shape
            q, k, v = self.qkv(self.a(x)).split(d, dim=2)
            q, k, v = (t.view(batch, places, heads, -1).transpose(1, 2) for t in (q, k, v))
            y = f.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(batch, places, d))
            return x + self.down(getattr(f, activation)(self.up(self.b(x))))

    class Model(n.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = n.Embedding(vocab, d)
            copied(torch, self.table.weight, state["table.weight"])
            self.place = n.Parameter(torch.from_numpy(state["position.weight"].copy()))
            self.blocks = n.ModuleList([Block(i) for i in range(depth)])
            self.norm = n.LayerNorm(d)
            copied(torch, self.norm.weight, state["norm.weight"])
            copied(torch, self.norm.bias, state["norm.bias"])

        def forward(self, x: Any) -> Any:
            y = self.table(x) + self.place[: x.shape[1]]
            for block in self.blocks:
                y = block(y)
            return self.norm(y) @ self.table.weight.T

    return Model()


def recurrent(torch: Any, state: dict[str, Any]) -> Any:
    """One LSTM and a linear layer at every place."""
    n = torch.nn
    at = "lstm.layers.0.forward."
    inputs, four = state[at + "weight_x"].shape

    def theirs(name: str) -> Any:
        """Our columns are the gates i, f, o, g; their rows are i, f, g, o."""
        i, f, o, g = np.split(state[at + name], 4, axis=-1)
        return np.concatenate([i, f, g, o], axis=-1).T

    class Model(n.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = n.LSTM(inputs, four // 4, batch_first=True)
            self.head = n.Linear(*state["head.weight"].shape)
            copied(torch, self.lstm.weight_ih_l0, theirs("weight_x"))
            copied(torch, self.lstm.weight_hh_l0, theirs("weight_h"))
            copied(torch, self.lstm.bias_ih_l0, theirs("bias"))
            copied(torch, self.lstm.bias_hh_l0, np.zeros(four))
            self.lstm.bias_hh_l0.requires_grad_(False)  # a second bias, which would learn too
            copied(torch, self.head.weight, state["head.weight"].T)
            copied(torch, self.head.bias, state["head.bias"])

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0])

    return Model()
