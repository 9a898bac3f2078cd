"""Write the section of docs/reference/findings.md on how often the checks are wrong."""

from rates.tables import ANY, GOAL, above_goal, error_table, other_table, power_table, read_rows


def errors_section() -> str:
    """Return how often the checks are wrong, as `docs/scripts/error_rates.py` has counted."""
    rows = read_rows()
    failing = "".join(f"- {line}\n" for line in above_goal(rows)) or "- none\n"
    return f"""
## How often the checks are wrong

The goal: if a finding is false, it holds so rarely that the upper 95 % limit of this rate (Clopper
and Pearson) is at most {GOAL:.0%}. **Above the goal**:

{failing}
The rank correlation of a few layers is skewed: if its mean is at the threshold, most networks are
above. Student's t takes numbers as normal, so that depth has the highest rates. Five runs do not
lower them. **A single run** shows nothing of others: at the edge most findings hold far too often
(second table). Only several runs test a finding.

`python docs/scripts/error_rates.py` counts it on synthetic runs, and puts the counts into
[error_rates.csv](../data/error_rates.csv). A table has as many runs as
[What the runs show](../results/reproduction.md), or one model. There are 500 tables
per null, and 100 for power and for other numbers of runs. Brackets have the upper limit.

A run has ten tasks of 50 instructions, `embed` and six blocks, 13 checkpoints and 1,000 instances
per split. Its true curves are given; whole instructions are in a cluster at random so often that
the ARI is theirs. There are no near-best starts, which only widen intervals. The spread between
runs is about that of real ones. **A plain null** is what the finding denies. **At the edge** the
mean over networks of the number that decides is its threshold, and everything else is as the
finding wants it: no null is harder to tell. Other checks of the finding are not put at their edge.

{error_table(rows)}

**Any finding.** In untrained networks all layers fluctuate about an ARI of 0.07. No finding is
true. The row "{ANY}" counts tables on which at least one
holds. **The number of runs** at the edge: with one run the interval is that of this network only,
and not of the mean of others. Student's t makes the difference for three: draws of
three runs end at the worst of them. With a mean at the threshold, all three are on its right side
in one of eight tables. It is more often if numbers are skewed, as rank correlations are.

{other_table(rows)}

**Power.** The share of tables on which a finding holds that is true: the number of the check has
the mean that stands before the share. With three runs, a finding
that is only just true mostly stays undecided.

{power_table(rows)}
"""
