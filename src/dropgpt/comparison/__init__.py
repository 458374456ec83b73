"""Whether runs differ by more than chance: experiments and result files, intervals, tables."""
