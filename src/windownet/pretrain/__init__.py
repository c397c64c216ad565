"""Word vectors from raw text, with the ops, the gradients and the row-sparse updates of the taggers."""
