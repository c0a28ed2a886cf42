"""The dashboards: writes pipeline.json, queue.json and bucket.json beside this file, for Grafana 11 or later.

    dashboards.py            writes them
    dashboards.py --check    fails if they are not what this file says

Each answers the same questions from top to bottom: is it healthy, where does it stand still, what is the rate, what is the
latency, what is lost. Rates are of all processes together; what is read from the ledger is the same in each of them, so its maximum is taken.
"""

import copy
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent
HALF, THIRD, QUARTER, SIXTH = 12, 8, 6, 4
RATE = "$__rate_interval"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def stat(title, unit, expr, steps, about, **more):
    """One figure, coloured by its steps: (from, colour), the first without a bound."""
    return panel("stat", title, unit, [(expr, "")], about, width=SIXTH, height=4, steps=steps, **more)


def graph(title, unit, queries, about, width=HALF, **more):
    """Lines over time: (expression, legend)."""
    return panel("timeseries", title, unit, queries, about, width=width, height=8, **more)


def panel(kind, title, unit, queries, about, width, height, steps=(), stacked=False, **bounds):
    colours = [{"color": colour, "value": value} for value, colour in steps or [(None, "green")]]
    defaults = {"unit": unit, "thresholds": {"mode": "absolute", "steps": colours}, **bounds}
    if kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
        defaults["noValue"] = "–"
        options = {
            "colorMode": "background",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    else:
        defaults["min"] = bounds.get("min", 0)
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "fillOpacity": 25 if stacked else 8,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if steps else "off"},
        }
        options = {
            "legend": {"displayMode": "table", "placement": "right" if width == HALF else "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    targets = [
        {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
        for at, (expr, legend) in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "gridPos": {"w": width, "h": height},
    }


def board(uid, title, about, rows):
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["longshore"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,
        "links": [
            {"type": "dashboards", "title": "longshore", "tags": ["longshore"], "asDropdown": False, "includeVars": True, "keepTime": True}
        ],
        "templating": {"list": [datasource(), job()]},
        "panels": laid_out(rows),
    }


def datasource():
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def job():
    query = {"query": "label_values(longshore_build_info, job)", "refId": "job"}
    return {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "definition": query["query"],
        "refresh": 2,
        "includeAll": True,
        "multi": False,
        "current": {"text": "All", "value": "$__all"},
    }


def laid_out(rows):
    """Gives every panel its place and number: left to right, then the next line."""
    placed, y = [], 0
    for title, panels in rows:
        placed.append({"type": "row", "title": title, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []})
        x, y, tallest = 0, y + 1, 0
        for each in panels:
            # Some stand on several boards.
            each = copy.deepcopy(each)
            at = each["gridPos"]
            if x + at["w"] > 24:
                x, y, tallest = 0, y + tallest, 0
            at.update(x=x, y=y)
            x, tallest = x + at["w"], max(tallest, at["h"])
            placed.append(each)
        y += tallest
    for number, each in enumerate(placed, start=1):
        each["id"] = number
    return placed


def grouped(operator, by):
    return f"{operator} by ({by}) " if by else operator


def selector(match):
    """Of the chosen job; `match` may quote by apostrophes, which are easier to write here."""
    return "{" + ", ".join(filter(None, ['job=~"$job"', match.replace("'", '"')])) + "}"


def rate(metric, by="", match=""):
    return f"{grouped('sum', by)}(rate({metric}{selector(match)}[{RATE}]))"


def known(metric, by="", match=""):
    """Of what is read from the ledger."""
    return f"{grouped('max', by)}({metric}{selector(match)})"


def quantile(share, histogram, by="", match=""):
    return f"histogram_quantile({share}, {rate(histogram + '_bucket', f'le, {by}' if by else 'le', match)})"


def share(metric, window, part, whole=""):
    """How much of what happened is `part`; nothing where nothing happened."""
    some, all_of_it = growth(metric, window, match=part), growth(metric, window, match=whole)
    return f"({some} or vector(0)) / {all_of_it}"


def growth(metric, window, by="", match=""):
    return f"{grouped('sum', by)}(increase({metric}{selector(match)}[{window}]))"


UP = stat(
    "Processes that answer", "none", 'sum(up{job=~"$job"})', [(None, "red"), (1, "green")],
    "Runbook: LongshoreDown.",
)
DEAD = stat(
    "Dead letters", "none", f"sum({known('longshore_jobs_dead', 'pool')})", [(None, "green"), (1, "orange"), (50, "red")],
    "Jobs to which no attempt is left; a person must act. Runbook: LongshoreDeadLettersGrowing.",
)
OLDEST = stat(
    "Oldest job that is due", "s", known("longshore_queue_oldest_age_seconds"), [(None, "green"), (30, "orange"), (300, "red")],
    "Runbook: LongshoreOldestJobWaiting.",
)
POLLED = stat(
    "Arrivals found by the poller", "percentunit",
    share("longshore_notices_total", "30m", "source='poll', disposition='applied'", "disposition='applied'"),
    [(None, "green"), (0.02, "orange"), (0.1, "red")],
    "Of the last 30 minutes. They should have come as notices. Runbook: LongshoreNoticesBroken.",
)

PIPELINE = board("longshore-pipeline", "longshore: pipeline", "Uploads from the request to their end.", [
    ("Is it healthy?", [
        UP,
        stat("API answers without 5xx, 1 h", "percentunit", '1 - max(longshore:intake_errors:ratio_rate1h{job=~"$job"})',
             [(None, "red"), (0.994, "orange"), (0.999, "green")],
             "Objective: 99.9 % over 30 days. Runbook: LongshoreIntakeErrorBudgetBurn.", max=1),
        stat("Ended within 60 s of arrival, 1 h", "percentunit", '1 - max(longshore:settled_late:ratio_rate1h{job=~"$job"})',
             [(None, "red"), (0.94, "orange"), (0.99, "green")],
             "Objective: 99 % over 30 days. Runbook: LongshoreVerifyErrorBudgetBurn.", max=1),
        OLDEST,
        DEAD,
        stat("Reports behind", "s", known("longshore_report_age_seconds"), [(None, "green"), (60, "orange"), (300, "red")],
             "Age of the oldest delta that is not folded. Runbook: LongshoreReportStale."),
    ]),
    ("Where does it stand still?", [
        graph("Open uploads", "none", [(known("longshore_uploads_open", "state"), "{{state}}")],
              "requested waits for a signature, issued for the client, arrived to be hashed, verified to be stored."),
        graph("Age of the oldest open upload", "s", [(known("longshore_upload_oldest_open_age_seconds", "state"), "{{state}}")],
              "Since it was asked for. In issued it waits for its client alone, up to the policy's end and an hour."),
    ]),
    ("What is the rate?", [
        graph("Uploads that ended", "ops", [(rate("longshore_uploads_total", "outcome"), "{{outcome}}")], "By outcome.", THIRD),
        graph("Bytes stored and spared", "Bps", [
            (rate("longshore_upload_bytes_total", "outcome"), "{{outcome}}"),
            (rate("longshore_dedupe_bytes_saved_total"), "not stored again"),
        ], "done: bytes that were new; deduplicated: bytes that the org had already.", THIRD),
        graph("Requests to the API", "reqps", [(rate("longshore_http_requests_total", "code", 'route=~"/api/.*", route!~"/api/admin/.*"'), "{{code}}")],
              "By status code.", THIRD, stacked=True),
    ]),
    ("What is the latency?", [
        graph("POST /api/uploads", "s", [
            (quantile(0.5, "longshore_http_request_duration_seconds", match='route="/api/uploads", method="POST"'), "median"),
            (quantile(0.99, "longshore_http_request_duration_seconds", match='route="/api/uploads", method="POST"'), "p99"),
        ], "With the wait for the policy, 2 s at most by default.", THIRD),
        graph("From arrival to the end", "s", [
            (quantile(0.5, "longshore_upload_settle_seconds"), "median"),
            (quantile(0.99, "longshore_upload_settle_seconds"), "p99"),
        ], "From arrived to done or rejected.", THIRD, steps=[(None, "transparent"), (60, "red")]),
        graph("From landing to being known, p99", "s", [(quantile(0.99, "longshore_completion_lag_seconds", "source"), "{{source}}")],
              "How late notices, callbacks and the poller are.", THIRD),
    ]),
    ("What is lost?", [
        graph("Uploads that did not get done", "none", [
            (growth("longshore_uploads_total", "1h", "outcome", 'outcome=~"rejected|expired|cancelled"'), "{{outcome}}"),
        ], "Per hour. expired: the client never sent its bytes, or we never saw them.", THIRD),
        graph("5xx by route", "reqps", [(rate("longshore_http_requests_total", "route, code", 'code=~"5.."'), "{{route}} {{code}}")],
              "Which door fails.", THIRD),
        graph("Drift that rebuilds mended", "none", [
            (growth("longshore_report_drift_files", "6h"), "files"),
        ], "Must be zero. Runbook: LongshoreReportDrift.", THIRD),
    ]),
])

QUEUE = board("longshore-queue", "longshore: queue", "Jobs, pools and workers.", [
    ("Is it healthy?", [
        UP,
        stat("Pools without a worker", "none",
             'count(count by (pool) (longshore_queue_depth{job=~"$job"}) unless on (pool)'
             ' sum by (pool) (longshore_worker_up{job=~"$job"}) > 0) or vector(0)',
             [(None, "green"), (1, "red")], "Runbook: LongshoreWorkerMissing."),
        OLDEST,
        DEAD,
        stat("Since the last tick of a schedule", "s", 'time() - max(longshore_schedule_last_tick_seconds{job=~"$job"})',
             [(None, "green"), (60, "orange"), (600, "red")], "Runbook: LongshoreWorkerMissing."),
        stat("Jobs taken from lost workers, 1 h", "none", growth("longshore_jobs_rescued_total", "1h"),
             [(None, "green"), (1, "orange")], "Each lost its lease: a worker was killed, cut off or stuck."),
    ]),
    ("Where does it stand still?", [
        graph("Jobs that wait", "none", [(known("longshore_queue_depth", "pool"), "{{pool}}")],
              "Due or not; those that run are not counted."),
        graph("Oldest job that is due", "s", [(known("longshore_queue_oldest_age_seconds", "pool"), "{{pool}}")],
              "A steep, even rise: nobody takes jobs of this pool.", steps=[(None, "transparent"), (300, "red")]),
    ]),
    ("What is the rate?", [
        graph("Jobs put on", "ops", [(rate("longshore_jobs_enqueued_total", "kind"), "{{kind}}")], "By kind.", THIRD),
        graph("Runs that ended", "ops", [(rate("longshore_jobs_finished_total", "outcome"), "{{outcome}}")],
              "done and moot are well; snoozed waits for something; retried has failed.", THIRD, stacked=True),
        graph("Jobs that run", "none", [(f'sum by (pool) (longshore_jobs_running{{job=~"$job"}})', "{{pool}}")],
              "Of all processes. At the concurrency times the workers, a pool is full.", THIRD),
    ]),
    ("What is the latency?", [
        graph("Wait from due to start, p99", "s", [(quantile(0.99, "longshore_job_wait_seconds", "kind"), "{{kind}}")], "By kind."),
        graph("Run, p99", "s", [(quantile(0.99, "longshore_job_run_seconds", "kind"), "{{kind}}")],
              "By kind. verify_upload grows with the files."),
    ]),
    ("What is lost?", [
        graph("Dead letters", "none", [(known("longshore_jobs_dead", "pool"), "{{pool}}")], "`longshore jobs list` shows them.", THIRD),
        graph("Runs that failed", "ops", [
            (rate("longshore_jobs_finished_total", "kind, outcome", 'outcome=~"retried|dead"'), "{{kind}} {{outcome}}"),
        ], "retried is tried again later.", THIRD),
        graph("Jobs taken from lost workers", "none", [(growth("longshore_jobs_rescued_total", "5m", "pool"), "{{pool}}")],
              "In five minutes.", THIRD),
    ]),
])

BUCKET = board("longshore-bucket", "longshore: bucket", "S3, its notices, and what lies in it.", [
    ("Is it healthy?", [
        stat("S3 requests that failed, 1 h", "percentunit",
             share("longshore_s3_requests_total", "1h", "code=~'5..|429'"),
             [(None, "green"), (0.01, "orange"), (0.05, "red")], "5xx and throttling."),
        POLLED,
        stat("Inbox failures, 1 h", "none", growth("longshore_inbox_failures_total", "1h"),
             [(None, "green"), (1, "orange"), (20, "red")], "Runbook: LongshoreNoticesBroken."),
        stat("Files without their bytes", "none", known("longshore_sweep_orphans", match="kind='row'"),
             [(None, "green"), (1, "red")], "Of the last sweep. Runbook: LongshoreOrphansGrowing."),
        stat("Objects without an owner", "none", "sum(" + known("longshore_sweep_orphans", "kind", "kind=~'staging|blob'") + ")",
             [(None, "green"), (1000, "orange")], "Of the last sweep. Runbook: LongshoreOrphansGrowing."),
        stat("Hashing speed", "Bps", f"{rate('longshore_hash_bytes_total')} / {rate('longshore_hash_seconds_total')}",
             [(None, "blue")], "Bytes a second of one stream, from the bucket to the hash."),
    ]),
    ("Where does it stand still?", [
        graph("How arrivals became known", "ops", [
            (rate("longshore_notices_total", "source", 'disposition="applied"'), "{{source}}"),
        ], "Notices should be most of them.", stacked=True),
        graph("Inbox failures", "ops", [(rate("longshore_inbox_failures_total", "op"), "{{op}}")],
              "receive and acknowledge: the queue of notices. hand_over: our own queue."),
    ]),
    ("What is the rate?", [
        graph("S3 requests by operation", "reqps", [(rate("longshore_s3_requests_total", "op"), "{{op}}")], "All processes.", THIRD),
        graph("S3 requests by code", "reqps", [(rate("longshore_s3_requests_total", "code"), "{{code}}")],
              "404 of a HEAD is usual: the poller looks.", THIRD),
        graph("Bytes hashed", "Bps", [(rate("longshore_hash_bytes_total"), "hashed")], "All processes.", THIRD),
    ]),
    ("What is the latency?", [
        graph("S3 requests, p99", "s", [(quantile(0.99, "longshore_s3_request_duration_seconds", "op"), "{{op}}")], "By operation."),
        graph("From landing to being known, p99", "s", [(quantile(0.99, "longshore_completion_lag_seconds", "source"), "{{source}}")],
              "By who told."),
    ]),
    ("What is lost?", [
        graph("Objects and rows without their other half", "none", [(known("longshore_sweep_orphans", "kind"), "{{kind}}")],
              "Of the last sweep.", THIRD),
        graph("Removed", "none", [
            (growth("longshore_sweep_deleted_total", "1h", "kind"), "{{kind}}, by the sweep"),
            (growth("longshore_blobs_collected_total", "1h"), "blobs of deleted files"),
            (growth("longshore_sweep_foreign_total", "1h"), "foreign, left alone"),
        ], "Objects per hour.", THIRD),
        graph("Notices that named nothing of ours", "none", [
            (growth("longshore_notices_total", "1h", "disposition", 'disposition=~"stale|unknown_key|malformed"'), "{{disposition}}"),
        ], "Per hour. unknown_key: another bucket's or another prefix's.", THIRD),
    ]),
])


def check_places(content):
    taken = set()
    for each in content["panels"]:
        at = each["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, f"{content['title']}: {each['title']} has no place of its own"
        taken |= cells


def main():
    for name, content in (("pipeline", PIPELINE), ("queue", QUEUE), ("bucket", BUCKET)):
        check_places(content)
        path, text = FOLDER / f"{name}.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path} is not what dashboards.py says: run dashboards.py")


main()
