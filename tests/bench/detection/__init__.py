"""Detection rate of the shipped rules in half years not used for tuning, compared with other methods."""
