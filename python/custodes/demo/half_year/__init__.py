"""Half a year of a made-up agency, with people at work as people are, and some who should not be trusted."""

from custodes.demo.half_year.calendar import DAYS
from custodes.demo.half_year.simulation import HalfYear
from custodes.demo.half_year.writer import write

__all__ = ["DAYS", "HalfYear", "write"]
