"""The first laboratory, in which windows lie at fixed places: from plan.yaml to RESULTS.md."""
