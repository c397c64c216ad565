"""A trained model: its folder, and tagging with it."""
