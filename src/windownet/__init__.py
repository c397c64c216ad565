"""windownet: window-model entity taggers trained by a hand-written, proved reverse mode.

Importing the package imports nothing else: `from windownet import autodiff` brings the reverse mode alone.
"""

__version__ = "0.1.0"
