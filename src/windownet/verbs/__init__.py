"""The verbs, which `cli.py` puts together. What one needs is imported when it runs."""
