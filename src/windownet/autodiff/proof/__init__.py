"""How a gradient is proved; the entry points are in `windownet.autodiff.check`.

`subjects` bring an op, a function or a model into the form of a `problem`; `leaves` go through its gradient with
`differences` and `verdicts`; `kinks`, `duties`, `trials`, `non_finite` and `dtypes` ask what else the rule owes;
`recorded` finds the op.
"""
