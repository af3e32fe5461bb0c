"""How well the shipped rules find insiders, in half years they were never tuned on, beside other methods."""
