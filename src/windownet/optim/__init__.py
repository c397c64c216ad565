"""Optimizers and schedules, made from the config with optax."""
