"""Instructions that a program can check, of any answer (Zhou et al., 2023: IFEval)."""
