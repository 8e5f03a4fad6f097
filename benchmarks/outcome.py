"""The results of a `bench-ack` run: as Markdown tables, as `name=value` for programs, and as JSON to keep."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks import ablation, busy, kept, measures, visible
from benchmarks.generator import Report
from benchmarks.lineup import NAMES
from benchmarks.measures import Spread

Rounds = list[dict[str, Report]]  # candidate → the report of its turn

EARLY_CALLBACKS = 100_000  # after that many, memory should not grow any more

_MEGABYTE = 1024 * 1024


@dataclass(kw_only=True, slots=True)
class Outcome:
    """Filled during the run. What is empty was not measured."""

    facts: dict[str, str] = field(default_factory=dict)
    fastest: Rounds = field(default_factory=list)  # as fast as the answers come
    steady: Rounds = field(default_factory=list)  # at a fixed rate
    rates: dict[str, float] = field(default_factory=dict)  # of the steady rounds
    memory: list[tuple[int, list[int]]] = field(default_factory=list)  # callbacks answered, bytes of each web process
    proofs: dict[str, kept.Proof] = field(default_factory=dict)
    by_wrk: dict[str, float] = field(default_factory=dict)  # answers a second, as wrk counts them
    ablated: Sequence[dict[str, ablation.Turn]] = ()  # form → turn, by round
    while_busy: busy.Outcome | None = None
    while_split: busy.Outcome | None = None
    until_visible: visible.Outcome | None = None
    faults: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """All results, raw."""
        return {**asdict(self), "values": self.values()}

    def values(self) -> dict[str, float]:
        """The numbers that the goals are checked against, by name."""
        values = {name: ratio.median for name, _, ratio in self._ratios()}
        for kind in ("pg", "sqlite"):
            if self.by_wrk:
                values[f"ack_vs_noop_{kind}_by_wrk"] = self.by_wrk[f"ack_{kind}"] / self.by_wrk[f"noop_{kind}"]
        if self.memory:
            values["web_callbacks"], last = self.memory[-1]
            values["web_mb"] = max(last) / _MEGABYTE
            early = next((sizes for callbacks, sizes in self.memory if callbacks >= EARLY_CALLBACKS), None)
            if early is not None and early is not last:
                growth = max(after - before for after, before in zip(last, early, strict=True))
                values["web_growth_mb"] = growth / _MEGABYTE
        values |= {name: ratio.median for name, ratio in self._ablation_ratios()}
        if self.while_busy:
            values["ack_busy_p99_vs_idle"] = self._busy_ratio(self.while_busy).median
        if self.while_split:
            values["ack_split_p99_vs_idle"] = self._busy_ratio(self.while_split).median
        if self.until_visible:
            values["visible_p99_ms"] = measures.percentile(self.until_visible.delays, 0.99) * 1000
        values["answers_checked"] = sum(proof.acknowledged for proof in self.proofs.values())
        values["answers_missing"] = sum(proof.missing for proof in self.proofs.values())
        return values

    def tables(self) -> str:
        """All results in Markdown."""
        parts = [self._facts_list(), self._candidate_table(), self._ratio_table(), *self._remarks()]
        return "\n\n".join(part for part in parts if part)

    def _facts_list(self) -> str:
        return "\n".join(f"- {name}: {value}" for name, value in self.facts.items())

    def _candidate_table(self) -> str:
        rows = []
        for name, text in NAMES.items():
            per_second = spread_of(self.fastest, name, "per_second").text()
            p99 = spread_of(self.fastest, name, "p99", 1000).text(1)
            steady, rate = "-", "-"
            if name in self.rates:
                rate = f"{self.rates[name]:,.0f}"
                steady = spread_of(self.steady, name, "p99", 1000).text(1)
            rows.append([text, per_second, p99, rate, steady])
        return measures.table(["", "answers/s", "p99 ms", "fixed rate/s", "p99 ms at it"], rows)

    def _ratio_table(self) -> str:
        rows = [[text, ratio.text(2)] for _, text, ratio in self._ratios()]
        return measures.table(["ratio", "median (spread)"], rows)

    def _ratios(self) -> Iterator[tuple[str, str, Spread]]:
        """Each ratio's name, its text, and its spread over the rounds."""
        fastest = [{name: report.per_second for name, report in reports.items()} for reports in self.fastest]
        for name, text, above, below in (
            ("ack_vs_noop_pg", "durable answers ÷ bare Flask no-op, PostgreSQL", "ack_pg", "noop_pg"),
            ("ack_vs_noop_sqlite", "durable answers ÷ bare Flask no-op, SQLite", "ack_sqlite", "noop_sqlite"),
            ("ack_vs_orm_commit", "÷ ORM commit per request", "ack_pg", "orm"),
            ("ack_vs_celery", "÷ Celery + Redis", "ack_pg", "celery"),
            ("ack_vs_wsgi_pg", "÷ raw WSGI no-op, PostgreSQL", "ack_pg", "wsgi_pg"),
        ):
            yield name, text, measures.ratio(fastest, above, below)
        p99s = [{name: report.p99 for name, report in reports.items()} for reports in self.steady]
        for name, text, kind in (
            ("ack_p99_vs_noop", "p99 at half the no-op's maximum ÷ the no-op's there, PostgreSQL", "pg"),
            ("ack_p99_vs_noop_sqlite", "the same, SQLite", "sqlite"),
        ):
            yield name, text, measures.ratio(p99s, f"ack_{kind}", f"noop_{kind}")

    def _remarks(self) -> Iterator[str]:
        for name, proof in self.proofs.items():
            yield (
                f"{NAMES[name]}: {proof.acknowledged:,} answers 200 looked up one by one, {proof.missing} missing, "
                f"{proof.repeated} repeated; {proof.unacknowledged} more kept whose answer never came."
            )
        if self.by_wrk:
            rates = ", ".join(f"{NAMES[name]} {rate:,.0f}/s" for name, rate in self.by_wrk.items())
            yield f"One turn each by wrk: {rates}."
        if self.memory:
            yield "Memory of the web processes: " + "; ".join(
                f"{callbacks:,} callbacks {'/'.join(f'{size / _MEGABYTE:.1f}' for size in sizes)} MB"
                for callbacks, sizes in (self.memory[0], *self._early_memory(), self.memory[-1])
            )
        ratios = dict(self._ablation_ratios())
        for name, (text, _) in ablation.FORMS.items() if self.ablated else ():
            used = measures.spread([turns[name].processor_seconds * 1e6 for turns in self.ablated]).text()
            ratio = ratios.get(f"{name}_vs_{next(iter(ablation.FORMS))}")
            yield f"Processor time a callback, {text}: {used} µs" + (f", ratio {ratio.text(2)}." if ratio else ".")
        for beside, where in ((self.while_busy, ""), (self.while_split, " on a process of its own")):
            if beside is None:
                continue
            idle, loaded = (
                measures.spread([report.p99 * 1000 for report in reports]) for reports in (beside.idle, beside.busy)
            )
            yield (
                f"Callback p99{where} idle {idle.text(1)} ms, busy {loaded.text(1)} ms, ratio "
                f"{self._busy_ratio(beside).text(1)}. Busy with: {', '.join(beside.calls)}; "
                f"a POST took {measures.spread(beside.post_seconds).text(1)} s."
            )
        if self.until_visible:
            delays = self.until_visible.delays
            p50, p99 = (measures.percentile(delays, share) * 1000 for share in (0.5, 0.99))
            yield (
                f"From 200 to visible, at {self.until_visible.report.per_second:,.0f} receipts/s: p50 {p50:.0f} ms, "
                f"p99 {p99:.0f} ms, longest {max(delays) * 1000:.0f} ms, of {len(delays)} receipts watched."
            )

    def _ablation_ratios(self) -> Iterator[tuple[str, Spread]]:
        """For each form but the first: processor time a callback ÷ that of the service as it is."""
        rounds = [{name: turn.processor_seconds for name, turn in turns.items()} for turns in self.ablated]
        whole, *others = ablation.FORMS
        for name in others if rounds else ():
            yield f"{name}_vs_{whole}", measures.ratio(rounds, name, whole)

    def _early_memory(self) -> Sequence[tuple[int, list[int]]]:
        return [sample for sample in self.memory if sample[0] >= EARLY_CALLBACKS][:1]

    @staticmethod
    def _busy_ratio(outcome: busy.Outcome) -> Spread:
        pairs = zip(outcome.busy, outcome.idle, strict=True)
        return measures.spread([busy_report.p99 / idle_report.p99 for busy_report, idle_report in pairs])


def spread_of(rounds: Sequence[Mapping[str, Report]], name: str, field_name: str, factor: float = 1) -> Spread:
    """The spread of one candidate's figure over all rounds. `field_name`: a field of Report."""
    return measures.spread([float(getattr(reports[name], field_name)) * factor for reports in rounds])
