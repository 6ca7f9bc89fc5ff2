/*
 * template_parse.c
 *		Parses placeholders: {{path or path | filter:argument}}.
 *
 * A template is parsed when it is set up, where an error is raised with its
 * position, and again each time that it is rendered: it is short, and alerts are
 * rare.
 *
 *	placeholder	{{ path [or path]... [| filter]... }}
 *	path		part[.part]...
 *	part		letters, digits, _ and -, or any characters in double quotes
 *	filter		name[:argument], an argument ends at the next | or }}
 *
 * In the argument of "map" a | in double quotes does not end it (template_map.c).
 *
 * Text outside of placeholders is copied as it is.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "base/compat.h"
#include "message/message.h"
#include "message/internal.h"

#define SPACES " \t\r\n"

/* The text between the braces, and the position in it */
typedef struct Parser
{
	const char *whole; /* the template, for positions */
	const char *at;
	const char *end;
} Parser;

/* Raises 22023 with the position of "at"; a NULL hint is the general one. */
compat_noreturn static void parse_fail(const Parser *parser, const char *at,
									   const char *what, const char *hint);

static void
parse_fail(const Parser *parser, const char *at, const char *what,
		   const char *hint)
{
	int position = pg_mbstrlen_with_len(parser->whole, at - parser->whole) + 1;

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("template: %s at character %d", what, position),
			 errhint("%s", hint ? hint
								: "A placeholder looks like {{customer.email or "
								  "customer}} or {{amount_due | money}}.")));
}

static void
skip_spaces(Parser *parser)
{
	while (parser->at < parser->end && strchr(SPACES, *parser->at) != NULL)
		parser->at++;
}

static bool
is_name_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		   (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* Letters, digits, _ and -; "" if there are none. */
static char *
parse_name(Parser *parser)
{
	const char *begin = parser->at;

	while (parser->at < parser->end && is_name_character(*parser->at))
		parser->at++;
	return pnstrdup(begin, parser->at - begin);
}

/* A quoted part of a path; a quote can't be part of it. */
static char *
parse_quoted(Parser *parser)
{
	const char *begin = parser->at + 1;
	const char *end = memchr(begin, '"', parser->end - begin);

	if (end == NULL)
		parse_fail(parser, parser->at, "unclosed quote",
				   "Quote a key with other characters on both sides: "
				   "{{metadata.\"order id\"}}.");
	parser->at = end + 1;
	return pnstrdup(begin, end - begin);
}

/* The parts of a path, at least one. */
static List *
parse_path(Parser *parser)
{
	List *path = NIL;

	skip_spaces(parser);
	for (;;)
	{
		bool quoted = parser->at < parser->end && *parser->at == '"';
		char *part = quoted ? parse_quoted(parser) : parse_name(parser);

		if (part[0] == '\0' && !quoted)
			parse_fail(parser, parser->at,
					   path == NIL ? "a path is missing"
								   : "a path has an empty part",
					   NULL);
		path = lappend(path, part);
		if (parser->at >= parser->end || *parser->at != '.')
			return path;
		parser->at++;
	}
}

/* Returns true, and moves on, if the next word is "or". */
static bool
parse_or(Parser *parser)
{
	skip_spaces(parser);
	if (parser->end - parser->at < 2 || strncmp(parser->at, "or", 2) != 0 ||
		(parser->end - parser->at > 2 && is_name_character(parser->at[2])))
		return false;
	parser->at += 2;
	return true;
}

/* Where the next filter, or the end, is.  In a map it is not in double quotes. */
static const char *
argument_end(const Parser *parser, bool is_map)
{
	bool quoted = false;

	for (const char *p = parser->at; p < parser->end; p++)
	{
		if (is_map && *p == '"')
			quoted = !quoted;
		else if (*p == '|' && !quoted)
			return p;
	}
	return parser->end;
}

/* The text after a filter's colon, up to the next filter or the end. */
static char *
parse_argument(Parser *parser, bool is_map)
{
	const char *begin;
	const char *end;

	parser->at++;
	skip_spaces(parser);
	begin = parser->at;
	end = argument_end(parser, is_map);
	parser->at = end;
	while (end > begin && strchr(SPACES, end[-1]) != NULL)
		end--;
	return pnstrdup(begin, end - begin);
}

/* The argument at "begin", a colon, parsed as a path. */
static List *
argument_path(Parser *parser, const char *begin)
{
	Parser argument = {parser->whole, begin + 1, parser->at};
	List *path = parse_path(&argument);

	skip_spaces(&argument);
	if (argument.at < argument.end)
		parse_fail(parser, argument.at, "a path ends unexpectedly", NULL);
	return path;
}

/* The argument as a map; raises 22023. */
static List *
argument_map(Parser *parser, const char *argument, const char *at)
{
	const char *error = NULL;
	List *map = template_map_parse(argument ? argument : "", &error);

	if (error != NULL)
		parse_fail(parser, at, psprintf("filter \"map\": %s", error),
				   "Write {{status | map:won=Won;lost=Lost;*=Other}}. A key or "
				   "text with ; = or | is put in double quotes.");
	return map;
}

/* Does the filter take the argument that it has? */
static void
check_filter_argument(Parser *parser, TemplateFilter *filter, const char *at)
{
	const TemplateFilterKind *kind = filter->kind;

	if (kind->argument == ARGUMENT_NONE && filter->argument != NULL)
		parse_fail(parser, at,
				   psprintf("filter \"%s\" takes no argument", kind->name),
				   psprintf("Write {{path | %s}}.", kind->name));
	if (kind->argument == ARGUMENT_TEXT && filter->argument == NULL)
		parse_fail(parser, at,
				   psprintf("filter \"%s\" needs an argument", kind->name),
				   psprintf("Write {{path | %s:some text}}.", kind->name));
	if (kind->argument == ARGUMENT_PATH && filter->argument != NULL)
		filter->path = argument_path(parser, at);
	if (kind->argument == ARGUMENT_MAP)
		filter->map = argument_map(parser, filter->argument, at);
}

/* A filter, at its "|" */
static TemplateFilter *
parse_filter(Parser *parser)
{
	TemplateFilter *filter = palloc0(sizeof(TemplateFilter));
	const char *begin;
	char *name;

	parser->at++;
	skip_spaces(parser);
	begin = parser->at;
	name = parse_name(parser);
	filter->kind = template_filter_kind(name);
	if (filter->kind == NULL)
		parse_fail(parser, begin,
				   name[0] ? psprintf("unknown filter \"%s\"", name)
						   : "a filter is missing",
				   psprintf("Filters are %s: {{amount_due | money}}.",
							template_filter_names()));
	skip_spaces(parser);
	begin = parser->at;
	if (parser->at < parser->end && *parser->at == ':')
		filter->argument = parse_argument(parser, filter->kind->argument ==
													  ARGUMENT_MAP);
	check_filter_argument(parser, filter, begin);
	skip_spaces(parser);
	return filter;
}

/* All that is between the braces. */
static TemplatePlaceholder *
parse_placeholder(Parser *parser)
{
	TemplatePlaceholder *placeholder = palloc0(sizeof(TemplatePlaceholder));

	do
		placeholder->paths = lappend(placeholder->paths, parse_path(parser));
	while (parse_or(parser));
	while (parser->at < parser->end && *parser->at == '|')
		placeholder->filters = lappend(placeholder->filters,
									   parse_filter(parser));
	if (parser->at < parser->end)
		parse_fail(parser, parser->at, "a placeholder ends unexpectedly",
				   "Alternatives are joined by or, filters by |: "
				   "{{customer.name or customer | upper}}. A key that holds "
				   "other characters is quoted: {{metadata.\"order id\"}}.");
	return placeholder;
}

/*
 * The next placeholder of the template "whole" after "from", and in *begin and
 * *end where its braces begin and end; NULL if there is none.  Raises 22023 for
 * a syntax error.
 */
TemplatePlaceholder *
template_next(const char *whole, const char *from, const char **begin,
			  const char **end)
{
	Parser parser = {whole};

	*begin = strstr(from, "{{");
	if (*begin == NULL)
		return NULL;
	parser.at = *begin + 2;
	parser.end = strstr(parser.at, "}}");
	if (parser.end == NULL)
		parse_fail(&parser, *begin, "unclosed {{", NULL);
	*end = parser.end + 2;
	return parse_placeholder(&parser);
}

/* Raises 22023 if the template has a syntax error or is too long. */
void
template_check(const char *text)
{
	const char *end = text;
	const char *begin;

	if (strlen(text) > TEMPLATE_MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("template is longer than %d bytes", TEMPLATE_MAX_BYTES),
				 errhint("Slack shows 3,000 characters of a section at most.")));
	while (template_next(text, end, &begin, &end) != NULL)
		CHECK_FOR_INTERRUPTS();
}

/* The same for every string in a user's blocks. */
void
template_check_blocks(Jsonb *blocks)
{
	JsonbIterator *iterator = JsonbIteratorInit(&blocks->root);
	JsonbValue value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
		if ((token == WJB_VALUE || token == WJB_ELEM) && value.type == jbvString)
			template_check(pnstrdup(value.val.string.val, value.val.string.len));
}
