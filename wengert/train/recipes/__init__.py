"""The recipes, a file each: a new one is one more file and one more name here."""

from ..recipe import Recipe
from . import digits, xor

__all__ = ["RECIPES"]

RECIPES: dict[str, Recipe] = {room.RECIPE.name: room.RECIPE for room in (digits, xor)}
