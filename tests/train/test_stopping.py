import pytest

from windownet.train.stopping import is_over


@pytest.mark.parametrize(
    ("f1", "patience", "over"),
    [
        ([0.0], 1, False),
        ([50.0, 40.0], 1, True),
        ([50.0, 40.0], 2, False),
        ([50.0, 40.0, 45.0], 2, True),
        ([50.0, 50.0], 1, True),
        ([50.0, 40.0, 60.0], 2, False),
        ([50.0, 40.0, 60.0, 1.0, 2.0], 2, True),
        ([50.0] * 99, 0, False),
    ],
)
def test_patience_counts_the_epochs_since_the_best(f1, patience, over):
    assert is_over(f1, patience) == over
