"""Every field of a config, with its type, range, default and meaning, here and nowhere else."""
