"""What the document cannot say."""

import re
import uuid

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """An empty value in a query is as good as none (as HTML forms send them), so it is no bad value of any parameter. A good
    `Idempotency-Key` is a new one: sent with another body, the tool's few would be refused, as they should be."""
    case.query = {name: value for name, value in (case.query or {}).items() if value != ""}
    if re.fullmatch(r"[\x21-\x7e]{1,255}", str((case.headers or {}).get("Idempotency-Key", ""))):
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
