"""Celery's side of the bench: a job that does nothing, and one that tells when it began."""

import os

from celery import Celery
import redis

app = Celery("bench", broker=os.environ["BENCH_REDIS"])
app.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=100,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=True,
)
told = redis.Redis.from_url(os.environ["BENCH_REDIS"])


@app.task(name="noop")
def noop(payload):
    pass


@app.task(name="tell")
def tell(payload):
    told.rpush("bench-began", payload["id"])
