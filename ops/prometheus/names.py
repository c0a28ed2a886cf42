"""Holds every metric and label that alerts, recording rules and dashboards name against a real /metrics.

    names.py URL-OF-METRICS

What is asked of it: the metric is there, so is each label that is matched, grouped by or shown, and each value that is matched
(for labels whose values are all there from the start). Then it misspells each name in memory and asserts that this is noticed.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.request

import promql_parser as promql
import yaml

FOLDER = pathlib.Path(__file__).parent
OPS = FOLDER.parent

# Metrics that the program does not have yet, with their labels and the values that are matched. One that is there may not stay.
TO_COME = {}
# What `promtool check metrics` still finds. A finding that is gone may not stay here.
FINDINGS_TO_GO = set()

# What Prometheus itself adds to every series.
ADDED = {"job": None, "instance": None}
# Labels with values that come only as they happen, such as a failure's code. None: any value will do.
OPEN_VALUES = {"code", "job", "instance"}
# Histograms that are there from their first sample on, and the counter of the same doings that has all values from the start.
SAME_DOINGS = {"longshore_http_request_duration_seconds": "longshore_http_requests_total"}
VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h", "$job": ".*", "$pool": ".*"}


class Finding(Exception):
    """Something is named that is not there."""


def main():
    url = sys.argv[1]
    text = settled(url)
    lint(text)
    exposed = series(text)
    there = sorted(name for name in TO_COME if name in exposed)
    assert not there, f"these are there now; take them out of TO_COME in {__file__}: {there}"
    world = {**{name: {**labels, **ADDED} for name, labels in (exposed | TO_COME).items()}, "up": dict(ADDED)}
    sources = everything()
    check(world, sources)
    misspelled = prove(world, sources)
    check_runbook(sources)
    queries = sum(len(source["queries"]) for source in sources)
    print(f"{queries} queries name what is there; {len(TO_COME)} metrics are to come; {misspelled} misspellings were noticed")


def settled(url):
    """What /metrics says once the reports are folded, as a histogram is there from its first sample on."""
    deadline = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        if "longshore_report_fold_seconds_count" in text and "longshore_http_requests_total" in text:
            return text
        assert time.monotonic() < deadline, "the reports were not folded within 60 s"
        time.sleep(0.1)


def lint(text):
    told = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    found = set((told.stdout + told.stderr).split("\n")) - {""}
    assert found <= FINDINGS_TO_GO, f"promtool check metrics: {sorted(found - FINDINGS_TO_GO)}"
    gone = FINDINGS_TO_GO - found
    assert not gone, f"promtool finds this no more; take it out of FINDINGS_TO_GO in {__file__}: {sorted(gone)}"


def series(text):
    """The labels of every metric, and the values of every label; `job` and `instance` as Prometheus stores them."""
    found = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, labels = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+", line).groups()
        of_name = found.setdefault(name, collections.defaultdict(set))
        for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""):
            of_name["exported_" + label if label in ADDED else label].add(value)
    for histogram, counter in SAME_DOINGS.items():
        for name in [name for name in found if name.startswith(histogram)]:
            for label in found[name].keys() & found[counter].keys():
                found[name][label] |= found[counter][label]
    return {name: dict(labels) for name, labels in found.items()}


def everything():
    """Each file with its queries: (where, query, what is shown of the outcome)."""
    sources = []
    for path in (FOLDER / "rules.yaml", FOLDER / "alerts.yaml"):
        rules = [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
        queries = [
            {
                "where": f"{path.name}: {rule.get('alert') or rule['record']}",
                "expr": rule["expr"],
                "shown": set(re.findall(r"\$labels\.(\w+)", str(rule.get("annotations")))) - set(rule.get("labels", {})),
                "record": rule.get("record"),
                "alert": rule.get("alert"),
            }
            for rule in rules
        ]
        sources.append({"path": path, "queries": queries})
    for path in sorted((OPS / "grafana").glob("*.json")):
        sources.append({"path": path, "queries": list(of_dashboard(path))})
    assert len(sources) >= 5, "the dashboards are missing"
    return sources


def of_dashboard(path):
    board = json.loads(path.read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            legend = target.get("legendFormat", "")
            yield {
                "where": f"{path.name}: {panel['title']}",
                "expr": target["expr"],
                "shown": set(re.findall(r"\{\{\s*(\w+)\s*\}\}", legend)),
            }
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            yield {"where": f"{path.name}: ${variable['name']}", "expr": metric, "shown": {label}}


def check(world, sources):
    """Raises the first finding. Recorded metrics are known from their rule on."""
    world = dict(world)
    for source in sources:
        for query in source["queries"]:
            try:
                labels = outcome(world, parse(query["expr"]))
                missing = query["shown"] - labels
                if missing:
                    raise Finding(f"the outcome has no label {sorted(missing)}, only {sorted(labels)}")
            except (Finding, ValueError) as error:
                raise Finding(f"{query['where']}: {error}") from error
            if query.get("record"):
                world[query["record"]] = {label: set() for label in labels}


def parse(expr):
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    left = re.search(r"\$\{?\w+", expr)
    if left:
        raise Finding(f"an unknown variable {left[0]}")
    return promql.parse(expr)


def outcome(world, expr):
    """The labels that the outcome of an expression has; raises a finding for a name that is not there."""
    match type(expr).__name__:
        case "VectorSelector":
            return selected(world, expr)
        case "MatrixSelector":
            return selected(world, expr.vector_selector)
        case "ParenExpr" | "UnaryExpr" | "SubqueryExpr":
            return outcome(world, expr.expr)
        case "AggregateExpr":
            return aggregated(world, expr)
        case "BinaryExpr":
            return combined(world, expr)
        case "Call":
            return called(world, expr)
        case "NumberLiteral" | "StringLiteral":
            return set()
        case other:
            raise Finding(f"an expression of kind {other}, which this check does not know")


def selected(world, selector):
    known = world.get(selector.name)
    if known is None:
        raise Finding(f"there is no metric {selector.name}")
    for matcher in selector.matchers.matchers:
        if matcher.name not in known:
            raise Finding(f"{selector.name} has no label {matcher.name}, only {sorted(known)}")
        check_value(selector.name, matcher, known[matcher.name])
    return set(known)


def check_value(metric, matcher, values):
    if matcher.name in OPEN_VALUES or not values:
        return
    exact = matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual)
    pattern = re.escape(matcher.value) if exact else matcher.value
    # Each branch by itself: a|b with a misspelled b would match all the same.
    for branch in [pattern] if exact else pattern.split("|"):
        if not any(re.fullmatch(branch, value) for value in values):
            raise Finding(f"{metric} has no {matcher.name} that is {matcher.value}, only {sorted(values)}")


def aggregated(world, expr):
    labels = outcome(world, expr.expr)
    if expr.modifier is None:
        return labels if keeps_labels(expr) else set()
    named = set(expr.modifier.labels)
    if not named <= labels:
        raise Finding(f"grouped by {sorted(named - labels)}, which is no label there, only {sorted(labels)}")
    if keeps_labels(expr):
        return labels
    return named if expr.modifier.type == promql.AggModifierType.By else labels - named


def keeps_labels(expr):
    """topk and bottomk choose series, all others make new ones; both alone have a parameter that is a number."""
    return expr.param is not None and type(expr.param).__name__ == "NumberLiteral"


def combined(world, expr):
    left, right = outcome(world, expr.lhs), outcome(world, expr.rhs)
    matching = expr.modifier and expr.modifier.matching
    if matching:
        missing = set(matching.labels) - (left & right)
        if missing:
            raise Finding(f"matched on {sorted(missing)}, which one side does not have")
    return left | (right if not matching else set())


def called(world, expr):
    labels = set()
    for argument in expr.args:
        labels |= outcome(world, argument)
    if expr.func.name == "histogram_quantile" and "le" not in labels:
        raise Finding("a quantile of what has no buckets")
    return labels - {"le"} if expr.func.name == "histogram_quantile" else labels


def prove(world, sources):
    """Misspells every name of a metric and of a label, one at a time; returns how many that were."""
    noticed = 0
    for source in sources:
        for query in source["queries"]:
            names = re.findall(r"\blongshore[\w:]+\b", query["expr"])
            names += re.findall(r"\b(\w+)\s*(?:=~|!~|!=|=)\s*\"", query["expr"])
            grouped = re.findall(r"\b(?:by|on|without)\s*\(([^)]+)\)", query["expr"])
            names += [label for labels in grouped for label in re.findall(r"\w+", labels)]
            for name in sorted(set(names)):
                wrong = {**query, "expr": re.sub(rf"(?<![\w:]){re.escape(name)}(?![\w:])", name + "x", query["expr"])}
                recorded = [s for s in sources if s is not source]
                try:
                    check(world, [s for s in recorded if s["path"].name == "rules.yaml"] + [{**source, "queries": [wrong]}])
                except Finding:
                    noticed += 1
                else:
                    raise AssertionError(f"{query['where']}: {name} was misspelled and nobody noticed")
    return noticed


def check_runbook(sources):
    """Each alert has a severity, its annotations, a heading, a test in which it fires and one in which it does not."""
    rules = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    tests = [
        case
        for path in FOLDER.glob("*_test.yaml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    runbook = (OPS / "runbook.md").read_text()
    headings = set(re.findall(r"^#+ (Longshore\w+)$", runbook, re.M))
    names = {rule["alert"] for rule in rules}
    assert headings == names, f"headings of the runbook and alerts differ: {sorted(headings ^ names)}"
    for rule in rules:
        name = rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["annotations"]["summary"] and rule["annotations"]["description"], name
        assert rule["annotations"]["runbook_url"].endswith(f"#{name.lower()}"), name
        fires = [case for case in tests if case["alertname"] == name and fits(rule, case)]
        assert fires, f"no test in which {name} {rule['labels']} fires"
        assert any(case["alertname"] == name and not case["exp_alerts"] for case in tests), f"no test in which {name} is quiet"


def fits(rule, case):
    return any(rule["labels"].items() <= alert["exp_labels"].items() for alert in case["exp_alerts"])


main()
