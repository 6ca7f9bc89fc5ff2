"""methods.py: methods of the Web API that are not about messages: views, user groups."""

import hashlib
import json
import re
import time

from http11 import read_json
from rules import Refused
from rules_views import check_view

GROUP = re.compile(r"S[A-Z0-9]{2,}")


def open_view(workspace, arguments, _token):
    view = arguments.get("view")
    if isinstance(view, str):
        view = read_json(view.encode())
    key = arguments.get("trigger_id")
    if not isinstance(key, str) or not key:
        raise Refused("invalid_arguments", "missing required field: trigger_id")
    check_view(view)
    if view.get("external_id") and any(each["view"].get("external_id") == view["external_id"]
                                       for each in workspace.views):
        raise Refused("duplicate_external_id")
    context = workspace.tickets.exchange(key)
    opened = {"id": f"V{len(workspace.views):09}", "user": context["user"], "state": "open",
              "errors": None}
    opened["view"] = as_opened(workspace, opened["id"], view)
    workspace.views.append(opened)
    return {"view": opened["view"]}


def as_opened(workspace, key, view):
    """As Slack tells it from then on."""
    blocks = [{"block_id": f"b{i}", **block} for i, block in enumerate(view["blocks"])]
    return {
        "private_metadata": "", "callback_id": "", "external_id": "", "close": None,
        "submit": None, "clear_on_close": False, "notify_on_close": False,
        "submit_disabled": False, **view, "blocks": blocks, "id": key,
        "team_id": workspace.team, "state": {"values": {}}, "previous_view_id": None,
        "hash": f"{int(time.time())}.{hashlib.sha1(json.dumps(view).encode()).hexdigest()[:8]}",
        "root_view_id": key, "app_id": workspace.app, "bot_id": workspace.bot,
        "app_installed_team_id": workspace.team,
    }


def list_group(workspace, arguments, _token):
    group = arguments.get("usergroup")
    if not workspace.paid:
        raise Refused("plan_upgrade_required")
    if not isinstance(group, str) or not GROUP.fullmatch(group):
        raise Refused("invalid_arguments", "missing required field: usergroup")
    if group not in workspace.groups:
        raise Refused("no_such_subteam")
    return {"users": workspace.groups[group]}


# name: (its function, the scope that it wants)
METHODS = {"views.open": (open_view, None),
           "usergroups.users.list": (list_group, "usergroups:read")}
