/*
 * template_parse.c
 *		Reads {{path or path | filter:argument}}, and says what is wrong.
 *
 * A template is read anew each time it is rendered: it is short, and an alert
 * is rare.  What is wrong with it is told when it is set up.
 */
#include "template.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#define SPACES " \t\r\n"

/* What stands between the braces, and where the reading is. */
typedef struct Parser
{
	const char *whole; /* the template, for positions */
	const char *at;
	const char *end;
} Parser;

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

/* Letters, digits, _ and -; "" where there are none. */
static char *
parse_name(Parser *parser)
{
	const char *begin = parser->at;

	while (parser->at < parser->end && is_name_character(*parser->at))
		parser->at++;
	return pnstrdup(begin, parser->at - begin);
}

static char *
parse_quoted(Parser *parser)
{
	const char *begin = parser->at + 1;
	const char *end = memchr(begin, '"', parser->end - begin);

	if (end == NULL)
		parse_fail(parser, parser->at, "unclosed quote",
				   "A key that holds other characters is quoted on both sides: "
				   "{{metadata.\"order id\"}}.");
	parser->at = end + 1;
	return pnstrdup(begin, end - begin);
}

/* A list of the path's parts, one at least. */
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

/* Skip the word "or", if it is the next. */
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

/* What follows a filter's colon: all up to the next filter, or the end. */
static char *
parse_argument(Parser *parser)
{
	const char *begin;
	const char *end;

	parser->at++;
	skip_spaces(parser);
	begin = parser->at;
	end = memchr(begin, '|', parser->end - begin);
	if (end == NULL)
		end = parser->end;
	parser->at = end;
	while (end > begin && strchr(SPACES, end[-1]) != NULL)
		end--;
	return pnstrdup(begin, end - begin);
}

/* An argument that is a path, read where it stands. */
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

static void
check_argument(Parser *parser, TemplateFilter *filter, const char *at)
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
}

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
		filter->argument = parse_argument(parser);
	check_argument(parser, filter, begin);
	skip_spaces(parser);
	return filter;
}

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
 * The next placeholder of the template "whole" after "from", and where it
 * begins and ends; NULL when there is none.  Raises 22023.
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

/* Raises 22023 when a template can't be rendered, whatever the event. */
void
template_check(const char *text)
{
	const char *end = text;
	const char *begin;

	if (strlen(text) > TEMPLATE_MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("template is longer than %d bytes", TEMPLATE_MAX_BYTES),
				 errhint("Slack shows 3,000 characters of a section: make it "
						 "shorter.")));
	while (template_next(text, end, &begin, &end) != NULL)
		CHECK_FOR_INTERRUPTS();
}

/* The same for every string in an alert's blocks. */
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
