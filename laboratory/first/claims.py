"""What is said of dropout, and what should then be found.

The regions that decide were written down before the runs.
"""

import math

from laboratory.first.verdicts import (
    ATTENTION_ON,
    ENSEMBLE,
    MONTE_CARLO,
    NEGATIVE,
    OFF,
    ON,
    POSITIVE,
    Claim,
    Finding,
    against,
    gap,
    growing,
    higher,
    lower,
    minus,
    named,
)

RATES = ("p5", "p10", "p20", "p30", "p50")
SITES = ("embedding", "attention", "attention_output", "mlp")
BEST, LAST, ONCE = "best in 32", "after 32", "after 1"
# What is compared with variants that end after 20 readings, or after 16.
BEST_20, AFTER_20, AFTER_16 = "best in 20", "after 20", "after 16"
AT_BEST, AT_LAST = (against("p20", "p0", measure) for measure in (BEST, LAST))

CLAIMS = [
    Claim(
        "Read many times, little text: dropout lowers the best held-out loss, most at 0.2 or more",
        "Srivastava et al. 2014; Xue et al. 2023 (arXiv 2305.13230)",
        "below 0",
        [
            Finding("best, p 0.2 less p 0", AT_BEST, NEGATIVE),
            lower("best, p 0.2 less p 0.1", "p20", "p10", BEST),
        ],
    ),
    Claim(
        "At the last step, learning rate constant, the effect is more than twice that on the best",
        "follows from overfitting",
        "below 0",
        [
            Finding("after 32 readings, p 0.2 less p 0", AT_LAST, NEGATIVE),
            Finding("the same less twice that on the best", minus(AT_LAST, AT_BEST, 2), NEGATIVE),
        ],
    ),
    Claim(
        "Read once: dropout hurts, and more as p grows; read 32 times it helps",
        "Liu et al. 2025 (arXiv 2505.24788)",
        "above 0; the last below 0",
        [
            *growing("effect", ("p10", "p20", "p50"), lambda rate: against(rate, "p0", ONCE)),
            Finding("after 32 readings, p 0.2 less p 0", AT_LAST, NEGATIVE),
        ],
    ),
    Claim(
        "The more often the text is read, the higher the best rate",
        "a pilot of this laboratory at another size",
        "above 0; below 0; below 0",
        [
            higher("after 1 reading, p 0.1 less p 0", "p10", "p0", ONCE),
            lower("after 12, p 0.1 less p 0", "p10", "p0", "after 12"),
            lower("after 32, p 0.2 less p 0.1", "p20", "p10", LAST),
        ],
    ),
    Claim(
        "The best step moves later as p rises",
        "slower overfitting",
        "above 0 readings",
        [
            higher("p 0.1 less p 0", "p10", "p0", "best at 32"),
            higher("p 0.2 less p 0.1", "p20", "p10", "best at 32"),
        ],
    ),
    Claim(
        "Dropout left on in evaluation costs loss, and more as p grows",
        "Srivastava et al. 2014",
        "above 0",
        growing("cost", RATES, lambda rate: gap(rate, ON)),
    ),
    Claim(
        "So does attention dropout alone, left on in evaluation: the classic mistake",
        "scaled_dot_product_attention drops in eval mode, too",
        "above 0",
        growing("cost", RATES, lambda rate: gap(rate, ATTENTION_ON)),
    ),
    Claim(
        "Monte-Carlo dropout beats the deterministic pass by 0.01 to 0.03 nats",
        "Gal and Ghahramani 2016, Penn Treebank",
        "-0.03 to -0.01",
        [
            Finding(
                f"read 12 times, {named(rate)}", gap(f"d12-{rate}", MONTE_CARLO), (-0.03, -0.01)
            )
            for rate in ("p10", "p20")
        ],
    ),
    Claim(
        "Permuted epochs beat windows drawn with replacement by up to 0.03 nats",
        "arithmetic: with replacement an epoch's worth misses 37% of the text",
        "-0.03 to 0",
        [
            Finding(
                "best of 20 readings, p 0.2, permuted less replaced",
                against("p20", "with-replacement", BEST_20),
                (-0.03, 0.0),
            )
        ],
    ),
    Claim(
        "Windows that begin anywhere, not at the same places each time, do more than dropout",
        "a trial of this laboratory (docs/log.md)",
        "below 0",
        [
            lower(
                "best of 20 readings, anywhere without dropout less p 0.2 at fixed places",
                "with-replacement-p0",
                "p20",
                BEST_20,
            )
        ],
    ),
    Claim(
        "Where windows begin anywhere, dropout still lowers the best held-out loss",
        "follows from the first claim",
        "below 0",
        [
            lower(
                "best of 20 readings, anywhere, p 0.2 less p 0",
                "with-replacement",
                "with-replacement-p0",
                BEST_20,
            )
        ],
    ),
    Claim(
        "Weight decay and dropout both help on little data, by less together than their sum",
        "common practice",
        "below 0; below 0; above 0",
        [
            lower("best of 20, weight decay 1", "wd1-p0", "p0", BEST_20),
            lower("best of 20, p 0.2", "p20", "p0", BEST_20),
            Finding(
                "joint effect less the sum",
                minus(against("wd1-p20", "p20", BEST_20), against("wd1-p0", "p0", BEST_20)),
                POSITIVE,
            ),
        ],
    ),
    Claim(
        "A strong weight decay, 3, does more than dropout of 0.2",
        "Kim et al. 2025 (arXiv 2509.14786)",
        "below 0",
        [
            lower("best of 20, weight decay 3 less p 0.2", "wd3-p0", "p20", BEST_20),
        ],
    ),
    Claim(
        "A rate that rises linearly is about equal to a constant one",
        "Liu et al. 2023 (arXiv 2303.01500), for vision",
        "-0.02 to 0.02",
        [
            Finding(
                "best of 20, linear up less constant",
                against("linear-up", "p20", BEST_20),
                (-0.02, 0.02),
            )
        ],
    ),
    Claim(
        "Dropout in the first half only is worse where the model overfits",
        "Liu et al. 2023 (arXiv 2303.01500), for vision",
        "above 0",
        [higher("after 20, early only less constant", "early", "p20", AFTER_20)],
    ),
    Claim(
        "Dropout in the second half only is as good as all the time, where the model overfits",
        "follows from the map: it costs at first",
        "below 0.02",
        [
            Finding(
                "best of 20, late only less constant",
                against("late", "p20", BEST_20),
                (-math.inf, 0.02),
            )
        ],
    ),
    Claim(
        "One site at a time at p 0.2: which lowers the best loss most?",
        "no published answer",
        "",
        [
            Finding(site, against(f"only-{site}", "p0", BEST_20), (-math.inf, math.inf))
            for site in SITES
        ],
    ),
    Claim(
        "All sites but one at p 0.2: which may be left out?",
        "no published answer",
        "",
        [
            Finding(
                f"all but {site}", against(f"not-{site}", "p20", BEST_20), (-math.inf, math.inf)
            )
            for site in SITES
        ],
    ),
    Claim(
        "Dropping keys is about as good as dropping attention weights",
        "Li et al. 2023 (DropKey), for vision, find it better",
        "-0.02 to 0.02",
        [Finding("best of 20, keys less weights", against("keys", "p20", BEST_20), (-0.02, 0.02))],
    ),
    Claim(
        "Dropping whole blocks at 0.1 lowers the best loss",
        "Huang et al. 2016, for vision",
        "below 0",
        [lower("best of 20, block dropout 0.1 less none", "blocks", "p0", BEST_20)],
    ),
    Claim(
        "With the learning rate decayed to the end, as in practice, the map holds",
        "no published answer",
        "above 0; below 0; below 0",
        [
            higher("4 readings, p 0.1 less p 0", "d4-p10", "d4-p0", OFF),
            lower("12 readings, p 0.1 less p 0", "d12-p10", "d12-p0", OFF),
            lower("32 readings, p 0.2 less p 0", "d32-p20", "d32-p0", OFF),
        ],
    ),
    Claim(
        "Less text, read as often: dropout helps more",
        "Xue et al. 2023 (arXiv 2305.13230)",
        "above 0",
        [
            Finding(
                "after 16, effect of p 0.2 with four times the text less that with half of it",
                minus(
                    against("fourfold-p20", "fourfold-p0", AFTER_16),
                    against("half-p20", "half-p0", AFTER_16),
                ),
                POSITIVE,
            )
        ],
    ),
    Claim(
        "A wider model, the same text: dropout helps more",
        "Xue et al. 2023 (arXiv 2305.13230)",
        "below 0",
        [
            Finding(
                "after 16, effect of p 0.2 at width 256 less that at 64",
                minus(
                    against("w256-p20", "w256-p0", AFTER_16),
                    against("w64-p20", "w64-p0", AFTER_16),
                ),
                NEGATIVE,
            )
        ],
    ),
    Claim(
        "With Muon dropout helps as it does with AdamW",
        "no published answer",
        "below 0",
        [lower("best of 20, Muon, p 0.2 less p 0", "muon-p20", "muon-p0", BEST_20)],
    ),
    Claim(
        "An ensemble of the seeds without dropout beats one model with it",
        "Kim et al. 2025 (arXiv 2509.14786)",
        "below 0",
        [
            Finding(
                "12 readings, ensemble of p 0 less one of p 0.2",
                {("d12-p0", ENSEMBLE): 1, ("d12-p20", OFF): -1},
                NEGATIVE,
            )
        ],
    ),
    Claim(
        "Loss on the last token only, 0.16 targets a training token: dropout does not help",
        "the reference recipe's loss",
        "above -0.01",
        [
            Finding(
                "after 20, p 0.2 less p 0",
                against("last-token-p20", "last-token-p0", AFTER_20),
                (-0.01, math.inf),
            )
        ],
    ),
]
