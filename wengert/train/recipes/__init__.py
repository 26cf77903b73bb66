"""The recipes, a file each: a new one is one more file and one more name here."""

from ..recipe import Recipe
from . import autoencoder, digits, maml_sine, regress, spiral, xor

__all__ = ["RECIPES"]

ROOMS = (digits, xor, spiral, regress, autoencoder, maml_sine)
RECIPES: dict[str, Recipe] = {room.RECIPE.name: room.RECIPE for room in ROOMS}
