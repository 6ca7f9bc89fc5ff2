/*
 * blocks.c
 *		A message as Slack takes it: text made safe and cut, and the payload
 *		with its blocks and its fallback text.
 *
 * Lengths are in characters (code points).  Slack's mrkdwn has things that must
 * not be cut in two: entities (&amp;), links and mentions (<...>).
 */
#include "blocks.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#define MAX_ENTITY	 8	  /* bytes, "&" and ";" included */
#define MAX_LINK	 4096 /* bytes, "<" and ">" included */
#define MAX_FALLBACK 4000 /* Slack advises no more of a text */
#define MAX_SECTION	 3000
#define MAX_STATUS	 2000
#define ELLIPSIS	 "…"

/* ---- what comes from outside ---- */

/* A character's bytes; never beyond the end, whatever the first one says. */
static int
character_length(const char *text)
{
	return Min(pg_utf_mblen((const unsigned char *) text),
			   (int) strnlen(text, 4));
}

/*
 * Characters that would break a line, or turn the reading direction of what
 * follows, so that a name could pass for part of our own text.
 */
static bool
is_control(const char *text, int length)
{
	pg_wchar c;

	if (length != pg_utf_mblen((const unsigned char *) text))
		return true; /* cut in two by whoever made the text */
	if (length == 1)
		return (unsigned char) *text < 0x20 || *text == 0x7F;
	c = utf8_to_unicode((const unsigned char *) text);
	return (c >= 0x80 && c <= 0x9F) || c == 0x061C || c == 0x200E ||
		   c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
		   (c >= 0x2066 && c <= 0x2069);
}

/* Text from outside, made fit for mrkdwn: on one line, meaning nothing. */
char *
blocks_escape(const char *text)
{
	StringInfoData out;
	int length;

	initStringInfo(&out);
	for (; *text != '\0'; text += length)
	{
		length = character_length(text);
		if (is_control(text, length))
			appendStringInfoChar(&out, ' ');
		else if (*text == '&')
			appendStringInfoString(&out, "&amp;");
		else if (*text == '<')
			appendStringInfoString(&out, "&lt;");
		else if (*text == '>')
			appendStringInfoString(&out, "&gt;");
		else
			appendBinaryStringInfo(&out, text, length);
	}
	return out.data;
}

/* ---- cutting ---- */

int
blocks_length(const char *text)
{
	int n = 0;

	for (; *text != '\0'; text += character_length(text))
		n++;
	return n;
}

/* Bytes of the link, mention or entity that begins at "text"; 0: it is none. */
static int
markup_length(const char *text)
{
	int limit = strnlen(text, *text == '<' ? MAX_LINK : MAX_ENTITY);
	const char *end = memchr(text, *text == '<' ? '>' : ';', limit);
	int length = end != NULL ? end + 1 - text : 0;

	if (*text == '<')
		return memchr(text, '\n', length) == NULL ? length : 0;
	return strspn(text + 1, "abcdefghijklmnopqrstuvwxyz") == length - 2 ? length
																		: 0;
}

/* Bytes of what stands at "text" and can't be cut. */
static int
piece_length(const char *text)
{
	int length = *text == '<' || *text == '&' ? markup_length(text) : 0;

	return length > 0 ? length : character_length(text);
}

/* Characters in so many bytes. */
static int
count_characters(const char *text, int bytes)
{
	const char *end = text + bytes;
	int n = 0;

	for (; text < end; text += character_length(text))
		n++;
	return n;
}

/* Cut to so many characters, the last of them "…" when anything is cut. */
char *
blocks_cut(const char *mrkdwn, int characters)
{
	const char *at = mrkdwn;
	int left = characters - 1;

	if (characters <= 0)
		return pstrdup("");
	if (blocks_length(mrkdwn) <= characters)
		return pstrdup(mrkdwn);
	for (;;)
	{
		int bytes = piece_length(at);

		left -= count_characters(at, bytes);
		if (left < 0)
			break;
		at += bytes;
	}
	return psprintf("%.*s" ELLIPSIS, (int) (at - mrkdwn), mrkdwn);
}

bool
blocks_is_blank(const char *text)
{
	return text[strspn(text, " \t\r\n")] == '\0';
}

/* ---- the fallback text ---- */

/*
 * Text without links: notifications show the label, or where there is none the
 * address.  Mentions stay, Slack alone can resolve them.
 */
static void
append_plain(StringInfo out, const char *piece, int bytes)
{
	const char *bar;

	if (*piece != '<' || bytes < 3 || strchr("@#", piece[1]) != NULL ||
		(piece[1] == '!' && strncmp(piece, "<!date^", 7) != 0))
	{
		appendBinaryStringInfo(out, piece, bytes);
		return;
	}
	bar = memchr(piece, '|', bytes);
	if (bar != NULL)
		appendBinaryStringInfo(out, bar + 1, piece + bytes - 1 - (bar + 1));
	else
		appendBinaryStringInfo(out, piece + 1, bytes - 2);
}

static char *
plain(const char *mrkdwn)
{
	StringInfoData out;
	int bytes;

	initStringInfo(&out);
	for (; *mrkdwn != '\0'; mrkdwn += bytes)
	{
		bytes = piece_length(mrkdwn);
		append_plain(&out, mrkdwn, bytes);
	}
	return out.data;
}

/* The first text in the blocks, in their order; NULL where there is none. */
static char *
first_text(JsonbContainer *container)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	char *text = json_get_string(container, "text");
	JsonbValue value;
	JsonbIteratorToken token;

	check_stack_depth();
	if (text != NULL && !blocks_is_blank(text))
		return text;
	text = NULL;
	(void) JsonbIteratorNext(&iterator, &value, true);
	while (text == NULL &&
		   (token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
		if ((token == WJB_VALUE || token == WJB_ELEM) && value.type == jbvBinary)
			text = first_text(value.val.binary.data);
	return text;
}

/* Never empty: Slack refuses a message without any text. */
static char *
fallback_text(const char *head, const MessageParts *parts)
{
	const char *text = parts->text;

	if (text == NULL || blocks_is_blank(text))
		text = parts->blocks ? first_text(&parts->blocks->root) : NULL;
	/* links become shorter, but nobody writes so many */
	text = plain(blocks_cut(text ? text : "", 4 * MAX_FALLBACK));
	if (blocks_is_blank(text))
		text = "A message without text";
	return blocks_cut(psprintf("%s%s", head, text), MAX_FALLBACK);
}

/* ---- the payload ---- */

static void
push_text(JsonbInState *state, JsonbIteratorToken token, const char *text)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	compat_push_jsonb(state, token, &value);
}

static void
push_key(JsonbInState *state, const char *key)
{
	push_text(state, WJB_KEY, key);
}

static void
push_string(JsonbInState *state, const char *key, const char *text)
{
	push_key(state, key);
	push_text(state, WJB_VALUE, text);
}

void
blocks_push_bool(JsonbInState *state, const char *key, bool boolean)
{
	JsonbValue value;

	push_key(state, key);
	value.type = jbvBool;
	value.val.boolean = boolean;
	compat_push_jsonb(state, WJB_VALUE, &value);
}

/*
 * Most of the text is other people's: "verbatim" keeps Slack from making links
 * and mentions of what merely looks like one.
 */
static void
push_mrkdwn(JsonbInState *state, const char *text)
{
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	push_string(state, "type", "mrkdwn");
	push_string(state, "text", text);
	blocks_push_bool(state, "verbatim", true);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

static void
push_section(JsonbInState *state, const char *text)
{
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	push_string(state, "type", "section");
	push_key(state, "text");
	push_mrkdwn(state, text);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

void
blocks_push_context(JsonbInState *state, const char *text)
{
	compat_push_jsonb(state, WJB_BEGIN_OBJECT, NULL);
	push_string(state, "type", "context");
	push_key(state, "elements");
	compat_push_jsonb(state, WJB_BEGIN_ARRAY, NULL);
	push_mrkdwn(state, text);
	compat_push_jsonb(state, WJB_END_ARRAY, NULL);
	compat_push_jsonb(state, WJB_END_OBJECT, NULL);
}

/* What the message begins with: how bad it is, or that it is over. */
static const char *
head_of(const MessageParts *parts)
{
	if (parts->resolved)
		return ":white_check_mark: *Resolved:* ";
	if (parts->severity == NULL)
		return "";
	if (strcmp(parts->severity, "critical") == 0)
		return ":rotating_light: ";
	if (strcmp(parts->severity, "warning") == 0)
		return ":warning: ";
	if (strcmp(parts->severity, "info") == 0)
		return ":information_source: ";
	return "";
}

/* The line below; blocks of the author's own can't be told to be resolved. */
static char *
status_line(const MessageParts *parts)
{
	const char *mark = "";

	if (parts->resolved && parts->blocks != NULL)
		mark = parts->status ? ":white_check_mark: "
							 : ":white_check_mark: *Resolved*";
	if (parts->status == NULL && mark[0] == '\0')
		return NULL;
	return blocks_cut(
		psprintf("%s%s", mark, parts->status ? parts->status : ""), MAX_STATUS);
}

static void
push_body(JsonbInState *state, const MessageParts *parts, const char *head,
		  BlocksRoom room)
{
	const char *text = parts->text;

	if (parts->blocks != NULL)
	{
		blocks_push_fitting(state, parts->blocks, room);
		return;
	}
	if (text == NULL || blocks_is_blank(text))
		text = "(none)";
	push_section(state, blocks_cut(psprintf("%s%s", head, text), MAX_SECTION));
}

/* The author's lines stay lines; what is in them means nothing to Slack. */
static char *
escape_lines(const char *text)
{
	StringInfoData out;

	initStringInfo(&out);
	for (;;)
	{
		int length = strcspn(text, "\n");

		appendStringInfoString(&out, blocks_escape(pnstrdup(text, length)));
		if (text[length] == '\0')
			return out.data;
		appendStringInfoChar(&out, '\n');
		text += length + 1;
	}
}

/* A message of the application's own: its text is plain, so it is escaped. */
Jsonb *
blocks_plain(const char *text, Jsonb *blocks)
{
	JsonbInState state = {0};

	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	push_string(&state, "text", blocks_cut(escape_lines(text), MAX_FALLBACK));
	if (blocks != NULL && !blocks_are_none(blocks))
	{
		push_key(&state, "blocks");
		compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
		blocks_push_fitting(&state, blocks, blocks_room);
		compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	}
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(state.result);
}

/* The payload of a message, within Slack's sizes whatever the parts are. */
Jsonb *
blocks_message(const MessageParts *given)
{
	MessageParts parts = *given;
	JsonbInState state = {0};
	const char *head = head_of(given);
	BlocksRoom room = blocks_room;
	char *status;

	if (parts.blocks != NULL && blocks_are_none(parts.blocks))
		parts.blocks = NULL;
	status = status_line(&parts);
	if (status != NULL)
	{
		room.blocks--;
		room.characters -= 2 * blocks_length(status) + BLOCKS_CONTEXT_SIZE;
	}
	compat_push_jsonb(&state, WJB_BEGIN_OBJECT, NULL);
	push_string(&state, "text", fallback_text(head, &parts));
	push_key(&state, "blocks");
	compat_push_jsonb(&state, WJB_BEGIN_ARRAY, NULL);
	push_body(&state, &parts, head, room);
	if (status != NULL)
		blocks_push_context(&state, status);
	compat_push_jsonb(&state, WJB_END_ARRAY, NULL);
	if (!parts.is_update) /* chat.update has no such arguments */
	{
		blocks_push_bool(&state, "unfurl_links", false);
		blocks_push_bool(&state, "unfurl_media", false);
	}
	compat_push_jsonb(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(state.result);
}
