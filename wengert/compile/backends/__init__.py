"""How planned programs are run."""
