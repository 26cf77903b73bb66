"""The transforms: each turns a function into another function."""
