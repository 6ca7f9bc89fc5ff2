"""rules_views.py: which modals Slack opens.  See rules.py."""

import json

from rules import check_blocks
from rules_words import Refused, bad, check_keys, check_string, check_text

MAX_VIEW = 250 * 1000       # bytes of the whole
MAX_VIEW_BLOCKS = 100
KEYS = {"type", "title", "blocks", "close", "submit", "private_metadata", "callback_id",
        "clear_on_close", "notify_on_close", "external_id", "submit_disabled"}


def check_view(view):
    """Raises Refused unless it could be opened."""
    if not isinstance(view, dict):
        raise Refused("invalid_arguments", "must be an object [json-pointer:/view]")
    if len(json.dumps(view, ensure_ascii=False).encode()) > MAX_VIEW:
        raise Refused("view_too_large")
    try:
        check_modal(view)
    except Refused as refused:
        raise Refused("invalid_arguments", *(each.replace("json-pointer:", "json-pointer:/view")
                                             for each in refused.details)) from None


def check_modal(view):
    check_keys(view, KEYS, "")
    if view.get("type") != "modal":
        raise bad("must be modal", "/type")
    check_text(view.get("title"), 24, "/title", ("plain_text",))
    for key in ("close", "submit"):
        if view.get(key) is not None:
            check_text(view[key], 24, f"/{key}", ("plain_text",))
    for key, longest in (("private_metadata", 3000), ("callback_id", 255), ("external_id", 255)):
        if view.get(key):
            check_string(view[key], longest, f"/{key}")
    check_blocks(view.get("blocks"), MAX_VIEW_BLOCKS)
    if any(block["type"] == "input" for block in view["blocks"]) and view.get("submit") is None:
        raise bad("a view with input blocks needs submit", "/submit")


def check_response_action(answer):
    """What may be said to a view's submission in the call itself."""
    if not isinstance(answer, dict):
        raise Refused("invalid_arguments", "must be an object")
    action = answer.get("response_action")
    if action in ("update", "push"):
        check_view(answer.get("view"))
    elif action == "errors":
        errors = answer.get("errors")
        if not isinstance(errors, dict) or not errors or \
                not all(isinstance(each, str) for each in errors.values()):
            raise Refused("invalid_arguments", "errors: block_id and text")
    elif action != "clear":
        raise Refused("invalid_arguments", "response_action: errors, update, push or clear")
