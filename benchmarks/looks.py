"""What a browser feels of the pages of /ops: bytes, requests, paint, layout shifts, the way to the reason."""

from collections.abc import Sequence
from time import perf_counter

from benchmarks import measures, runs
from benchmarks.samples import Sample
from benchmarks.tools import BenchError
from receiptsvc.demo.processes import Stack
from tests.support.browser import Tab

_LOADS, _SEARCHES = 5, 20
_SETTLED = """new Promise((done) => {
  let paint = 0, shift = 0;
  new PerformanceObserver((list) => { for (const each of list.getEntries()) paint = Math.max(paint, each.startTime); })
    .observe({ type: "largest-contentful-paint", buffered: true });
  new PerformanceObserver((list) => { for (const each of list.getEntries()) shift += each.value; })
    .observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done([paint, shift]), 1000);
})"""
_FIRST_MESSAGE = "document.querySelector('main a[href*=\"messages/msg_\"]')"
_REASON = "document.querySelector('.verdict')?.innerText"


class Looks:
    """A browser in which somebody has just signed in."""

    def __init__(self, stack: Stack, tab: Tab, chosen: Sequence[Sample]) -> None:
        self._url, self._tab, self._chosen = stack.url, tab, chosen
        tab.resize(1440, 900)
        tab.open(f"{stack.url}/ops/sign-in")
        tab.fill("#secret", stack.api_key)
        tab.follow("document.querySelector('form.fields').requestSubmit()")

    def measure(self, facts: dict[str, str]) -> dict[str, float]:
        """All of it, by name."""
        runs.say("pages: in a browser")
        return self._load_first(facts) | self._paint(facts) | self._search(facts)

    def _load_first(self, facts: dict[str, str]) -> dict[str, float]:
        """The pages that come first, with nothing kept from the sign-in."""
        loads = {}
        for name, path in self._paths().items():
            self._tab.call("Network.clearBrowserCache")
            before = len(self._tab.received())
            self._tab.open(self._url + path)
            self._tab.run(_SETTLED)  # until what the page itself asks for is there
            loads[name] = self._tab.received()[before:]
            facts[f"first load, {name}"] = f"{len(loads[name])} requests, {sum(loads[name]) / 1000:.1f} KB"
        return {"first_load_kb": sum(loads["start"]) / 1000, "first_load_requests": len(loads["start"])}

    def _paint(self, facts: dict[str, str]) -> dict[str, float]:
        """The latest largest paint, and the most that anything moved."""
        paints, shifts = [0.0], [0.0]
        for name, path in self._paths().items():
            looks = []
            for _ in range(_LOADS):
                self._tab.open(self._url + path)
                looks.append(self._tab.run(_SETTLED))
            paint, shift = (max(values) for values in zip(*looks, strict=True))
            if not paint:
                raise BenchError(f"the browser has painted nothing of {name}")
            facts[f"largest paint; layout shift, {name}"] = f"{paint:.0f} ms; {shift:.3f}"
            paints.append(paint / 1000)
            shifts.append(shift)
        return {"largest_paint_seconds": max(paints), "layout_shift": max(shifts)}

    def _search(self, facts: dict[str, str]) -> dict[str, float]:
        """From a typed number to the reason of this person's newest message."""
        tab, durations = self._tab, []
        for sample in self._chosen[:_SEARCHES]:
            tab.open(f"{self._url}/ops")
            tab.press("/")
            tab.write(sample.recipient)
            started = perf_counter()
            with tab.leaving():  # the first action
                tab.press("Enter")
            tab.follow(f"{_FIRST_MESSAGE}.click()")  # the second
            if not tab.run(_REASON):
                raise BenchError("two actions did not lead from a number to a reason")
            durations.append(perf_counter() - started)
        facts["from a number to the reason, median"] = f"{measures.spread(durations).text(2)} s"
        return {"reason_actions": 2, "reason_seconds": measures.percentile(durations, 0.95)}

    def _paths(self) -> dict[str, str]:
        sample = self._chosen[0]
        return {
            "start": "/ops",
            "messages": "/ops/messages",
            "message": f"/ops/messages/{sample.id}",
            "conversation of 1,000": f"/ops/conversations/{sample.conversation_id}",
        }
