"""control.py: how tests talk to a stub about itself: JSON under /_control/.

    POST faults         [rule, ...]: the rules in force from now on (faults.py)
    POST faults/add     [rule, ...]: more of them, behind those
    GET  faults         the rules, how often each was used and is still to be
    GET  stats          counters, see Stats in server.py
    POST rate           {"per_second": 1, "burst": 3, "retry_after": 1}: 429 to who is
                        faster; {} switches it off; a retry_after of null isn't told
    POST listen         {"mode": "open" | "closed" | "silent"}: closed refuses connections
                        and ends those there are; silent accepts them and says nothing, not
                        even TLS (until the next change of mode)
    POST release        answers that a fault delays go out now
    POST disconnect     ends every connection that waits for nothing
    POST journal        {"enabled": false}: write nothing into requests.jsonl
    POST reset          forget everything; the modes above are as at the start

What Slack's and Stripe's have besides: slack_service.py, stripe_control.py.
"""

from http11 import Answer, json_answer

PREFIX = "/_control/"


class Control:
    def __init__(self, server):
        self.server = server
        self.calls = {
            ("GET", "faults"): lambda _: server.faults.show(),
            ("POST", "faults"): self.set_faults,
            ("POST", "faults/add"): self.add_faults,
            ("GET", "stats"): lambda _: server.stats.show(server),
            ("POST", "rate"): self.set_rate,
            ("POST", "listen"): self.listen,
            ("POST", "release"): lambda _: server.release(),
            ("POST", "disconnect"): lambda _: server.disconnect(),
            ("POST", "journal"): self.journal,
            ("POST", "reset"): lambda _: server.reset(),
        }

    def answer(self, request):
        """A call is given the body's JSON, or the fields of the query."""
        call = self.calls.get((request.method, request.path[len(PREFIX):]))
        if not call:
            return json_answer({"error": "no such call"}, 404)
        try:
            value = call(request.form() if request.method == "GET" else request.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return json_answer({"error": f"{type(error).__name__}: {error}"}, 400)
        if isinstance(value, Answer):
            return value
        return json_answer({"done": True} if value is None else value)

    def set_faults(self, body):
        self.server.faults.set(as_list(body))

    def add_faults(self, body):
        self.server.faults.add(as_list(body))

    def set_rate(self, body):
        self.server.pace.set(body or {})

    def listen(self, body):
        self.server.set_mode(body["mode"])

    def journal(self, body):
        self.server.journal.enabled = bool(body["enabled"])


def as_list(body):
    if isinstance(body, dict):
        body = body.get("faults", [body])
    return body


def merge(errors, body):
    for key, error in body.items():
        errors.pop(key.removeprefix("#"), None)
        if error:
            errors[key.removeprefix("#")] = error
