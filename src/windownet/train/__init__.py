"""Making a model: the compiled step, the epochs, the records."""
