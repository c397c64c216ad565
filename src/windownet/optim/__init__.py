"""Optimizers and schedules: those of the config by optax, any of optax on the touched rows of a table, averages."""
