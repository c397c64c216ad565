"""Text to arrays, and tags back to spans; no jax in here."""
