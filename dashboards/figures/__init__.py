"""The figures of the pages, one a file: `info` computes a NamedTuple, `plot` draws it."""
