"""Whether runs differ by more than chance: experiments, statistics, report."""
