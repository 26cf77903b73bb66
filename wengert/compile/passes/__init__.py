"""Rewrites of a graph, one to a file: each takes a graph and gives a new one.

    dce        lines that nothing reads
    cse        equal lines
    fold       lines of constants
    algebra    identities that hold for every number, nan, inf and -0.0 among them
    masks      choices that are the same along an axis, after its reduction
    expand     composite operations written in smaller ones
    scale      a number in front of a product goes to its smallest part; changes rounding
    products   the transpose of a product is the product of the transposes; may change rounding
    remat      cheap values computed again in place of being kept
    pipeline   the passes in order

A graph means its values, not how they lie in memory. NumPy adds up in an order that depends on the
strides of an operand, so where a pass takes a copy or a rearrangement away, a later `Sum` or
`matmul` run by NumPy may round differently in its last bit; over operands in row-major order the
values are the same to the bit, except where a pass says otherwise.
"""
