"""The window network in our ops, its first values, and its specification in flax."""
