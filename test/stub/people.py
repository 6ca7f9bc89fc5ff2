"""people.py: what people do in Slack, as the requests that Slack sends an app for it.

Each of these makes the exact body and headers, signed, with a response_url and a
trigger_id of the stub's own.  Who asks sends them, or has the stub POST them:

    POST press          {"channel", "ts", "action_id"}: a button or menu of a message.
                        "option": which of a menu (its value, the value's end after ":", or
                        its text); "stale": also one that an update has removed
    POST command        {"command": "/stripe", "text": "help", "channel"}
    POST submit         {"view": id, else the person's last; "values": {block_id: {action_id: text}}}
    POST close_view     {"view"}
    POST shortcut       {"callback_id"}; with "channel" and "ts" that of a message
    POST event          {"event": {...}}: Events API
    POST challenge      {}: url_verification
    POST ssl_check      {}: unsigned

and in each, if wanted: "user", "user_name", "team" (that of the person); "secret" (signing
secret), "at" (Unix time of the signature); "to", a URL to POST it to.

    -> {"id", "body", "headers", "response_url", "trigger_id"}, with "to" also "status" and
       "answer"
    POST answered       {"id", "status", "answer"}: what the app has said to the request (with
                        "to" the stub does it itself).  400 with Slack's word for it if Slack
                        would not take it
    POST expire         {}: all response_urls and trigger_ids are too old now
    POST trigger_life   {"seconds"}: of trigger_ids, else 3
    GET  private        what only one person sees: [{"user", "channel", "text", "blocks", "shown"}]
    GET  views          [{"id", "user", "state": open, closed or submitted, "view", "errors"}]
    POST groups         {"S...": ["U...", ...]}: members of user groups; null: there is none
    POST plan           {"paid": false}: a plan without user groups
    POST scopes         {"xoxb-...": "chat:write"}: what a token may; null: everything
"""

import hashlib
import hmac
import json
import ssl
import time
import urllib.error
import urllib.request
from urllib.parse import urlencode

from rules import Refused
from rules_views import check_response_action
from shown import shown
from tickets import respond_to_command

SIGNING_SECRET = "0123456789abcdef0123456789abcdef"
TOKEN = "stubVerificationToken000"
FORM = "application/x-www-form-urlencoded"
AGENT = "Slackbot 1.0 (+https://api.slack.com/robots)"
PATIENCE = 3                    # seconds that an app has to answer


class People:
    def __init__(self, workspace, base):
        self.workspace = workspace
        self.base = base        # the stub's own URL
        self.done = {}

    # ---- who, where ----

    def person(self, how):
        user = how.get("user", "U0PERSON1")
        name = how.get("user_name", user.lower())
        return {"id": user, "username": name, "name": name,
                "team_id": how.get("team", self.workspace.team)}

    def common(self, kind, how, **context):
        context.update(user=self.person(how)["id"])
        team = self.workspace.team
        return {"type": kind, "team": {"id": team, "domain": "stub"}, "user": self.person(how),
                "api_app_id": self.workspace.app, "token": TOKEN, "enterprise": None,
                "is_enterprise_install": False,
                "trigger_id": self.workspace.tickets.trigger(context)}

    def response_url(self, kind, how, **context):
        context.update(user=self.person(how)["id"])
        return self.base() + self.workspace.tickets.response_path(kind, context)

    def message(self, how):
        place = self.workspace.place_of(how["channel"])
        return place, place.messages[how["ts"]]

    # ---- what they do ----

    def press(self, how):
        place, message = self.message(how)
        element = message.element(how["action_id"], how.get("stale"))
        key = self.workspace.id_of(place)
        payload = {
            **self.common("block_actions", how, place=place),
            "container": {"type": "message", "message_ts": message.ts, "channel_id": key,
                          "is_ephemeral": False},
            "channel": {"id": key, "name": place.name}, "message": message.api(),
            "state": {"values": {}},
            "response_url": self.response_url("actions", how, place=place, message=message),
            "actions": [action_of(element, how)],
        }
        return self.interact("press", payload, how)

    def command(self, how):
        place = self.workspace.place_of(how.get("channel", "general"))
        person = self.person(how)
        fields = {
            "token": TOKEN, "team_id": person["team_id"], "team_domain": "stub",
            "channel_id": self.workspace.id_of(place), "channel_name": place.name,
            "user_id": person["id"], "user_name": person["name"], "command": how["command"],
            "text": how.get("text", ""), "api_app_id": self.workspace.app,
            "is_enterprise_install": "false",
            "response_url": self.response_url("commands", how, place=place),
            "trigger_id": self.workspace.tickets.trigger({"user": person["id"]}),
        }
        return self.send("command", urlencode(fields), FORM, how, place=place,
                         user=person["id"], **links(fields))

    def submit(self, how):
        view = self.view(how)
        payload = self.view_payload("view_submission", view, how)
        payload["view"]["state"] = {"values": state_of(view["view"], how.get("values") or {})}
        payload["response_urls"] = []
        return self.interact("submit", payload, how, view=view)

    def close_view(self, how):
        view = self.view(how)
        view["state"] = "closed"
        payload = {**self.view_payload("view_closed", view, how), "is_cleared": False}
        del payload["trigger_id"]
        return self.interact("close_view", payload, how)

    def shortcut(self, how):
        kind = "message_action" if "ts" in how else "shortcut"
        payload = {**self.common(kind, how), "callback_id": how["callback_id"],
                   "action_ts": f"{time.time():.6f}"}
        if "ts" in how:
            place, message = self.message(how)
            payload.update(
                channel={"id": self.workspace.id_of(place), "name": place.name},
                message=message.api(), message_ts=message.ts,
                response_url=self.response_url("actions", how, place=place, message=message))
        return self.interact("shortcut", payload, how)

    def event(self, how):
        now = int(time.time())
        payload = {
            "token": TOKEN, "team_id": self.workspace.team, "api_app_id": self.workspace.app,
            "event": {"user": self.person(how)["id"], "ts": f"{now}.000100",
                      "event_ts": f"{now}.000100", **how["event"]},
            "type": "event_callback", "event_id": how.get("event_id", f"Ev{len(self.done):010}"),
            "event_time": now, "is_ext_shared_channel": False,
            "authorizations": [{"enterprise_id": None, "team_id": self.workspace.team,
                                "user_id": self.workspace.user, "is_bot": True,
                                "is_enterprise_install": False}],
        }
        return self.send("event", json.dumps(payload), "application/json", how)

    def challenge(self, how):
        payload = {"token": TOKEN, "challenge": how.get("challenge", "3eZbrw1aB"),
                   "type": "url_verification"}
        return self.send("challenge", json.dumps(payload), "application/json", how)

    def ssl_check(self, how):
        return self.send("ssl_check", urlencode({"ssl_check": "1", "token": TOKEN}), FORM,
                         {**how, "secret": None})

    # ---- views ----

    def view(self, how):
        views = self.workspace.views
        if "view" in how:
            return next(each for each in views if each["id"] == how["view"])
        mine = self.person(how)["id"]
        return [each for each in views if each["user"] == mine and each["state"] == "open"][-1]

    def view_payload(self, kind, view, how):
        return {**self.common(kind, how), "view": dict(view["view"])}

    # ---- the request ----

    def interact(self, kind, payload, how, **context):
        body = urlencode({"payload": json.dumps(payload, ensure_ascii=False,
                                                separators=(",", ":"))})
        return self.send(kind, body, FORM, how, **context, **links(payload))

    def send(self, kind, body, content_type, how, **context):
        headers = {"Content-Type": content_type, "User-Agent": AGENT, "Accept": "*/*",
                   "Accept-Encoding": "gzip,deflate"}
        secret = how.get("secret", SIGNING_SECRET)
        if secret is not None:
            headers.update(signature(body, secret, int(how.get("at") or time.time())))
        key = len(self.done) + 1
        self.done[key] = {"kind": kind, **context}
        result = {"id": key, "body": body, "headers": headers,
                  **{name: context[name] for name in ("response_url", "trigger_id")
                     if name in context}}
        if how.get("to"):
            result.update(post(how["to"], body, headers))
            self.answered({**result, "id": key})
        return result

    def answered(self, how):
        """What becomes of the app's answer; Refused, as a ValueError, if it is none."""
        done = self.done[how["id"]]
        answer = how.get("answer")
        try:
            if how.get("status") != 200:
                raise Refused("operation_failed", f"status {how.get('status')}")
            TAKE.get(done["kind"], take_nothing)(self.workspace, done, answer)
        except Refused as refused:
            raise ValueError(f"{refused.code} {' '.join(refused.details)}") from None


def take_command(workspace, done, answer):
    message = respond_to_command(answer)
    if message:
        workspace.show_response(done, message)


def take_submission(_workspace, done, answer):
    view = done["view"]
    view["errors"] = None
    if answer in (None, "", {}):
        view["state"] = "submitted"
        return
    check_response_action(answer)
    action = answer["response_action"]
    if action == "errors":
        view["errors"] = answer["errors"]
    elif action == "clear":
        view["state"] = "submitted"
    else:
        view["view"] = {**view["view"], **answer["view"]}


def take_challenge(_workspace, _done, answer):
    if not isinstance(answer, dict) or not isinstance(answer.get("challenge"), str):
        raise Refused("challenge_failed")


def take_nothing(_workspace, _done, answer):
    """Slack shows nothing of it: an app that says something is mistaken."""
    if answer not in (None, "", {}):
        raise Refused("answer_ignored", json.dumps(answer))


TAKE = {"command": take_command, "submit": take_submission, "challenge": take_challenge}


def links(values):
    return {name: values[name] for name in ("response_url", "trigger_id") if name in values}


def action_of(element, how):
    action = {"action_id": element["action_id"], "block_id": element["block_id"],
              "type": element["type"], "action_ts": f"{time.time():.6f}"}
    for key in ("text", "value", "style", "url", "placeholder"):
        if key in element:
            action[key] = element[key]
    if "options" in element or "option_groups" in element:
        action["selected_option"] = option_of(element, how["option"])
    return action


def option_of(element, wanted):
    options = element.get("options") or [option for group in element["option_groups"]
                                         for option in group["options"]]
    for option in options:
        value = option["value"]
        if wanted in (value, option["text"]["text"]) or value.endswith(f":{wanted}"):
            return option
    raise KeyError(f"no option {wanted}")


def state_of(view, values):
    """The values of a view's inputs, as given, else as they began."""
    state = {}
    for block in view["blocks"]:
        if block["type"] != "input":
            continue
        element = block["element"]
        action = element.get("action_id", "a0")
        given = values.get(block["block_id"], {}).get(action, element.get("initial_value"))
        if "options" in element:
            value = {"selected_option": option_of(element, given) if given else None}
        else:
            value = {"value": given}
        state[block["block_id"]] = {action: {"type": element["type"], **value}}
    return state


def signature(body, secret, at):
    base = f"v0:{at}:{body}".encode()
    digest = hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": str(at), "X-Slack-Signature": f"v0={digest}"}


def post(url, body, headers):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                         urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(urllib.request.Request(url, body.encode(), headers), None,
                         PATIENCE) as answer:
            return read_posted(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        return read_posted(error.code, error.read())


def read_posted(status, body):
    text = body.decode("utf-8", "replace")
    try:
        return {"status": status, "answer": json.loads(text)}
    except ValueError:
        return {"status": status, "answer": text}


def private_of(messages):
    return [{**message, "shown": shown(message["text"], message["blocks"])}
            for message in messages]
