"""The recipes, a file each: a new one is one more file and one more name here."""

from ..recipe import Recipe
from . import (
    autoencoder,
    char_gpt,
    char_lstm,
    digits,
    digits_cnn,
    langevin,
    maml_sine,
    regress,
    spiral,
    xor,
)

__all__ = ["RECIPES"]

ROOMS = (
    digits, xor, digits_cnn, spiral, regress, autoencoder, char_gpt, char_lstm, maml_sine, langevin,
)  # fmt: skip
RECIPES: dict[str, Recipe] = {room.RECIPE.name: room.RECIPE for room in ROOMS}
