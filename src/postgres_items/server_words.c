/*
 * server_words.c
 *		Names and hints that several items of the server print.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "postgres_items/server_looks.h"

/*
 * A name that another role has chosen, for a detail or a comment in a hint: a
 * line break in it would end the comment.
 */
char *
server_name(const char *name)
{
	char *clean = pnstrdup(name, pg_mbcliplen(name, strlen(name), NAMEDATALEN));

	for (char *p = clean; *p != '\0'; p++)
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = '?';
	return clean;
}

/* The statements that change a setting which a reload applies */
char *
server_setting_hint(const char *name, const char *value)
{
	return psprintf("ALTER SYSTEM SET %s = %s;\nSELECT pg_reload_conf();", name,
					value);
}

/* The value in the server's files, which a restart would apply */
static char *
preload_in_files(void)
{
	static EngineStatement select = {
		"SELECT setting FROM pg_file_settings"
		" WHERE name = 'shared_preload_libraries' AND error IS NULL"
		" ORDER BY seqno DESC LIMIT 1"};

	return statement_text(&select, NO_ARGS);
}

/*
 * How to preload a library.  Each name is a literal of its own: ALTER SYSTEM
 * would store 'a, b' as the name of one library, and the server would not start.
 */
char *
server_preload_hint(const char *library)
{
	char *value = preload_in_files();
	StringInfoData hint;
	List *names = NIL;
	ListCell *cell;

	if (value == NULL)
		value = pstrdup(
			GetConfigOption("shared_preload_libraries", false, false));
	if (!SplitDirectoriesString(value, ',', &names))
		names = NIL;
	initStringInfo(&hint);
	appendStringInfoString(&hint,
						   "ALTER SYSTEM SET shared_preload_libraries = ");
	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), library) == 0)
			return pstrdup("-- it is in the server's files: restart the server");
		appendStringInfo(&hint, "%s, ", quote_literal_cstr(lfirst(cell)));
	}
	appendStringInfo(&hint, "'%s';\n-- then restart the server", library);
	return hint.data;
}
