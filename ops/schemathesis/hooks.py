"""What the document cannot say."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """An empty value in a query is as good as none (as HTML forms send them), so it is no bad value of any parameter."""
    case.query = {name: value for name, value in (case.query or {}).items() if value != ""}
