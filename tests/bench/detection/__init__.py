"""How well the shipped rules find insiders: half years of the agency that no rule was tuned on, beside other methods."""
