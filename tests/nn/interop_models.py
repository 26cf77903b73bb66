"""Models that go in and out of PyTorch's files."""

import numpy as np

from wengert import nn


class Reader(nn.Module):
    """A network that flattens in its forward."""

    def __init__(self, seed=0):
        self.conv = nn.Conv2d(2, 4, 3, padding=1, rng=seed)
        self.head = nn.Linear(4 * 6, 3, rng=seed + 1)
        self.last = nn.Linear(3, 8, rng=seed + 2)

    def forward(self, x):
        y = self.conv(x)
        return self.last(self.head(y.reshape(len(x), -1)))


def sequential(seed=0, norm=True):
    layers = [nn.Conv2d(2, 4, 3, padding=1, rng=seed), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    layers += [nn.BatchNorm1d(24), nn.Dropout(0.5)] if norm else []
    return nn.Sequential(*layers, nn.Linear(24, 12, rng=seed + 1), nn.Linear(12, 8, rng=seed + 2))


def randomised(model):
    rng = np.random.default_rng(0)
    state = {
        k: rng.uniform(0.5, 1.5, v.shape).astype(v.dtype) for k, v in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


def ours_and_theirs():
    import torch.nn as tn

    first = {"batch_first": True}
    yield (
        "mlp",
        tn.Sequential(tn.Linear(3, 5), tn.GELU(), tn.Linear(5, 2)),
        nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2)),
        (4, 3),
        None,
    )
    yield (
        "conv",
        tn.Sequential(
            tn.Conv2d(4, 6, 3, padding=1, groups=2), tn.BatchNorm2d(6), tn.ReLU(),
            tn.ConvTranspose2d(6, 4, 2, stride=2), tn.GroupNorm(2, 4),
        ),
        nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6), nn.ReLU(),
            nn.ConvTranspose2d(6, 4, 2, stride=2), nn.GroupNorm(2, 4),
        ),
        (2, 5, 6, 4),
        (0, 3, 1, 2),
    )  # fmt: skip
    for kind in ("RNN", "LSTM", "GRU"):
        yield (
            kind.lower(),
            getattr(tn, kind)(3, 4, 2, bidirectional=True, **first),
            getattr(nn, kind)(3, 4, 2, bidirectional=True),
            (2, 5, 3),
            None,
        )
    for norm_first, last in ((True, True), (False, False), (True, False), (False, True)):
        yield (
            f"encoder{norm_first}{last}",
            tn.TransformerEncoder(
                tn.TransformerEncoderLayer(
                    8, 2, 16, dropout=0.0, activation="gelu", norm_first=norm_first, **first
                ),
                2,
                tn.LayerNorm(8) if last else None,
                enable_nested_tensor=False,
            ),
            nn.TransformerEncoder(2, 8, 2, 16, norm_first=norm_first, final_norm=last),
            (2, 5, 8),
            None,
        )


ENCODERS = ["encoderTrueTrue", "encoderFalseFalse", "encoderTrueFalse", "encoderFalseTrue"]
NAMES = ["mlp", "conv", "rnn", "lstm", "gru", *ENCODERS]
