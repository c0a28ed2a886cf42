"""What the document cannot say."""

import re
import uuid

import schemathesis

POOLS = {"issue", "arrive", "verify", "store", "report", "upkeep"}


@schemathesis.hook
def before_call(context, case, kwargs):
    """An empty value in a query is as good as none (as HTML forms send them), so it is no bad value of any parameter. A good
    `Idempotency-Key` is a new one: sent with another body, the tool's few would be refused, as they should be."""
    case.query = {name: value for name, value in (case.query or {}).items() if value != ""}
    # A pool that stands still would leave every later request to wait. This one nobody waits for, and its jobs are on schedules.
    if case.path.endswith("/pause") and (case.path_parameters or {}).get("pool") in POOLS:
        case.path_parameters["pool"] = "upkeep"
    if re.fullmatch(r"[\x21-\x7e]{1,255}", str((case.headers or {}).get("Idempotency-Key", ""))):
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
