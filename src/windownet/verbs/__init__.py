"""The verbs about configs and data; those about taggers are in `cli.py`. What one needs is imported when it runs."""
