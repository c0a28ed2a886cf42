"""Celery on Redis with two worker processes: BENCH_REDIS=redis://… python celery_bench.py

Celery acknowledges before it runs a job (its default, and its fastest), so it promises less than the others. It has no bulk push:
jobs are pushed one by one over one connection. A job tells that it began by a list in the same Redis, on which this process waits:
one more round trip than the others' delays have.
"""

import json
import os
import subprocess
import sys
import time
import uuid

import celery
import redis

import tasks

ROUNDS = [int(number) for number in os.environ.get("BENCH_JOBS", "20000").split(",")]
SINGLES = int(os.environ.get("BENCH_SINGLES", 500))
PAYLOAD = int(os.environ.get("BENCH_PAYLOAD", 200))
WARM_UP, FIRST_SINGLES, PAUSE = 2_000, 50, 0.004
PROCESSES = 2

server = redis.Redis.from_url(os.environ["BENCH_REDIS"])


def payload():
    bare = {"id": str(uuid.uuid4()), "padding": ""}
    return bare | {"padding": "x" * (PAYLOAD - len(json.dumps(bare, separators=(",", ":"))))}


def start_workers():
    """One worker with two processes. What it says goes to stderr."""
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "tasks", "worker", "--concurrency", str(PROCESSES), "--pool", "prefork",
               "--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return subprocess.Popen(command, stdout=sys.stderr)


def stop(worker):
    worker.terminate()
    worker.wait(timeout=60)


def push(count, task=tasks.noop):
    started = time.perf_counter()
    with tasks.app.producer_pool.acquire(block=True) as producer:
        for _ in range(count):
            task.apply_async((payload(),), producer=producer)
    took = time.perf_counter() - started
    if (waiting := server.llen("celery")) != count:
        raise SystemExit(f"{count} jobs were pushed, but {waiting} wait")
    return count / took


def wait_until(condition):
    while not condition():
        time.sleep(0.002)


def drain(count):
    """From when the first job has been taken, since a worker needs a second to start, until none waits or is held."""
    worker = start_workers()
    wait_until(lambda: server.llen("celery") < count)
    started = time.perf_counter()
    wait_until(lambda: server.llen("celery") == 0 and server.hlen("unacked") == 0)
    took = time.perf_counter() - started
    stop(worker)
    return count / took


def delays():
    worker, seen = start_workers(), []
    for number in range(FIRST_SINGLES + SINGLES):
        job, pushed = payload(), time.perf_counter()
        tasks.tell.apply_async((job,))
        _, began = server.blpop("bench-began")
        delay = time.perf_counter() - pushed
        assert began.decode() == job["id"]
        if number >= FIRST_SINGLES:
            seen.append(delay * 1e3)
        time.sleep(PAUSE)
    stop(worker)
    return sorted(seen)


def main():
    server.delete("celery", "unacked", "unacked_index", "bench-began")
    push(WARM_UP)
    drain(WARM_UP)
    figures = []
    for jobs in ROUNDS:
        figures.append({"name": f"pushed_{jobs}", "unit": "per_second", "value": push(jobs)})
        figures.append({"name": f"drained_{jobs}", "unit": "per_second", "value": drain(jobs)})
    seen = delays()
    for name, share in (("delay_p50", 0.5), ("delay_p99", 0.99)):
        figures.append({"name": name, "unit": "milliseconds", "value": seen[min(int(len(seen) * share), len(seen) - 1)]})
    settings = [
        {"name": "versions", "value": f"celery {celery.__version__}, redis-py {redis.__version__}, python {sys.version.split()[0]}"},
        {"name": "processes", "value": str(PROCESSES)},
        {"name": "prefetch", "value": "100 a process"},
    ]
    print(json.dumps({"settings": settings, "figures": figures}))


if __name__ == "__main__":
    main()
