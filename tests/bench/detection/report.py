"""Writes the results of the half years as a page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from processes import table

from custodes.demo.half_year.insiders import Deed
from custodes.findings import Finding
from detection.comparisons import compared
from detection.half_years import Season
from detection.plots import bars, curve
from detection.verdicts import TOLD, by_risk, found_by, taken


@dataclass(frozen=True)
class InsiderResult:
    """An insider, and the findings about them that raise an alert."""

    deed: Deed
    findings: Sequence[Finding]

    @property
    def gone(self) -> int:
        """Records taken before the first finding."""
        return taken(self.deed, self.findings)

    @property
    def of(self) -> int:
        return len(self.deed.times)


def report(seasons: Sequence[Season], plots: Path) -> str:
    """Returns the page's text in Markdown and writes plots to a folder."""
    thousands = sum(one.actor_weeks for one in seasons) / 1000
    allowed = sum(finding.level in TOLD for one in seasons for finding in one.clean)
    others = compared(seasons, allowed)
    cases = _cases(seasons)
    shares = {"Custodes": {kind: _share(sum(bool(one.findings) for one in of), of) for kind, of in cases.items()}}
    shares |= {name: {kind: _share(hits[kind], of) for kind, of in cases.items()} for name, hits in others.items()}
    plots.mkdir(exist_ok=True)
    (plots / "recall.svg").write_text(bars("Share of insiders found, at the same number of false findings", shares))
    slow = [(one.gone, one.of) for one in cases["low and slow"] if one.findings]
    (plots / "low-and-slow.svg").write_text(curve("Low and slow: look-ups until the first finding", slow))
    first, last = precision(seasons, 10), precision(seasons, 50)
    events = sum(one.events for one in seasons)
    parts = [
        f"{len(seasons)} half years (seeds {seasons[0].seed} to {seasons[-1].seed}) of {seasons[0].actors} actors, "
        f"{events:,} events. The shipped rules with their default settings; findings of level medium and higher.",
        _by_kind(cases, others),
        "The last columns show how many of the same insiders the other methods find with the same number of false "
        f"findings in the half years without insiders: {allowed}, or {allowed / thousands:.2f} per week "
        "and 1,000 actors.",
        "![Share of insiders found](images/recall.svg)",
        "![Low and slow](images/low-and-slow.svg)",
        "### False findings",
        "Per week and 1,000 actors, in the same half years without insiders:",
        _false(seasons, thousands),
        "### The risk list",
        f"Insiders are {first:.0%} of the ten actors with the highest risk and {last:.0%} of the first fifty. (In each "
        "half year about fifty actors break the rules, forty of them by looking at a celebrity once.)",
    ]
    return "\n\n".join(parts)


def precision(seasons: Sequence[Season], top: int) -> float:
    """Returns the share of insiders among the actors with the highest risk."""
    shares = []
    for one in seasons:
        insiders = {actor for deed in one.deeds for actor in deed.actors}
        listed = by_risk(one.found)[:top]
        shares.append(sum(actor in insiders for actor in listed) / max(len(listed), 1))
    return fmean(shares)


def _cases(seasons: Sequence[Season]) -> dict[str, list[InsiderResult]]:
    by_kind: dict[str, list[InsiderResult]] = defaultdict(list)
    for one in seasons:
        told = [finding for finding in one.due_to_insiders() if finding.level in TOLD]
        for deed in one.deeds:
            by_kind[deed.kind].append(InsiderResult(deed, found_by(deed, told)))
    return by_kind


def _by_kind(cases: Mapping[str, Sequence[InsiderResult]], others: Mapping[str, Counter[str]]) -> str:
    rows: list[list[str]] = []
    for kind, of in cases.items():
        found = [one for one in of if one.findings]
        rules = Counter(rule for one in found for rule in {finding.rule for finding in one.findings})
        gone = [one.gone for one in found] or [0]
        share = fmean([one.gone / one.of for one in found] or [0])
        names = ", ".join(f"{rule} {count}" for rule, count in rules.most_common(3))
        counts = [f"{hits[kind]}" for hits in others.values()]
        rows.append(
            [kind, f"{len(found)} of {len(of)}", f"{median(gone):.0f}", f"{max(gone)}", f"{share:.1%}", names, *counts]
        )
    every = [one for of in cases.values() for one in of]
    found_in_all = sum(bool(one.findings) for one in every)
    sums = [sum(hits.values()) for hits in others.values()]
    rows.append(
        ["**all**", f"**{found_in_all} of {len(every)}, {_share(found_in_all, every):.0%}**", "", "", "", "",
         *(f"**{count}, {_share(count, every):.0%}**" for count in sums)]
    )  # fmt: skip
    return table(
        ["kind", "found", "look-ups before the finding, median", "maximum", "share", "by", *others], rows
    ).rstrip()


def _false(seasons: Sequence[Season], thousands: float) -> str:
    by_rule = Counter((finding.rule, finding.level) for one in seasons for finding in one.clean)
    by_level: Counter[str] = Counter()
    for (_, level), count in by_rule.items():
        by_level[level] += count
    rows = [[rule, level, f"{count / thousands:.2f}"] for (rule, level), count in by_rule.most_common()]
    rows += [["**all**", level, f"**{by_level[level] / thousands:.2f}**"] for level in ("high", "medium", "low")]
    return table(["rule", "level", "per week and 1,000 actors"], rows).rstrip()


def _share(count: int, cases: Sequence[InsiderResult]) -> float:
    return count / len(cases)
