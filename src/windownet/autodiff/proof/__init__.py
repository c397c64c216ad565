"""How a gradient is proved: what is compared, by which differences, and by what measure; the checks are in check.py."""
