"""The verbs that `cli.py` does not hold itself. What one needs is imported when it runs."""
