"""Half a year of a simulated agency, with realistic work and insiders of several kinds."""

from custodes.demo.half_year.calendar import DAYS
from custodes.demo.half_year.simulation import HalfYear
from custodes.demo.half_year.writer import write

__all__ = ["DAYS", "HalfYear", "write"]
