"""rules_newer.py: what Slack takes of tables, charts and cards."""

from rules_elements import check_element, check_image
from rules_words import bad, check_items, check_keys, check_string, check_text

MAX_CELL = 10000            # characters of a cell: those of all together
MAX_RICH = 100              # elements of a cell of rich text; not documented
MAX_SLICES = 6              # of a pie, and series of a chart


def check_cell(cell, at, kinds):
    if not isinstance(cell, dict) or cell.get("type") not in kinds:
        raise bad(f"must be one of {', '.join(kinds)}", at)
    if cell["type"] == "rich_text":
        check_items(cell.get("elements"), MAX_RICH, f"{at}/elements")
        return
    check_keys(cell, {"type", "text", "value"}, at)
    check_string(cell.get("text"), MAX_CELL, f"{at}/text")
    if cell["type"] == "raw_number":
        check_number(cell.get("value"), f"{at}/value")


def check_number(value, at):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise bad("must be a number", at)


def check_rows(rows, most, at, header):
    check_items(rows, most, at)
    for i, row in enumerate(rows):
        check_items(row, 20, f"{at}/{i}")
        for k, cell in enumerate(row):
            check_cell(cell, f"{at}/{i}/{k}",
                       header if i == 0 else ("raw_text", "raw_number", "rich_text"))


def check_table(block, at):
    check_rows(block.get("rows"), 100, f"{at}/rows", ("raw_text", "raw_number", "rich_text"))
    if block.get("column_settings") is not None:
        check_items(block["column_settings"], 20, f"{at}/column_settings")


def check_data_table(block, at):
    rows = block.get("rows")
    check_rows(rows, 101, f"{at}/rows", ("raw_text", "raw_number"))
    check_string(block.get("caption"), 2000, f"{at}/caption")
    if len(rows) < 2:
        raise bad("no less than 2 items allowed", f"{at}/rows")
    if len({len(row) for row in rows}) > 1:
        raise bad("all rows must have the same number of cells", f"{at}/rows")
    if not 1 <= block.get("page_size", 5) <= 100:
        raise bad("must be from 1 to 100", f"{at}/page_size")


def check_chart(block, at):
    check_string(block.get("title"), 50, f"{at}/title")
    chart = block.get("chart")
    if not isinstance(chart, dict) or chart.get("type") not in ("pie", "bar", "area", "line"):
        raise bad("unsupported type of chart", f"{at}/chart")
    if chart["type"] == "pie":
        check_points(chart.get("segments"), MAX_SLICES, f"{at}/chart/segments")
        if not all(segment["value"] > 0 for segment in chart["segments"]):
            raise bad("must be more than 0", f"{at}/chart/segments")
    else:
        check_plot(chart, f"{at}/chart")


def check_points(points, most, at):
    check_items(points, most, at)
    for i, point in enumerate(points):
        check_string(point.get("label"), 20, f"{at}/{i}/label")
        check_number(point.get("value"), f"{at}/{i}/value")


def check_plot(chart, at):
    axes = chart.get("axis_config") or {}
    categories = axes.get("categories")
    check_items(categories, 20, f"{at}/axis_config/categories")
    for i, name in enumerate(categories):
        check_string(name, 20, f"{at}/axis_config/categories/{i}")
    for key in ("x_label", "y_label"):
        if key in axes:
            check_string(axes[key], 50, f"{at}/axis_config/{key}")
    check_items(chart.get("series"), MAX_SLICES, f"{at}/series")
    for i, series in enumerate(chart["series"]):
        check_string(series.get("name"), 20, f"{at}/series/{i}/name")
        check_points(series.get("data"), 20, f"{at}/series/{i}/data")
        if sorted(point["label"] for point in series["data"]) != sorted(set(categories)):
            raise bad("labels must be the categories", f"{at}/series/{i}/data")
    if len({series["name"] for series in chart["series"]}) < len(chart["series"]):
        raise bad("names must differ", f"{at}/series")


def check_card(card, at):
    if not any(card.get(key) for key in ("hero_image", "title", "actions", "body")):
        raise bad("missing required field: hero_image, title, actions or body", at)
    for key, longest in (("title", 150), ("subtitle", 150), ("body", 200), ("subtext", 200)):
        if card.get(key) is not None:
            check_text(card[key], longest, f"{at}/{key}")
    for key in ("hero_image", "icon"):
        if card.get(key) is not None:
            check_image(card[key], f"{at}/{key}")
    if card.get("actions") is not None:
        check_items(card["actions"], 3, f"{at}/actions")
        for i, button in enumerate(card["actions"]):
            check_element(button, f"{at}/actions/{i}", {"button"})


def check_carousel(block, at):
    check_items(block.get("elements"), 10, f"{at}/elements")
    for i, card in enumerate(block["elements"]):
        if not isinstance(card, dict) or card.get("type") != "card":
            raise bad("must be a card", f"{at}/elements/{i}")
        check_card(card, f"{at}/elements/{i}")


def check_alert(block, at):
    check_text(block.get("text"), 200, f"{at}/text")
