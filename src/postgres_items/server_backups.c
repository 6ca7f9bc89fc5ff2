/*
 * server_backups.c
 *		Items: the last backup and the last restore that was tried, as recorded
 *		with note_backup().
 *
 * A note that begins with "restore tested" is of a restore, all others are of
 * backups.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "postgres_items/server_looks.h"

#define OF_RESTORE "lower(what) LIKE 'restore tested%'"

/* Days.  Between base backups an archive of WAL has what is missing. */
#define BACKUP_DAYS			 2
#define BACKUP_DAYS_ARCHIVED 8
#define BACKUP_DAYS_FAIL	 30
#define RESTORE_DAYS		 90

typedef struct Note
{
	char *what; /* NULL: there is none */
	double seconds;
} Note;

static Note
read_note(EngineStatement *select)
{
	Note note = {0};
	Rows rows;

	rows_open(&rows, select, NO_ARGS);
	if (rows_next(&rows))
	{
		note.what = rows_text(&rows);
		note.seconds = rows_float8(&rows, 0);
	}
	rows_close(&rows);
	return note;
}

static double
backup_days(void)
{
	bool archived = strcmp(GetConfigOption("archive_mode", false, false),
						   "off") != 0;

	return archived ? BACKUP_DAYS_ARCHIVED : BACKUP_DAYS;
}

void
look_at_backup(Finding *finding)
{
	static EngineStatement select = {
		"SELECT what, EXTRACT(epoch FROM clock_timestamp() - at)::float8"
		" FROM stripe_sync.backup_note WHERE NOT " OF_RESTORE
		" ORDER BY at DESC LIMIT 1"};
	Note note = read_note(&select);
	double days = note.seconds / SECS_PER_DAY;

	if (note.what == NULL)
		finding_warn(finding, "no backup was ever recorded");
	else
	{
		char *words = psprintf("the last backup%s%s%s was made %s ago",
							   note.what[0] ? " (" : "", server_name(note.what),
							   note.what[0] ? ")" : "", words_age(note.seconds));

		finding_figure(finding, note.seconds, "s");
		if (days <= backup_days())
		{
			finding_ok(finding, "%s", words);
			return;
		}
		if (days <= BACKUP_DAYS_FAIL)
			finding_warn(finding, "%s", words);
		else
			finding_fail(finding, "%s", words);
	}
	finding_hint(finding,
				 "-- when a backup has been made\n"
				 "SELECT stripe_sync.note_backup(what => 'base backup');");
}

void
look_at_restore_test(Finding *finding)
{
	static EngineStatement select = {
		"SELECT what, EXTRACT(epoch FROM clock_timestamp() - at)::float8"
		" FROM stripe_sync.backup_note WHERE " OF_RESTORE
		" ORDER BY at DESC LIMIT 1"};
	Note note = read_note(&select);

	if (note.what == NULL)
		finding_warn(finding, "no restore of a backup was ever recorded");
	else
	{
		finding_figure(finding, note.seconds, "s");
		if (note.seconds <= RESTORE_DAYS * SECS_PER_DAY)
		{
			finding_ok(finding, "a restore was tried %s ago",
					   words_age(note.seconds));
			return;
		}
		finding_warn(finding, "the last restore was tried %s ago",
					 words_age(note.seconds));
	}
	finding_hint(finding,
				 "-- when a backup has been restored elsewhere\n"
				 "SELECT stripe_sync.note_backup(what => 'restore tested');");
}
