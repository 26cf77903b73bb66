"""The operations of neural networks, gathered: importing this registers them all."""

from . import attention, conv, ctc, dropout, embedding, losses, norm, pool, recurrent, spatial

__all__ = [
    "attention",
    "conv",
    "ctc",
    "dropout",
    "embedding",
    "losses",
    "norm",
    "pool",
    "recurrent",
    "spatial",
]
